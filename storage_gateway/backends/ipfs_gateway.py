"""A trustless HTTP gateway of IPFS: leaves of ours by their CIDs, from whoever has them.

Read-only, and trusted with nothing: what it answers is compared with the CID before anything else
sees it, and that it does not have a leaf says nothing about anybody else. Each question tells a
stranger that somebody here wants that leaf now, so nothing is asked that is not needed.

Source: specs.ipfs.tech/http-gateways/trustless-gateway. A leaf is asked for as a raw block; a
gateway that refuses the format is asked for an archive (CAR) of the one block instead.
"""

import asyncio
import hashlib
import ssl
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import TypeVar

import aiohttp

from storage_gateway.errors import BackendUnavailable, BlobCorrupt
from urn import CAR_HEADER_MAX, CID, LEAF_SIZE, CARError, CARReader, Codec

from .contract import Range
from .health import Breaker
from .metered import Meter, Observe
from .probe_report import ProbeFinding, StoreReport, unavailable

T = TypeVar("T")

Permit = Callable[[], Awaitable[None]]
"""Raises when nobody may be told any more that somebody wants it."""

PROBED = "bafkqaaa"
"""The CID that holds its own block, which is empty. Source: section "Dedicated Probe Paths"."""
CAR_BYTES_MAX = LEAF_SIZE + CAR_HEADER_MAX + 256
"""Of an archive of one leaf: header, length and CID come before the block."""
REFUSALS = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.NOT_ACCEPTABLE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.NOT_IMPLEMENTED,
)
"""How a gateway says that it does not have the format."""
ABSENCES = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)


class Format(Enum):
    """What a gateway is asked for: the media type, and the query that says the same."""

    RAW = ("application/vnd.ipld.raw", {"format": "raw"})
    CAR = ("application/vnd.ipld.car; version=1", {"format": "car", "dag-scope": "block"})


@dataclass(frozen=True, slots=True, kw_only=True)
class IPFSGatewaySettings:
    """Where a gateway is, and how long is waited for it. Times are seconds."""

    name: str
    """What sessions call it."""
    url: str
    """``https://HOST[:PORT]``, below which ``/ipfs/<cid>`` is."""
    connect_s: float = 5.0
    idle_s: float = 15.0
    """How long an answer may pause, or not begin."""
    deadline_s: float = 30.0
    """For one leaf."""
    connections_max: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class IPFSGatewayReport(StoreReport):
    """What was found out about a gateway."""

    raw: bool | None = None
    """It has blocks as they are, and not in archives alone."""


NOT_TRUSTLESS = ProbeFinding(
    kind="probe",
    detail="what is answered to the probe of the specification is not the empty block",
    remedy="name a trustless gateway, not a page or a proxy before one",
    refuses=True,
)
NO_RAW = ProbeFinding(
    kind="raw",
    detail="raw blocks are refused: it will be asked for archives of one block",
    remedy="nothing is to be done if it has those; else name another gateway",
)


class _Refused(Exception):
    """The gateway does not have the format."""


class _Absent(BackendUnavailable):
    """The gateway is well, and does not have the block."""


