"""What goes in comes back, byte for byte: sizes around every border, plain and sealed, in pieces.

The CID is compared with that of the stored payload computed at once, the sealed file is opened with
each party's identity by `crypto`, and by another implementation (pyrage).
"""

import random

import pyrage  # type: ignore[import-untyped]
import pytest

from crypto import NoIdentityMatch, X25519Identity, open_file, sealed_size
from tests.gateway import (
    OpenSession,
    RunningGateway,
    leftovers,
    open_session,
    payload_keys,
    running_gateway,
)
from tests.http.age_files import age_file, head_size
from tests.http.raw import CHUNKED, SEALED, Answer, chunk, connected, request
from tests.http.steps import PLAINTEXT, SEGMENT, fetch, made_bytes
from urn import cid_of

SIZES = [0, 1, 65_535, 65_536, 65_537, 983_039, 983_040, 983_041, SEGMENT, SEGMENT + 1, 20 << 20]


async def _send_in_pieces(
    gateway: RunningGateway,
    path: str,
    token: str,
    body: bytes,
    *,
    headers: list[tuple[str, str]],
    seed: int,
) -> Answer:
    """Upload in pieces of random sizes, in chunked framing every other time."""
    cuts = random.Random(seed)
    chunked = seed % 2 == 0
    framing = CHUNKED if chunked else ("Content-Length", str(len(body)))
    async with connected(gateway.address) as connection:
        await connection.send(request("POST", path, token, headers=[*headers, framing]))
        at = 0
        while at < len(body):
            size = cuts.choice([1, 1000, 65_536, 1 << 20, cuts.randrange(1, 1 << 21)])
            piece = body[at : at + size]
            await connection.send(chunk(piece) if chunked else piece)
            at += size
        if chunked:
            await connection.send(chunk(b""))
        return await connection.answer()


@pytest.mark.parametrize("kind", ["plain", "sealed"])
@pytest.mark.parametrize("size", SIZES)
async def test_what_goes_in_comes_back(
    gateway: RunningGateway, session: OpenSession, size: int, kind: str
) -> None:
    content = made_bytes(size)
    body, headers = content, [("Content-Type", "text/plain")]
    if kind == "sealed":
        body, headers = age_file(content, [session.router_recipient]), [SEALED]
    for seed in (size, size + 1):
        answer = await _send_in_pieces(
            gateway,
            session.path(f"t{seed}"),
            session.user_token,
            body
            if seed == size or kind == "plain"
            else age_file(content, [session.router_recipient]),
            headers=headers,
            seed=seed,
        )
        assert 201 == answer.status, answer
        document = answer.json()
        sealed = await fetch(gateway, document["urn"], session.miner_token)
        plain = await fetch(gateway, document["urn"], session.user_token, headers=[PLAINTEXT])

        assert sealed.whole
        assert plain.whole
        assert content == plain.body
        payload = sealed.body[head_size(sealed.body) :]
        assert sealed_size(size) == len(payload)
        assert str(cid_of(payload)) == document["cid"]
        assert (size, len(sealed.body)) == (document["size"], document["sealed_size"])
        for identity in (session.user, session.miner, session.other_miner):
            assert content == open_file(sealed.body, [identity])
        with pytest.raises(NoIdentityMatch):
            open_file(sealed.body, [X25519Identity.generate()])
    assert [] == await leftovers(gateway.catalog, gateway.store)


@pytest.mark.parametrize("size", [0, 1, 65_536, 983_041, SEGMENT + 1])
async def test_a_stock_tool_opens_what_comes_back(
    gateway: RunningGateway, session: OpenSession, size: int
) -> None:
    content = made_bytes(size)
    answer = await _send_in_pieces(
        gateway, session.path("t1"), session.user_token, content, headers=[], seed=size
    )
    sealed = await fetch(gateway, answer.json()["urn"], session.user_token)
    identity = pyrage.x25519.Identity.from_str(session.miner.to_text())

    assert content == pyrage.decrypt(sealed.body, [identity])


async def test_nothing_stored_is_plaintext(gateway: RunningGateway, session: OpenSession) -> None:
    """Every file under the data folder is searched for pieces of what was uploaded."""
    content = made_bytes(3_000_000)
    await _send_in_pieces(
        gateway, session.path("t1"), session.user_token, content, headers=[], seed=1
    )
    names = ("the-file-name-of-it", "text/x-secret-kind")
    async with connected(gateway.address) as connection:
        path = f"{session.path('t2')}?filename={names[0]}"
        kind = ("Content-Type", names[1])
        await connection.send(
            request("POST", path, session.user_token, headers=[kind], body=b"a very plain text")
        )
        assert 201 == (await connection.answer()).status
    needles = [content[at : at + 24] for at in range(0, len(content), 30_000)]
    needles += [b"a very plain text", *(name.encode() for name in names)]

    files = [path for path in gateway.data_dir.rglob("*") if path.is_file()]
    assert len(files) > 3
    for file in files:
        stored = file.read_bytes()
        assert not any(needle in stored for needle in needles), file


async def test_objects_outlive_a_restart(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("gateway")
    content = made_bytes(SEGMENT + 5)
    async with running_gateway(folder) as first:
        session = await open_session(first, "101")
        answer = await _send_in_pieces(
            first, session.path("t1"), session.user_token, content, headers=[], seed=1
        )
    async with running_gateway(folder) as second:
        assert first.operator_token == second.operator_token
        served = await fetch(second, answer.json()["urn"], session.user_token, headers=[PLAINTEXT])
        sealed = await fetch(second, answer.json()["urn_pinned"], session.miner_token)
        keys = await payload_keys(second.catalog, second.store)

    assert content == served.body
    assert content == open_file(sealed.body, [session.miner])
    assert 2 == len(keys)


async def test_a_download_that_is_left_does_not_stay(
    gateway: RunningGateway, session: OpenSession
) -> None:
    """A reader that goes away in mid-answer costs nothing that lasts; the next one is served."""
    content = made_bytes(SEGMENT)
    answer = await _send_in_pieces(
        gateway, session.path("t1"), session.user_token, content, headers=[], seed=1
    )
    urn = answer.json()["urn"]
    for _ in range(5):
        async with connected(gateway.address) as connection:
            await connection.send(request("GET", f"/v1/objects/{urn}", session.user_token))
            await connection.reader.readexactly(100_000)
            connection.abort()
    served = await fetch(gateway, urn, session.user_token, headers=[PLAINTEXT])

    assert content == served.body
