"""Goal: what expired is not read, stays whole until it is erased, and can be had back until then.

Method: the mark that a sweep sets is set by hand, so that nothing waits. Each way to an object, and
to its blocks, is asked; each pass that keeps objects whole runs over one that has expired.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage_gateway import read
from tests.gateway import RunningGateway, eventually, running_gateway
from tests.http.blind_world import open_blind
from tests.http.claims_world import SETTINGS, Kept, ask, kept
from tests.http.ipfs_world import RAW, hold
from tests.http.ipfs_world import ask as ask_block
from tests.http.raw import connected, request
from tests.http.steps import LEAF, PLAINTEXT, fetch, made_bytes

pytestmark = pytest.mark.both_databases

LARGE = 40 * LEAF


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with running_gateway(tmp_path, serve_ipfs=True, **SETTINGS) as running:
        yield running


async def test_what_expired_is_not_read_and_the_text_says_how_to_have_it_back(
    gateway: RunningGateway,
) -> None:
    held = await kept(gateway)
    manifest = (await held.ask("GET", "/manifest")).json()
    await held.expire()
    shown = await held.shown()
    token = held.session.user_token
    answers = [
        await fetch(gateway, name, who, headers=headers)
        for name in (held.urn, manifest["urn_pinned"], f"{held.urn}/header")
        for who in (token, held.session.miner_token)
        for headers in ([], [PLAINTEXT], [("If-None-Match", "*")])
    ]
    head = await fetch(gateway, held.urn, token, method="HEAD")

    for answer in answers:
        problem = answer.problem(410, "expired")
        assert shown["erase_after"] in problem["detail"]
        assert "/lease" in problem["remedy"]
    assert 410 == head.status
    after = (await held.ask("GET", "/manifest")).json()
    assert shown["expired"] == after["expired"]
    unlike = {name for name in after if after[name] != manifest[name]}
    assert {"expires", "expired"} == unlike  # its state, too, is as it was


async def test_who_may_not_know_of_it_is_not_told_that_it_expired(gateway: RunningGateway) -> None:
    held, foreign = await kept(gateway), await kept(gateway)
    await held.expire()

    (await held.ask("GET", "", token=foreign.session.user_token)).problem(404, "not_found")


async def test_a_header_of_what_expired_is_not_replaced(gateway: RunningGateway) -> None:
    session = await open_blind(gateway)
    urn = (await session.put("t1", b"content"))["urn"]
    before = await session.rotate()
    generation, head = await session.rewrapped(urn, before)
    row = Kept(gateway, None, urn)  # type: ignore[arg-type]  # of another kind of session
    await row.expire()
    refused = await session.patch(urn, generation, head)
    await row.change(expired_ms=None, erase_after_ms=None)

    refused.problem(410, "expired")
    assert 200 == (await session.patch(urn, generation, head)).status


@pytest.mark.parametrize("way", ["lease", "lifetime", "forever"])
@pytest.mark.parametrize("who", ["user", "operator"])
async def test_it_is_had_back_until_it_is_erased(
    gateway: RunningGateway, way: str, who: str
) -> None:
    held = await kept(gateway, "open")
    await held.expire()
    token = None if who == "user" else gateway.operator_token
    if way == "lease":
        answer = await held.leased(300, token=token)
    else:
        answer = await held.lives(None if way == "forever" else 3000, token=token)
    back = await held.ask("GET", "")

    assert 200 == answer.status
    assert [None, None] == [answer.json()[name] for name in ("expired", "erase_after")]
    assert "keep" == answer.json()["verdict"]["action"]
    assert 200 == back.status
    assert (await held.ask("GET", "/manifest")).json()["expired"] is None


async def test_a_claim_that_is_over_already_does_not_bring_it_back(gateway: RunningGateway) -> None:
    held = await kept(gateway, "open")
    await held.expire()
    await held.change(created_ms=1)
    answers = [await held.lives(5), await held.ask("DELETE", "/lease")]

    for answer in answers:
        assert answer.json()["expired"]
        assert answer.json()["erase_after"]
    (await held.ask("GET", "")).problem(410, "expired")


async def test_a_read_that_began_goes_on_to_its_end(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "SEGMENTS_IN_PAGE", 1)  # so that it asks the catalog again
    content = made_bytes(LARGE)
    held = await kept(gateway, content=content)
    path, token = f"/v1/objects/{held.urn}", held.session.user_token
    async with connected(gateway.address) as connection:
        await connection.send(request("GET", path, token, headers=[PLAINTEXT]))
        start = await connection.reader.readuntil(b"\r\n\r\n")
        await held.expire()
        (await held.ask("GET", "")).problem(410, "expired")
        received = await connection.reader.readexactly(LARGE)

    assert start.startswith(b"HTTP/1.1 200 ")
    assert content == received


@pytest.mark.parametrize("grace_is_over", [False, True])
async def test_it_can_be_erased_as_ever(gateway: RunningGateway, *, grace_is_over: bool) -> None:
    held = await kept(gateway)
    await held.expire()
    if grace_is_over:
        await held.change(erase_after_ms=1)
    first = await held.ask("DELETE", "")
    again = await held.ask("DELETE", "")

    async def is_erased() -> bool:
        return bool((await held.ask("GET", "/manifest")).json()["state"] == "erased")

    assert 202 == first.status
    assert again.status in {200, 202}
    await eventually(is_erased, what="the state erased")
    (await held.ask("GET", "")).problem(410, "erased")


async def test_no_block_of_it_is_served(
    gateway: RunningGateway,
) -> None:
    session = (await kept(gateway)).session
    large = await hold(gateway, session, "large", 3 * LEAF)
    leaf = large.leaves[0][0]
    held = Kept(gateway, session, large.urn)
    paths = [str(large.root), str(leaf)]
    before = [(await ask_block(gateway, path, RAW)).status for path in paths]
    await held.expire()
    after = [await ask_block(gateway, path, RAW) for path in paths]
    await held.leased(300)
    back = [(await ask_block(gateway, path, RAW)).status for path in paths]

    assert [200, 200] == before == back
    for answer in after:
        assert "immutable" not in (answer.header("Cache-Control") or "")
        answer.problem(410, "expired")


async def test_all_that_keeps_objects_whole_goes_on(gateway: RunningGateway) -> None:
    held = await kept(gateway)
    await held.expire()
    session_id = held.session.session_id
    path = f"/v1/sessions/{session_id}"
    new = {"party": "user", "recipient": str((await kept(gateway)).session.user.recipient())}
    token = held.session.user_token
    assert 201 == (await ask(gateway, "POST", f"{path}/keys", token, new)).status
    jobs = gateway.gateway.services.jobs
    for kind in ("rewrap", "reseal"):
        job = await jobs.start(kind, session_id, 0.0)
        async for _ in jobs.watch(job.job_id):
            pass
    manifest = (await held.ask("GET", "/manifest")).json()
    keys = (await ask(gateway, "GET", f"{path}/keys", token)).json()["keys"]
    heads = {key["version"]: key["heads"] for key in keys if key["party"] == "user"}
    scrubbed = await ask(
        gateway, "POST", "/v1/admin/passes/scrub", gateway.operator_token, {"seconds": 5}
    )

    assert (3, "committed") == (manifest["generation"], manifest["state"])
    assert manifest["expired"]
    assert {1: 0, 2: 1} == heads
    assert 200 == scrubbed.status
    await held.leased(60)
    assert 200 == (await held.ask("GET", "")).status