class IPFSGateway:
    """Asks one gateway. Made on the event loop that it is used on."""

    def __init__(
        self,
        settings: IPFSGatewaySettings,
        *,
        tls: ssl.SSLContext | None = None,
        observe: Observe | None = None,
    ) -> None:
        """``tls`` says whom to trust, if not the usual ones; ``observe`` is told of each read."""
        self.name = settings.name
        self.reads = Breaker()
        self._settings = settings
        self._meter = Meter(settings.name, observe or (lambda _operation: None))
        self._format = Format.RAW
        # Not left to the pool: who waits for a connection of ours does not wait for the gateway.
        self._turns = asyncio.Semaphore(settings.connections_max)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=settings.connections_max, ssl=tls or True),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=settings.connect_s, sock_read=settings.idle_s
            ),
            # Not compressed: a block that was cannot grow beyond what is read of it.
            headers={"User-Agent": "storage-gateway", "Accept-Encoding": "identity"},
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close all connections; what is under way is broken off."""
        await self._session.close()

    async def fetch(
        self, leaf: Range, check: Callable[[bytes], T], threads: Executor, *, permit: Permit
    ) -> T:
        """Return what ``check`` makes of a leaf, which is known by its digest; called in a thread.

        ``permit`` is asked at the last moment before the gateway is, and again once it answered.

        Raises:
            BlobCorrupt: what was answered is not the leaf; or what ``check`` raises.
            BackendUnavailable: it was not answered, whatever the reason, or the gateway rests.
            Exception: whatever ``permit`` raises.

        """
        if leaf.digest is None or leaf.size > LEAF_SIZE:
            raise ValueError(f"not a leaf with its digest: {leaf}")
        digest, size = leaf.digest, leaf.size

        def work() -> T:
            if hashlib.sha256(block).digest() != digest or len(block) != size:
                raise BlobCorrupt(f"gateway {self.name} answered another block")
            return check(block)

        self._refuse_rest()
        async with self._turns:
            await permit()
            with self._counted(), self._meter.timed("read") as seen:
                block = await self._in_time(self._block(CID(Codec.RAW, digest)))
                made = await asyncio.get_running_loop().run_in_executor(threads, work)
                seen.received = size
        await permit()
        return made

    async def probe(self) -> IPFSGatewayReport:
        """Try the one block that every gateway has; says nothing of ours, raises nothing."""
        try:
            async with self._turns:
                await self._in_time(self._get(PROBED, Format.RAW, size_max=0))
        except _Refused:
            return IPFSGatewayReport(store=self.name, raw=False, findings=(NO_RAW,))
        except BlobCorrupt:
            return IPFSGatewayReport(store=self.name, findings=(NOT_TRUSTLESS,))
        except BackendUnavailable as error:
            return IPFSGatewayReport(store=self.name, findings=(unavailable(str(error)),))
        return IPFSGatewayReport(store=self.name, raw=True)

    def _refuse_rest(self) -> None:
        now = asyncio.get_running_loop().time()
        if not self.reads.is_closed and not self.reads.wants_probe(now):
            raise self._unavailable("failed too often lately")

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Let it rest after failures in a row. That it lacks a block is none."""
        clock = asyncio.get_running_loop().time
        self._refuse_rest()
        probe = self.reads.enter(clock())
        try:
            yield
        except _Absent:
            self.reads.succeed()
            raise
        except (BackendUnavailable, BlobCorrupt):
            self.reads.fail(clock(), probe=probe)
            raise
        except BaseException:
            self.reads.drop(clock(), probe=probe)
            raise
        self.reads.succeed()

    async def _block(self, cid: CID) -> bytes:
        if self._format is Format.RAW:
            with suppress(_Refused):
                return await self._get(str(cid), Format.RAW, size_max=LEAF_SIZE)
        try:
            archive = await self._get(str(cid), Format.CAR, size_max=CAR_BYTES_MAX)
        except _Refused:
            raise self._unavailable("has neither raw blocks nor archives") from None
        block = _block_in(archive, cid)
        if block is None:
            raise BlobCorrupt(f"gateway {self.name} answered an archive without the block")
        self._format = Format.CAR
        return block

    async def _in_time(self, answer: Awaitable[bytes]) -> bytes:
        try:
            async with asyncio.timeout(self._settings.deadline_s):
                return await answer
        except TimeoutError:
            raise self._unavailable("did not answer in time") from None
        except (aiohttp.ClientError, OSError) as error:
            raise self._unavailable(f"cannot be asked ({type(error).__name__})") from None

    async def _get(self, cid: str, form: Format, *, size_max: int) -> bytes:
        media_type, query = form.value
        async with self._session.get(
            f"{self._settings.url}/ipfs/{cid}",
            params=query,
            headers={"Accept": media_type},
            allow_redirects=False,
        ) as response:
            if response.status in REFUSALS:
                raise _Refused
            if response.status in ABSENCES:
                raise _Absent(f"gateway {self.name} does not have it")
            if response.status != HTTPStatus.OK:
                raise self._unavailable(f"answered {response.status}")
            answer = bytearray()
            async for piece in response.content.iter_any():
                answer += piece
                if len(answer) > size_max:
                    raise BlobCorrupt(f"gateway {self.name} answered more than a leaf")
            return bytes(answer)

    def _unavailable(self, text: str) -> BackendUnavailable:
        """Return an error that says what is wrong, not where the gateway is: clients see it."""
        return BackendUnavailable(f"gateway {self.name} {text}")


def _block_in(archive: bytes, cid: CID) -> bytes | None:
    """Return a block from an archive, whatever else is in it; None unless it is whole and right."""
    reader = CARReader(block_max=LEAF_SIZE)
    try:
        blocks = dict(reader.feed(archive))
        reader.finish()
    except CARError:
        return None
    return blocks.get(cid)
