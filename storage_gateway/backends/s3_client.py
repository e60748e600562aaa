"""Requests to one S3 bucket: signed, bounded in time, tried again here and nowhere else.

Our own, on aiohttp; decision 0018 has the figures. An answer that a store has to understand is
returned, every other one is an error of ours.
"""

import asyncio
import base64
import errno
import hashlib
import math
import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus

import aiohttp
from aiohttp import hdrs
from yarl import URL

from crypto import Secret
from storage_gateway.errors import BackendUnavailable, StorageFull
from storage_gateway.raising import fresh

from .allowance import Allowance
from .s3_answers import NO_SUCH_KEY, Fault, FaultKind, error_code, fault_of
from .s3_body import Body, Content, digest_of
from .s3_signature import UNSIGNED_PAYLOAD, Credentials, Signer, query_string, quoted
from .spool import Spool

ATTEMPTS_MAX = 4
RETRY_S_FIRST = 0.1
"""How long the first retry waits at most; each further one up to twice as long."""
RETRY_SHARE = 0.1
"""Of the traffic that may be retries: a store in trouble is not asked more and more."""
RETRIES_SAVED_MAX = 10.0
ANSWER_BYTES_MAX = 64 << 10
"""Of an answer that nobody asked to be longer."""

_NO_BODY = hashlib.sha256().hexdigest()


@dataclass(frozen=True, slots=True)
class Proxy:
    """What requests go through: by CONNECT where TLS protects them, else as they are."""

    url: str
    """Without user and password."""
    credentials: Secret | None = field(default=None, repr=False)
    """``USER:PASSWORD``."""

    def headers(self) -> dict[str, str]:
        """Return what the proxy wants to know."""
        if self.credentials is None:
            return {}
        basic = base64.b64encode(self.credentials.expose()).decode()
        return {hdrs.PROXY_AUTHORIZATION: f"Basic {basic}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """Where a bucket is, who asks, and how long is waited for it. Times are seconds."""

    name: str
    """The store's name."""
    endpoint: str
    """``https://HOST[:PORT]``. With ``http`` bodies are signed: nothing else protects them."""
    region: str
    bucket: str
    credentials: Credentials = field(repr=False)
    path_style: bool = True
    """The bucket is in the path, not in the host's name."""
    proxy: Proxy | None = None
    connect_s: float = 5.0
    idle_s: float = 15.0
    """How long an answer may pause, or not begin."""
    attempt_s: float = 30.0
    deadline_s: float = 60.0
    """For an operation with all its attempts."""
    connections_max: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for."""

    method: str
    """Not HEAD: no answer to it tells a missing object from a missing bucket."""
    key: str = ""
    """Of the object; without one it is about the bucket."""
    query: Mapping[str, str] = field(default_factory=dict)
    body: Content | None = field(default=None, repr=False)
    byte_range: tuple[int, int] | None = None
    """Offset and size of what is wanted of the object."""
    answer_bytes_max: int = ANSWER_BYTES_MAX
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent beside those that are signed: none of them begins with ``x-amz-``."""
    answers: frozenset[int] = frozenset()
    """Statuses that are answers to this request, beside those that are to every one."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What S3 said: done (2xx), no such object (404), nothing in that range (416), or what else
    the request takes for an answer.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class S3Client:
    """Sends requests about one bucket. Made on the event loop that it is used on."""

    def __init__(
        self,
        settings: S3Settings,
        *,
        clock: Callable[[], datetime],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """``clock`` tells the time in UTC; ``tls`` says whom to trust, if not the usual ones."""
        self.settings = settings
        self._clock = clock
        self._signer = Signer(settings.credentials, settings.region)
        self._retries = Allowance(share=RETRY_SHARE, saved_max=RETRIES_SAVED_MAX)
        scheme, _, host = settings.endpoint.rstrip("/").partition("://")
        self._signs_bodies = scheme != "https"
        self._host = host if settings.path_style else f"{settings.bucket}.{host}"
        self._root = f"/{quoted(settings.bucket)}" if settings.path_style else ""
        self._base = f"{scheme}://{self._host}"
        self._proxy = None if settings.proxy is None else settings.proxy.url
        # aiohttp sends these with CONNECT only.
        self._proxy_headers = {} if settings.proxy is None else settings.proxy.headers()
        self.answered_s = -math.inf
        """When it was last answered, by the monotonic clock."""
        self.calls = 0
        """What was asked for so far."""
        self.attempts = 0
        """Requests that were begun for it, each retry counted."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=settings.connections_max, ssl=tls or True),
            # An attempt as a whole has a limit of its own, which covers the sending too.
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=settings.connect_s, sock_read=settings.idle_s
            ),
            headers={"Accept-Encoding": "identity", "User-Agent": "storage-gateway"},
            skip_auto_headers=("Accept", "Content-Type"),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=[_send_once],
            trust_env=False,  # a proxy is a setting, and no accident of the environment
        )

    async def close(self) -> None:
        """Close all connections; what is under way is broken off."""
        await self._session.close()

    def deadline(self) -> float:
        """Return when an operation that begins now must be done, by the event loop's clock."""
        return asyncio.get_running_loop().time() + self.settings.deadline_s

    async def call(self, request: Request, *, until_s: float | None = None) -> Answer:
        """Send a request, again where that may help; return the answer.

        ``until_s`` is the `deadline` of an operation that began before this call.

        Raises:
            StorageFull, BackendUnavailable

        """
        self.calls += 1
        until_s = until_s or self.deadline()
        digest = await self._digest(request.body, until_s)
        fault = Fault(
            FaultKind.TRANSIENT, f"did not answer within {self.settings.deadline_s:g} seconds"
        )
        self._retries.earn()
        clock = asyncio.get_running_loop().time
        for attempt in range(ATTEMPTS_MAX):
            if attempt > 0:
                wait_s = RETRY_S_FIRST * 2 ** (attempt - 1) * secrets.randbelow(1000) / 1000
                if clock() + wait_s >= until_s or not self._retries.spend():
                    break
                await asyncio.sleep(wait_s)
            if clock() >= until_s:
                break  # a small request would be sent whole before its time is seen to be up
            try:
                return await self._attempt(request, digest, until_s)
            except _FailedError as failed:
                if clock() >= until_s:
                    break  # what went wrong before tells more than that there was no more time
                fault = failed.fault
                if fault.kind is not FaultKind.TRANSIENT:
                    break
        if fault.kind is FaultKind.FULL:
            raise StorageFull(f"no space left in store {self.settings.name}")
        raise self.unavailable(fault.text)

    def unavailable(self, text: str) -> BackendUnavailable:
        """Return an error that says what is wrong, not where the store is: clients see it."""
        return BackendUnavailable(f"store {self.settings.name} {text}")

    async def _digest(self, body: Content | None, until_s: float) -> str:
        if body is None:
            return _NO_BODY
        if not self._signs_bodies:
            return UNSIGNED_PAYLOAD
        if not isinstance(body, Spool):
            return await digest_of(body)
        try:
            async with asyncio.timeout_at(until_s):
                return await digest_of(body)
        except TimeoutError:
            raise self.unavailable("waited for the gateway's own disk") from None

    async def _attempt(self, request: Request, digest: str, until_s: float) -> Answer:
        path = f"{self._root}/{quoted(request.key, safe='/')}"
        query = query_string(request.query)
        headers = self._signer.headers(
            request.method,
            host=self._host,
            path=path,
            query=query,
            digest=digest,
            now=self._clock(),
        )
        headers.update(request.headers)
        if request.byte_range is not None:
            offset, size = request.byte_range
            headers["range"] = f"bytes={offset}-{offset + size - 1}"
        if self._signs_bodies:  # no TLS: the proxy reads the request itself
            headers.update(self._proxy_headers)
        body = None if request.body is None else Body(request.body)
        self.attempts += 1
        attempt_until_s = asyncio.get_running_loop().time() + self.settings.attempt_s
        try:
            async with (
                asyncio.timeout_at(min(attempt_until_s, until_s)),
                self._session.request(
                    request.method,
                    URL(f"{self._base}{path}{'?' if query else ''}{query}", encoded=True),
                    headers=headers,
                    data=body,
                    allow_redirects=False,  # a signature is for one host
                    proxy=self._proxy,
                    proxy_headers=self._proxy_headers,
                ) as response,
            ):
                answer = await _read(response, request)
                self.answered_s = time.monotonic()
                return answer
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            _abort(body)
            if body is not None and body.failure is not None:
                raise fresh(body.failure) from None
            error.__traceback__ = None  # this frame's answer holds it; see `raising`
            raise _FailedError(_fault_without_answer(error)) from None
        except asyncio.CancelledError:
            _abort(body)
            raise


