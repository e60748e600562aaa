"""A gateway that serves blocks, what it holds, and how it is asked for them.

The client is aiohttp's, which knows chunked answers; it adds no header that a test did not ask for.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import aiohttp
from yarl import URL

from tests.gateway import OpenSession, RunningGateway, open_session, running_gateway
from tests.http.age_files import head_size
from tests.http.raw import Answer, Headers
from tests.http.steps import LEAF, fetch, made_bytes, uploaded
from urn import CID, CARReader, Codec

RAW = ("Accept", "application/vnd.ipld.raw")
CAR = ("Accept", "application/vnd.ipld.car")
SEALED_LEAF = 983_280
LEAVES = 10
"""Of the large object: two segments, the last leaf short."""

Blocks = list[tuple[CID, bytes]]


@dataclass(frozen=True)
class Held:
    """An object as its blocks: those of its leaves, in order, and its root."""

    urn: str
    root: CID
    leaves: Blocks
    head: bytes

    @property
    def payload(self) -> bytes:
        """All leaves."""
        return b"".join(leaf for _, leaf in self.leaves)


@dataclass(frozen=True)
class World:
    """A gateway with a small object, a large one, and one that was erased."""

    gateway: RunningGateway
    session: OpenSession
    small: Held
    large: Held
    erased: Held


async def hold(gateway: RunningGateway, session: OpenSession, task: str, size: int) -> Held:
    """Upload an object and cut its sealed file into blocks."""
    token = session.user_token
    document = await uploaded(gateway, session.path(task), token, made_bytes(size))
    sealed = (await fetch(gateway, document["urn"], token)).body
    start = head_size(sealed)
    pieces = [sealed[at : at + SEALED_LEAF] for at in range(start, len(sealed), SEALED_LEAF)]
    leaves = [(raw(piece), piece) for piece in pieces]
    return Held(document["urn"], CID.parse(document["cid"]), leaves, sealed[:start])


@asynccontextmanager
async def world(folder: Path, **settings: object) -> AsyncIterator[World]:
    """Run a gateway that holds something; the late-write horizon does not end."""
    settings = {"serve_ipfs": True, "late_write_horizon_s": 1000} | settings
    async with running_gateway(folder, **settings) as gateway:
        session = await open_session(gateway, "101")
        small = await hold(gateway, session, "small", 1000)
        large = await hold(gateway, session, "large", (LEAVES - 1) * LEAF + 1)
        erased = await hold(gateway, session, "erased", 2 * LEAF)
        await fetch(gateway, erased.urn, session.user_token, method="DELETE")
        yield World(gateway, session, small, large, erased)


async def ask(
    gateway: RunningGateway, path: str, *headers: tuple[str, str], method: str = "GET"
) -> Answer:
    """Ask for a path below ``/ipfs/``, as it is written."""
    url = URL(f"{gateway.url}/ipfs/{path}", encoded=True)
    leave_out = ["Accept", "Accept-Encoding", "User-Agent"]
    async with (
        aiohttp.ClientSession(skip_auto_headers=leave_out) as client,
        client.request(method, url, headers=as_sent(headers)) as response,
    ):
        names = tuple((name.lower(), value) for name, value in response.headers.items())
        try:
            return Answer(response.status, names, await response.read())
        except aiohttp.ClientPayloadError:
            return Answer(response.status, names, b"", whole=False)


def as_sent(headers: Headers) -> list[tuple[str, str]]:
    """Return headers as a client takes them."""
    return list(headers)


def raw(content: bytes) -> CID:
    """Return the CID of bytes as a leaf."""
    return CID(Codec.RAW, sha256(content).digest())


def node(content: bytes) -> CID:
    """Return the CID of bytes as a node."""
    return CID(Codec.DAG_PB, sha256(content).digest())


def unpacked(archive: bytes) -> tuple[tuple[CID, ...], Blocks]:
    """Return the roots and blocks of an archive, verified."""
    reader = CARReader()
    blocks = list(reader.feed(archive))
    reader.finish()
    return reader.roots, blocks
