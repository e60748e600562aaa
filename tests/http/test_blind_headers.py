"""Goal: where custody is blind the user, and nobody else, gives an object another head, for the
same payload; the one before is kept for who has not opened the new one, and no longer.

Method: clients of their own making over HTTP, and the catalog's files, searched for what is gone.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyrage  # type: ignore[import-untyped]
import pytest
from sqlalchemy import func, select

from crypto import Meta, X25519Identity, open_head, parse_recipient, rewrap
from storage_gateway.catalog.blind_tables import header_confirmations, kept_headers
from storage_gateway.catalog.tables import (
    outbox,
)
from storage_gateway.catalog.wraps import take_census
from tests.databases import databases
from tests.gateway import MINER, OTHER_MINER, RunningGateway, eventually, running_gateway
from tests.http.age_files import stanza
from tests.http.blind_world import BlindSession, context_of, open_blind, rewrap_as_told, sealed_for
from tests.http.test_blind import opened, with_stanzas

pytestmark = pytest.mark.both_databases


@pytest.fixture
async def blind(gateway: RunningGateway) -> BlindSession:
    return await open_blind(gateway, "101")


async def kept(gateway: RunningGateway) -> list[int]:
    """Return the generations of all heads that are kept."""
    query = select(kept_headers.c.generation).order_by(kept_headers.c.generation)
    return await gateway.catalog.read(lambda c: list(c.execute(query).scalars()))


async def test_after_a_rewrap_each_party_opens_with_the_key_it_has_now(blind: BlindSession) -> None:
    made = await blind.put("t1", b"content")
    before = (await blind.get(made["urn"])).body
    former = await blind.rotate(MINER)
    pending = await blind.manifest(made["urn"])
    answer = await blind.rewrap(made["urn"], blind.identities["user"])
    after = (await blind.get(made["urn"])).body

    assert (True, 1) == (pending["rewrap_pending"], pending["generation"])
    assert 200 == answer.status, answer
    told = answer.json()
    assert ('"g2"', False, 2) == (
        answer.header("ETag"),
        told["rewrap_pending"],
        told["generation"],
    )
    assert len(after) == told["sealed_size"]
    assert 2 == next(p["version"] for p in told["wrapped_for"] if p.get("miner") == MINER)
    for identity in blind.identities.values():
        assert b"content" == opened(after, identity)
    with pytest.raises(pyrage.DecryptError):
        opened(after, former)
    assert b"content" == opened(before, former)  # what was fetched cannot be taken back
    assert pending["cid"] == told["cid"]
    payload_size = told["payload_size"]
    assert before[-payload_size - 16 :] == after[-payload_size - 16 :]


async def test_the_header_is_the_file_up_to_its_payload(blind: BlindSession) -> None:
    made = await blind.put("t1", b"content", "output")
    data = (await blind.get(made["urn"])).body
    for who in ("user", "router", MINER):
        answer = await blind.get(made["urn"], who, "/header")
        assert (200, '"g1"', "private, no-store") == (
            answer.status,
            answer.header("ETag"),
            answer.header("Cache-Control"),
        )
        assert data == answer.body + data[len(answer.body) :]
        assert len(answer.body) + 7 + 16 == len(data)
    same = await blind.get(made["urn"], part="/header", headers=[("If-None-Match", '"g1"')])
    assert (304, b"") == (same.status, same.body)
    (await blind.get(made["urn"], OTHER_MINER, "/header")).problem(404, "not_found")
    (await blind.get(made["urn"], "operator", "/header")).problem(403, "forbidden")


async def test_a_head_that_was_replaced_is_kept_until_all_have_opened_the_new_one(
    gateway: RunningGateway, blind: BlindSession
) -> None:
    made = await blind.put("t1", b"content")
    first = (await blind.get(made["urn"], part="/header")).body
    former = await blind.rotate("router")
    await blind.rewrap(made["urn"], blind.identities["user"])
    older = await blind.get(made["urn"], "router", "/header?generation=1")

    assert (200, first, '"g1"') == (older.status, older.body, older.header("ETag"))
    open_head(older.body, [former])
    waiting: list[set[str]] = []
    for who in (MINER, "user", MINER, "router", OTHER_MINER):
        assert [1] == await kept(gateway), who
        answer = await blind.confirm(made["urn"], 2, who)
        assert 200 == answer.status, answer
        names = {str(p.get("miner", p["role"])) for p in answer.json()["waiting_for"]}
        waiting.append(names)
    two = {"router", OTHER_MINER}
    assert [two, two, two, {OTHER_MINER}, set()] == waiting
    assert [] == await kept(gateway)
    gone = await blind.get(made["urn"], part="/header?generation=1")
    gone.problem(404, "not_found")


async def test_two_that_confirm_at_once_are_both_heard(
    gateway: RunningGateway, blind: BlindSession
) -> None:
    for round_ in range(5):
        made = await blind.put(f"t{round_}", b"content", "output")
        await blind.rotate("user")
        before = await blind.rotate("user")
        manifest = await blind.manifest(made["urn"])
        head = (await blind.get(made["urn"], part="/header")).body
        # The user's first key opened it; the miner's does as well.
        after = rewrap_as_told(manifest, head, blind.identities[MINER])
        assert 200 == (await blind.patch(made["urn"], 1, after)).status
        assert before != blind.identities["user"]
        await asyncio.gather(*(blind.confirm(made["urn"], 2, who) for who in ("router", MINER)))

        assert [] == await kept(gateway)


async def test_a_head_that_nobody_confirms_is_kept_for_a_time(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, kept_header_s=0.2, recovery_interval_s=3600) as gateway:
        blind = await open_blind(gateway, "101")
        made = await blind.put("t1", b"content")
        await blind.rotate("router")
        await blind.rewrap(made["urn"], blind.identities["user"])
        there = await kept(gateway)
        until = select(kept_headers.c.keep_until_ms - kept_headers.c.created_ms)
        dwell = await gateway.catalog.read(lambda c: c.execute(until).scalar_one())

        async def is_dropped() -> bool:
            await gateway.gateway.recovery.run_once()
            return await kept(gateway) == []

        await eventually(is_dropped, what="the end of the time")
        assert ([1], 200) == (there, dwell)


async def test_the_time_is_a_week_unless_it_is_set(
    gateway: RunningGateway, blind: BlindSession
) -> None:
    made = await blind.put("t1", b"content")
    await blind.rotate("router")
    await blind.rewrap(made["urn"], blind.identities["user"])
    await gateway.gateway.recovery.run_once()
    until = select(kept_headers.c.keep_until_ms - kept_headers.c.created_ms)

    assert 7 * 86_400_000 == await gateway.catalog.read(lambda c: c.execute(until).scalar_one())


async def test_the_census_counts_heads_that_are_kept(
    gateway: RunningGateway, blind: BlindSession
) -> None:
    made = await blind.put("t1", b"content")
    await blind.rotate("router")
    await blind.rewrap(made["urn"], blind.identities["user"])
    census = await gateway.catalog.read(lambda c: list(take_census(c, "101")))
    shown = (await blind.ask("GET", f"{blind.path}/keys")).json()["keys"]

    counted = {
        tuple(p.version for p in wrap.parties if p.role == "router"): (wrap.heads, wrap.kept)
        for wrap in census
    }
    assert {(1,): (0, 1), (2,): (1, 0)} == counted
    routers = {key["version"]: key["heads"] for key in shown if key["party"] == "router"}
    assert {1: 1, 2: 1} == routers


async def test_another_confirmation_than_of_the_current_head_is_refused(
    blind: BlindSession,
) -> None:
    made = await blind.put("t1", b"content", "output")
    await blind.rotate("user")
    manifest = await blind.manifest(made["urn"])
    head = (await blind.get(made["urn"], part="/header")).body
    await blind.patch(made["urn"], 1, rewrap_as_told(manifest, head, blind.identities["router"]))
    for generation in (1, 3):
        answer = await blind.confirm(made["urn"], generation, "router")
        assert 2 == answer.problem(412, "generation_mismatch")["generation"]
    path = f"/v1/objects/{made['urn']}/header/confirmations"
    for document in ({}, {"generation": "2"}, {"generation": 0}, {"generation": 2, "x": 1}):
        (await blind.post(path, document, "router")).problem(422, "invalid_field")


async def test_what_was_said_of_an_older_head_does_not_count(
    gateway: RunningGateway, blind: BlindSession
) -> None:
    made = await blind.put("t1", b"content", "output")
    for _ in range(2):
        await blind.rotate("router")
        await blind.rewrap(made["urn"], blind.identities["user"])
        generation = (await blind.manifest(made["urn"]))["generation"]
        await blind.confirm(made["urn"], generation, "router")

    assert [1, 2] == await kept(gateway)
    said = select(header_confirmations.c.generation)
    assert [3] == await gateway.catalog.read(lambda c: list(c.execute(said).scalars()))
    await blind.confirm(made["urn"], 3, MINER)
    assert [] == await kept(gateway)


async def test_a_miner_that_came_later_has_nothing_to_confirm(
    gateway: RunningGateway, blind: BlindSession
) -> None:
    """It may know of the input, and no head was ever for it: nor is the next one."""
    made = await blind.put("t1", b"content")
    name, late = f"0x{7:040x}", X25519Identity.generate()
    document = {"id": name, "recipient": str(late.recipient())}
    added = await blind.post(f"{blind.path}/miners", document, "operator")
    blind.tokens[name] = added.json()["token"]
    pending = await blind.manifest(made["urn"])
    await blind.rotate("router")
    await blind.rewrap(made["urn"], blind.identities["user"])

    assert pending["rewrap_pending"] is False
    (await blind.confirm(made["urn"], 2, name)).problem(403, "forbidden")
    with pytest.raises(pyrage.DecryptError):
        opened((await blind.get(made["urn"], name)).body, late)


async def test_the_routers_own_keys_have_nothing_to_do_with_it(
    gateway: RunningGateway, blind: BlindSession
) -> None:
    await blind.put("t1", b"content")
    (key,) = (await blind.ask("GET", "/v1/admin/keys", "operator")).json()["keys"]
    own = (await blind.ask("GET", f"{blind.path}/keys")).json()["keys"]

    assert (1, 0, 0) == (key["version"], key["heads"], key["uploads"])
    assert {"user": 1, "router": 1} == {
        k["party"]: k["heads"] for k in own if k["party"] != "miner"
    }


async def test_a_head_is_replaced_by_who_says_which_one(blind: BlindSession) -> None:
    made = await blind.put("t1", b"content")
    await blind.rotate(MINER)
    _, head = await blind.rewrapped(made["urn"], blind.identities["user"])
    urn = made["urn"]
    (await blind.patch(urn, None, head)).problem(428, "precondition_required")
    stale = await blind.patch(urn, 2, head)
    assert 1 == stale.problem(412, "generation_mismatch")["generation"]
    for value in ("*", "g1", '"1"', 'W/"g1"', '"g1", "g2"', '"g01"'):
        answer = await blind.patch(urn, value, head)
        assert "If-Match" == answer.problem(422, "invalid_field")["field"]
    for who in (MINER, "router", "operator"):
        (await blind.patch(urn, 1, head, who)).problem(403, "forbidden")

    assert 1 == (await blind.manifest(urn))["generation"]


async def test_of_heads_that_come_at_once_one_is_taken(
    gateway: RunningGateway, blind: BlindSession
) -> None:
    made = await blind.put("t1", b"content")
    await blind.rotate(MINER)
    heads = [(await blind.rewrapped(made["urn"], blind.identities["user"]))[1] for _ in range(6)]
    answers = await asyncio.gather(*(blind.patch(made["urn"], 1, head) for head in heads))

    statuses = sorted(answer.status for answer in answers)
    assert [200, *[412] * 5] == statuses
    won = next(h for h, answer in zip(heads, answers, strict=True) if answer.status == 200)
    assert won == (await blind.get(made["urn"], part="/header")).body
    assert [1] == await kept(gateway)


async def test_a_head_that_is_sent_again_changes_nothing(
    gateway: RunningGateway, blind: BlindSession
) -> None:
    """The answer to the first may have been lost."""
    made = await blind.put("t1", b"content")
    await blind.rotate(MINER)
    generation, head = await blind.rewrapped(made["urn"], blind.identities["user"])
    answers = [await blind.patch(made["urn"], generation, head) for _ in range(2)]

    assert [200, 200] == [answer.status for answer in answers]
    assert answers[0].body == answers[1].body
    assert [1] == await kept(gateway)


async def test_a_head_that_is_sent_several_times_at_once_is_taken_once(
    gateway: RunningGateway, blind: BlindSession
) -> None:
    made = await blind.put("t1", b"content")
    await blind.rotate(MINER)
    generation, head = await blind.rewrapped(made["urn"], blind.identities["user"])
    answers = await asyncio.gather(*(blind.patch(made["urn"], generation, head) for _ in range(6)))

    assert [200] * 6 == [answer.status for answer in answers]
    assert {'"g2"'} == {answer.header("ETag") for answer in answers}
    assert [1] == await kept(gateway)


Edit = Callable[[bytes], bytes]


def edited(edit: Callable[[list[bytes]], list[bytes]]) -> Edit:
    return lambda head: with_stanzas(head, edit)


WRONG: dict[str, tuple[Edit, int, str]] = {
    "nothing": (lambda _head: b"", 422, "header_mismatch"),
    "a whole file": (lambda head: head + bytes(23), 422, "header_mismatch"),
    "another nonce": (lambda head: head[:-1] + bytes([head[-1] ^ 1]), 422, "header_mismatch"),
    "no context": (edited(lambda s: s[1:]), 422, "header_mismatch"),
    "another context": (
        edited(lambda s: [stanza("storage-gateway/context-v1", body=bytes(32)), *s[1:]]),
        422,
        "header_mismatch",
    ),
    "no meta": (edited(lambda s: [s[0], *s[2:]]), 422, "header_mismatch"),
    "meta first": (edited(lambda s: [s[1], s[0], *s[2:]]), 422, "header_mismatch"),
    "a stranger's stanza": (
        edited(lambda s: [*s[:2], stanza("x"), *s[2:]]),
        422,
        "header_mismatch",
    ),
    "a recipient less": (edited(lambda s: s[:-1]), 422, "header_mismatch"),
    "a recipient more": (edited(lambda s: [*s, s[-1]]), 422, "header_mismatch"),
    "another class": (
        edited(lambda s: [*s[:-1], stanza("mlkem768x25519", "x", body=bytes(32))]),
        422,
        "class_mismatch",
    ),
    "too many": (edited(lambda s: [*s, *s[-1:] * 30]), 422, "too_many_stanzas"),
    "too long": (lambda head: head + bytes(70_000), 413, "body_too_large"),
}


@pytest.mark.parametrize(("edit", "status", "code"), WRONG.values(), ids=WRONG)
async def test_what_is_no_rewrap_is_refused(
    gateway: RunningGateway, blind: BlindSession, edit: Edit, status: int, code: str
) -> None:
    reservation = await blind.reserve("t1")
    sealed = sealed_for(reservation, b"content", Meta("text/plain"))
    await blind.send("t1", "input", reservation["urn"], sealed.head + sealed.payload)
    await blind.rotate(MINER)
    generation, head = await blind.rewrapped(reservation["urn"], blind.identities["user"])
    answer = await blind.patch(reservation["urn"], generation, edit(head))

    answer.problem(status, code)
    assert sealed.head == (await blind.get(reservation["urn"], part="/header")).body
    assert [] == await kept(gateway)
    assert 200 == (await blind.patch(reservation["urn"], generation, head)).status


async def test_keys_that_change_once_more_meanwhile_are_noticed(blind: BlindSession) -> None:
    made = await blind.put("t1", b"content")
    await blind.rotate(MINER)
    told = await blind.manifest(made["urn"])
    generation, head = await blind.rewrapped(made["urn"], blind.identities["user"])
    await blind.rotate("router")
    query = f"?parties={told['parties_id']}"
    answer = await blind.patch(made["urn"], generation, head, query=query)

    recipients = answer.problem(409, "stale_parties")["recipients"]
    assert [str(i.recipient()) for i in blind.identities.values()] == recipients
    assert 1 == (await blind.manifest(made["urn"]))["generation"]


async def test_a_miner_that_left_has_no_stanza_any_more(
    blind: BlindSession,
) -> None:
    made = await blind.put("t1", b"content")
    gone = await blind.ask("DELETE", f"{blind.path}/miners/{OTHER_MINER}", "operator")
    assert 200 == gone.status, gone
    answer = await blind.rewrap(made["urn"], blind.identities["user"])
    data = (await blind.get(made["urn"])).body

    assert 3 == len(answer.json()["wrapped_for"])
    with pytest.raises(pyrage.DecryptError):
        opened(data, blind.identities[OTHER_MINER])


async def test_the_list_of_what_is_pending(blind: BlindSession) -> None:
    made = [await blind.put(f"t{number}", b"x") for number in range(5)]
    result = await blind.put("t1", b"x", "output")
    nothing = (await blind.ask("GET", f"{blind.path}/objects?pending=true")).json()["objects"]
    await blind.rotate(OTHER_MINER)
    await blind.rewrap(made[1]["urn"], blind.identities["user"])
    await blind.ask("DELETE", f"/v1/objects/{made[2]['urn']}")
    pages: list[list[dict[str, Any]]] = []
    cursor: str | None = ""
    while cursor is not None:
        path = f"{blind.path}/objects?pending=true&limit=2"
        page = (await blind.ask("GET", f"{path}{cursor and f'&cursor={cursor}'}")).json()
        pages.append(page["objects"])
        cursor = page["next"]
    bad = await blind.ask("GET", f"{blind.path}/objects?pending=yes")

    assert [] == nothing
    pending = [found["urn"] for page in pages for found in page]
    assert [made[n]["urn"] for n in (0, 3, 4)] == pending
    assert result["urn"] not in pending  # it never was for the other miner
    assert pages[0][0] == await blind.manifest(made[0]["urn"])
    assert "pending" == bad.problem(422, "invalid_field")["field"]


async def test_a_job_of_the_gateways_leaves_blind_objects_to_their_user(
    gateway: RunningGateway, blind: BlindSession
) -> None:
    made = await blind.put("t1", b"content")
    await blind.rotate(MINER)
    jobs = gateway.gateway.services.jobs
    job = await jobs.start("rewrap", "101", 0.0)
    async for seen in jobs.watch(job.job_id):
        job = seen

    assert 1 == (await blind.manifest(made["urn"]))["generation"]
    assert 0 == job.counts.get("failed", 0)


async def test_erasing_drops_the_heads_that_are_kept(
    gateway: RunningGateway, blind: BlindSession
) -> None:
    made = await blind.put("t1", b"content", "output")
    heads = [(await blind.get(made["urn"], part="/header")).body]
    for _ in range(2):
        await blind.rotate("router")
        await blind.rewrap(made["urn"], blind.identities["user"])
        heads.append((await blind.get(made["urn"], part="/header")).body)
    await blind.confirm(made["urn"], 3, "router")
    assert [1, 2] == await kept(gateway)
    answer = await blind.ask("DELETE", f"/v1/objects/{made['urn']}")

    assert 202 == answer.status
    assert [] == await kept(gateway)
    said = select(func.count()).select_from(header_confirmations)
    assert 0 == await gateway.catalog.read(lambda c: c.execute(said).scalar_one())
    for part in ("/header", "/header?generation=1"):
        (await blind.get(made["urn"], part=part)).problem(410, "erased")
    (await blind.patch(made["urn"], 3, heads[0])).problem(410, "erased")
    (await blind.confirm(made["urn"], 3, "router")).problem(410, "erased")

    async def is_erased() -> bool:
        return bool((await blind.manifest(made["urn"]))["state"] == "erased")

    await eventually(is_erased, what="the erasure")
    # Of each head the stanzas of one party, which no other row holds.
    marks = [head.partition(b"---")[2][1:44] for head in heads]
    files = await asyncio.to_thread(databases.stored_bytes, gateway.data_dir)
    assert [] == [mark for mark in marks if any(mark in file for file in files)]


async def test_the_newest_head_comes_to_the_stores_and_the_older_ones_go(
    gateway: RunningGateway, blind: BlindSession
) -> None:
    made = await blind.put("t1", b"content")
    await blind.rotate(MINER)
    await blind.rewrap(made["urn"], blind.identities["user"])
    due = select(func.count()).select_from(outbox)

    async def is_empty() -> bool:
        return await gateway.catalog.read(lambda c: c.execute(due).scalar_one()) == 0

    await eventually(is_empty, what="an empty outbox")
    folder = gateway.data_dir / "store"
    object_id = made["urn"].rpartition(":")[2]
    names = [p.name for p in folder.rglob(f"manifests/{object_id}/*")]
    assert ["2"] == names


async def test_a_key_of_another_party_opens_for_the_rewrap(blind: BlindSession) -> None:
    """Who lost a key has it replaced by the others: any identity that opens will do."""
    made = await blind.put("t1", b"content")
    await blind.rotate("user")
    manifest = await blind.manifest(made["urn"])
    head = (await blind.get(made["urn"], part="/header")).body
    wanted = [parse_recipient(party["recipient"]) for party in manifest["rewrap_for"]]
    current = [parse_recipient(party["recipient"]) for party in manifest["wrapped_for"]]
    new = rewrap(head, [blind.identities["router"]], current=current, wanted=wanted)
    answer = await blind.patch(made["urn"], 1, new)

    assert 200 == answer.status
    assert b"content" == opened((await blind.get(made["urn"])).body, blind.identities["user"])


async def test_a_head_that_opens_for_no_party_is_taken_and_the_one_before_kept(
    blind: BlindSession,
) -> None:
    """The gateway cannot tell that a stanza opens: what it cannot see, it takes."""
    reservation = await blind.reserve("t1")
    sealed = sealed_for(reservation, b"content")
    made = (
        await blind.send("t1", "input", reservation["urn"], sealed.head + sealed.payload)
    ).json()
    await blind.rotate(MINER)
    manifest = await blind.manifest(made["urn"])
    strangers = [X25519Identity.generate() for _ in manifest["rewrap_for"]]
    head = (await blind.get(made["urn"], part="/header")).body
    current = [parse_recipient(party["recipient"]) for party in manifest["wrapped_for"]]
    new = rewrap(
        head,
        [blind.identities["user"]],
        current=current,
        wanted=[stranger.recipient() for stranger in strangers],
    )
    answer = await blind.patch(made["urn"], 1, new)

    assert 200 == answer.status
    # That is what the head before is kept for.
    older = await blind.get(made["urn"], "router", "/header?generation=1")
    open_head(older.body, [blind.identities["router"]]).check_context(context_of(reservation))