class _BrokenOffError(aiohttp.ClientError):
    """The connection broke before the answer began."""


async def _send_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a request again by itself, which it does after these two errors:
    in trouble a server would get up to twice as many as the allowance of retries lets through.
    """
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise  # never sent again, and the only one that says why
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
        raise _BrokenOffError from None


def _abort(body: Body | None) -> None:
    # A connection is closed once all is sent, to a server that hangs never: not what is given up.
    if body is not None and body.transport is not None:
        body.transport.abort()


def _fault_without_answer(error: Exception) -> Fault:
    if isinstance(error, TimeoutError):
        return Fault(FaultKind.TRANSIENT, "did not answer in time")
    if isinstance(error, aiohttp.ClientSSLError):
        said = "could not show that it is the one: look at its certificate"
        return Fault(FaultKind.PERMANENT, said)
    if isinstance(error, aiohttp.ClientConnectorError):
        reason = errno.errorcode.get(error.os_error.errno or 0, "no address")
        through = " through its proxy" * isinstance(error, aiohttp.ClientProxyConnectionError)
        return Fault(FaultKind.TRANSIENT, f"cannot be reached{through} ({reason})")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        ours = error.status < HTTPStatus.INTERNAL_SERVER_ERROR
        kind = FaultKind.PERMANENT if ours else FaultKind.TRANSIENT
        return Fault(kind, f"cannot be reached: its proxy answered {error.status}")
    return Fault(FaultKind.TRANSIENT, "broke the connection off")


async def _read(response: aiohttp.ClientResponse, request: Request) -> Answer:
    done = HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES
    size_max = request.answer_bytes_max if done else ANSWER_BYTES_MAX
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > size_max:
            if done:
                said = "answered more than it was asked for"
                raise _FailedError(Fault(FaultKind.PERMANENT, said))
            break  # enough to know what is wrong
        pieces.append(piece)
    body = b"".join(pieces)
    code = "" if done else error_code(body)
    missing = response.status == HTTPStatus.NOT_FOUND and code == NO_SUCH_KEY
    past_end = response.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    if done or missing or past_end or response.status in request.answers:
        return Answer(response.status, response.headers, body)
    raise _FailedError(fault_of(response.status, code))


class _FailedError(Exception):
    """An attempt failed."""

    def __init__(self, fault: Fault) -> None:
        super().__init__()
        self.fault = fault
