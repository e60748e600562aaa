"""Calls to an IPFS node, by the RPC of Kubo. Source: docs.ipfs.tech/reference/kubo/rpc

Every call has a deadline, and one that is given up closes its connection, which ends it at the
node. An answer is read to its end: what went wrong after its beginning is in there, or is missing
from it. So nothing counts as done that the answer does not say was done.
"""

import asyncio
import json
import math
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from crypto import Secret
from storage_gateway.errors import BackendUnavailable
from urn import CID

ANSWER_BYTES_MAX = 64 << 10
"""Of an answer that nobody asked to be longer."""
TEXT_MAX = 128
"""Characters of what a node says of itself."""
_BOUNDARY = "storage-gateway-car"
_FORM_HEAD = (
    f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="payload.car"\r\n'
    "Content-Type: application/vnd.ipld.car\r\n\r\n"
).encode()
_FORM_END = f"\r\n--{_BOUNDARY}--\r\n".encode()

Pieces = Callable[[], AsyncIterator[bytes]]
"""Makes the bytes of a body anew for each attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KuboSettings:
    """Where a node is, who asks, and how long is waited for it. Times are seconds."""

    name: str
    """The store's name."""
    api: str
    """``http://HOST:PORT`` or ``https://…``: of the RPC, not of the gateway."""
    authorization: Secret | None = field(default=None, repr=False)
    """The value of the header, if the node asks for one."""
    connect_s: float = 5.0
    idle_s: float = 30.0
    """How long an answer may pause, or not begin: an import is pinned before it is answered."""
    deadline_s: float = 60.0
    """For a call as a whole."""
    connections_max: int = 32
    fill_max: float = 0.9
    """The share of what the node is set to store at most, with which nothing more is sent to it."""


@dataclass(frozen=True, slots=True)
class Storage:
    """What a node stores, and what it is set to store at most, in bytes; None: it has no limit."""

    used: int
    limit: int | None


NO_LIMIT = (1 << 64) - 1
"""Kubo's word for it. Source: github.com/ipfs/kubo core/corerepo/stat.go"""


_NOT_FOUND = ("could not find", "not found", "ENOENT")
"""In what Kubo (ipld.ErrNotFound; "block was not found locally") and js-ipfs say of a block that
they do not have, and of nothing else that may be wrong with it."""


class Refused(Exception):
    """The node answered that it cannot or will not; ``message`` is its own text, never shown."""

    def __init__(self, message: str) -> None:
        super().__init__()
        self.message = message


class KuboClient:
    """Asks one node. Made on the event loop that it is used on."""

    def __init__(self, settings: KuboSettings, *, tls: ssl.SSLContext | None = None) -> None:
        """``tls`` says whom to trust, if not the usual ones."""
        self.settings = settings
        self.answered_s = -math.inf
        """When it last answered anything, by the monotonic clock."""
        # What a node answers is not compressed: a few bytes must not become many.
        headers = {"User-Agent": "storage-gateway", "Accept-Encoding": "identity"}
        if settings.authorization is not None:
            headers["Authorization"] = settings.authorization.expose().decode()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=settings.connections_max, ssl=tls or True),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=settings.connect_s, sock_read=settings.idle_s
            ),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close all connections; what is under way is broken off."""
        await self._session.close()

    def unavailable(self, text: str) -> BackendUnavailable:
        """Return an error that says what is wrong, not where the node is: clients see it."""
        return BackendUnavailable(f"store {self.settings.name} {text}")

    async def identify(self) -> tuple[str, str]:
        """Return the node's own id, and what it says that it is: printable, and not long.

        Raises:
            BackendUnavailable

        """
        said = self._object(await self._tell("id", {}))
        return _printable(said.get("ID")), _printable(said.get("AgentVersion"))

    async def storage(self) -> Storage:
        """Return what it stores, and may store.

        Raises:
            BackendUnavailable

        """
        said = self._object(await self._tell("repo/stat", {"size-only": "true"}))
        try:
            # Kubo says numbers, js-ipfs texts.
            used, limit = int(said["RepoSize"]), int(said["StorageMax"])
        except (KeyError, TypeError, ValueError):
            raise self.unavailable("does not say what it stores") from None
        return Storage(used, None if limit in (0, NO_LIMIT) else limit)

    async def block(self, cid: CID, *, size_max: int) -> bytes:
        """Return a block that the node has; it does not ask others for it.

        Raises:
            Refused: it does not have it.
            BackendUnavailable: also where it cannot read it.

        """
        args = {"arg": str(cid), "offline": "true"}
        try:
            return await self._call("block/get", args, size_max=size_max)
        except Refused as refused:
            if any(words in refused.message for words in _NOT_FOUND):
                raise
            raise self.unavailable("cannot read a block") from None

    async def is_pinned(self, cid: CID) -> bool:
        """Tell whether the node keeps all that is below a root, for the root's own sake.

        Raises:
            BackendUnavailable

        """
        try:
            answer = await self._call("pin/ls", {"arg": str(cid), "type": "recursive"})
        except Refused as refused:
            if "not pinned" in refused.message:
                return False
            raise self.unavailable("cannot tell what is pinned") from None
        keys = self._object(answer).get("Keys")
        if not isinstance(keys, Mapping) or len(keys) != 1:
            raise self.unavailable("answered what is pinned with something else")
        return True

    async def roots(self) -> AsyncGenerator[str]:
        """Yield the roots of all that the node keeps, whosever they are, in no order.

        Raises:
            BackendUnavailable

        """
        args = {"type": "recursive", "stream": "true", "cid-base": "base32"}
        try:
            async with self._post("pin/ls", args) as response:
                if response.status != HTTPStatus.OK:
                    raise self.unavailable(f"answered {response.status} to pin/ls")
                async for line in response.content:
                    self.answered_s = time.monotonic()
                    root = self._object(line).get("Cid")
                    if not isinstance(root, str):
                        raise self.unavailable("answered what is pinned with something else")
                    yield root
        except TimeoutError:
            raise self.unavailable("did not answer in time") from None
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:
            raise self.unavailable(f"cannot be asked ({type(error).__name__})") from None

    async def small_block(self, cid: CID, *, size_max: int) -> bytes | None:
        """Return a block that the node has and that is that small; None if it is not.

        Raises:
            BackendUnavailable

        """
        args = {"arg": str(cid), "offline": "true"}
        try:
            size = self._object(await self._call("block/stat", args)).get("Size")
            if not isinstance(size, int) or size > size_max:
                return None
            return await self._call("block/get", args, size_max=size_max)
        except Refused:
            return None

    async def unpin(self, cid: CID) -> None:
        """Let the node forget a root, that is pinned or is not.

        Raises:
            BackendUnavailable

        """
        try:
            answer = await self._call("pin/rm", {"arg": str(cid), "recursive": "true"})
        except Refused as refused:
            if "not pinned" in refused.message:
                return
            raise self.unavailable("does not remove a pin") from None
        if not self._object(answer).get("Pins"):
            raise self.unavailable("does not say that it removed a pin")

    async def import_car(self, root: CID, pieces: Pieces) -> None:
        """Have the node take an archive and pin its root, with all that is below it.

        Raises:
            BackendUnavailable: whether it did is then unknown.

        """

        async def form() -> AsyncIterator[bytes]:
            yield _FORM_HEAD
            async for piece in pieces():
                yield piece
            yield _FORM_END

        args = {"pin-roots": "true", "offline": "true"}
        try:
            answer = await self._call("dag/import", args, body=form)
        except Refused:
            raise self.unavailable("does not take what it is sent") from None
        for line in answer.splitlines():
            said = self._object(line).get("Root")
            if not isinstance(said, Mapping):
                continue
            if said.get("Cid") == {"/": str(root)} and not said.get("PinErrorMsg"):
                return
        raise self.unavailable("does not say that it pinned what it was sent")

    async def _tell(self, command: str, args: Mapping[str, str]) -> bytes:
        try:
            return await self._call(command, args)
        except Refused:
            raise self.unavailable(f"refuses {command}") from None

    def _object(self, answer: bytes) -> Mapping[str, Any]:
        try:
            said = json.loads(answer)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            raise self.unavailable("answered something that is not of Kubo's RPC")
        return said

    async def _call(
        self,
        command: str,
        args: Mapping[str, str],
        *,
        body: Pieces | None = None,
        size_max: int = ANSWER_BYTES_MAX,
    ) -> bytes:
        try:
            async with (
                asyncio.timeout(self.settings.deadline_s),
                self._post(command, args, body) as response,
            ):
                answer = await self._read(response, size_max)
                self.answered_s = time.monotonic()
        except TimeoutError:
            raise self.unavailable("did not answer in time") from None
        except (aiohttp.ClientError, OSError) as error:
            raise self.unavailable(f"cannot be asked ({type(error).__name__})") from None
        if response.status == HTTPStatus.OK:
            return answer
        if response.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Refused(str(self._object(answer).get("Message", "")))
        raise self.unavailable(f"answered {response.status} to {command}")

    def _post(
        self, command: str, args: Mapping[str, str], body: Pieces | None = None
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        content_type = f"multipart/form-data; boundary={_BOUNDARY}"
        return self._session.post(
            f"{self.settings.api}/api/v0/{command}",
            params=args,
            data=None if body is None else body(),
            headers={} if body is None else {"Content-Type": content_type},
            allow_redirects=False,
        )

    async def _read(self, response: aiohttp.ClientResponse, size_max: int) -> bytes:
        pieces, size = [], 0
        async for piece in response.content.iter_any():
            size += len(piece)
            if size > size_max:
                raise self.unavailable("answered more than it was asked for")
            pieces.append(piece)
        return b"".join(pieces)


def _printable(said: object) -> str:
    text = said[:TEXT_MAX] if isinstance(said, str) else ""
    return "".join(c for c in text if c.isascii() and c.isprintable())
