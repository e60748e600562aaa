"""Goal: an upload that has all but its write quorum is answered in time, and never more than true.

Method: a gateway over two folders, one of them a store that does not come to the end of a write
until it is told to. What is asked meanwhile, and by whom; how it ends when the store goes on,
fails or stays silent, when the process is stopped, and when all is decided behind its owner's back.
"""

import asyncio
import io
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from storage_gateway import client, late
from storage_gateway.backends.faulty import StoreFaults
from storage_gateway.catalog.outcomes import OUTCOMES_KEPT_S, OVERDUE_S
from storage_gateway.catalog.tables import objects, outcomes
from storage_gateway.client import Client, ClientError
from storage_gateway.errors import CatalogUnavailable
from storage_gateway.recovery import Recovery
from tests.contract.several import HungStore
from tests.gateway import (
    OpenSession,
    RunningGateway,
    eventually,
    gateway_process,
    leftovers,
    open_session,
    running_gateway,
)
from tests.http.raw import SEALED, Answer, Headers, exchange, request
from tests.http.steps import (
    PLAINTEXT,
    SEGMENT,
    fetch,
    made_bytes,
    sealed_by_stock_tool,
    upload,
)

CONTENT = b"content"
NAMES = ("one", "two")
LONG_S = 20.0
FAILS_AT_LAST = StoreFaults(lost_answer={"finish": 1.0})
SOON_S = 0.05
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Deployment:
    """A gateway, a session, and the stores that hang when they are told to."""

    gateway: RunningGateway
    session: OpenSession
    one: HungStore
    two: HungStore

    async def sent(
        self, *, task_id: str = "t1", body: bytes = CONTENT, headers: Headers = ()
    ) -> dict[str, Any]:
        """Upload a body that must be late; return what is told of it."""
        path, token = self.session.path(task_id), self.session.user_token
        answer = await upload(self.gateway, path, token, body, headers=headers)
        assert 202 == answer.status, answer
        document: dict[str, Any] = answer.json()
        assert document["status_url"] == answer.header("Location")
        assert answer.header("Retry-After")
        assert "pending" == document["state"]
        return document

    async def status(self, document: dict[str, Any], token: str | None = None) -> Answer:
        """Ask what became of an upload."""
        return await status(self.gateway, document, token or self.session.user_token)

    async def ended(self, document: dict[str, Any]) -> dict[str, Any]:
        """Wait until it is decided; return what is told then."""
        return await ended(self.gateway, document, self.session.user_token)

    async def nothing_left(self) -> None:
        """Nothing is there that no object accounts for, and no memory is held."""
        running = self.gateway.gateway

        async def clean() -> bool:
            left = await leftovers(self.gateway.catalog, running.parts.store)
            return not left and running.services.uploads._memory.taken == 0

        await eventually(clean, what="the end of all leftovers")

    async def objects(self) -> int:
        """Count the objects."""
        rows = await self.gateway.catalog.read(
            lambda c: c.execute(select(objects.c.object_id)).all()
        )
        return len(rows)


async def status(gateway: RunningGateway, document: dict[str, Any], token: str) -> Answer:
    return await exchange(gateway.address, request("GET", document["status_url"], token))


async def ended(gateway: RunningGateway, document: dict[str, Any], token: str) -> dict[str, Any]:
    async def decided() -> dict[str, Any] | None:
        found: dict[str, Any] = (await status(gateway, document, token)).json()
        return None if found["state"] == "pending" else found

    found = await eventually(decided, what="the end of the upload")
    assert found is not None
    return found


async def stored(gateway: RunningGateway, session: OpenSession, body: bytes) -> dict[str, Any]:
    """Upload a body that must be taken; on a busy machine any upload may be late here."""
    answer = await upload(gateway, session.path("t1"), session.user_token, body)
    document: dict[str, Any] = answer.json()
    if 202 == answer.status:
        document = await ended(gateway, document, session.user_token)
    assert "committed" == document.get("state"), answer
    return document


def settings_of(folder: Path, **settings: object) -> dict[str, object]:
    backends = [{"kind": "local", "name": n, "path": str(folder / n)} for n in NAMES]
    return {
        "backends": backends,
        "reserve_bytes": 0,
        "answer_within_s": SOON_S,
        "decide_within_s": LONG_S,
        "recovery_interval_s": SOON_S,
    } | settings


@asynccontextmanager
async def deployed(folder: Path, **settings: object) -> AsyncIterator[Deployment]:
    """Run it; the second store hangs in the midst of a write. At the end it goes on."""
    async with running_gateway(folder, **settings_of(folder, **settings)) as gateway:
        session = await open_session(gateway, "101")
        hung = []
        for member in gateway.gateway.parts.members:
            member.store = HungStore(member.store)
            hung.append(member.store)
        hung[1].hang("finish")
        try:
            yield Deployment(gateway, session, *hung)
        finally:
            for store in hung:
                store.go_on.set()


@pytest.mark.both_databases
@pytest.mark.parametrize("size", [0, len(CONTENT), 2 * SEGMENT])
async def test_it_is_pending_until_the_quorum_is_there_then_committed(
    tmp_path: Path, size: int
) -> None:
    content = made_bytes(size)
    async with deployed(tmp_path) as d:
        document = await d.sent(body=content)
        pending = await d.status(document)
        early = await fetch(d.gateway, document["urn"], d.session.user_token)
        count = await d.objects()
        held = d.gateway.gateway.services.uploads._memory.taken
        d.two.go_on.set()
        committed = await d.ended(document)
        read = await fetch(d.gateway, document["urn"], d.session.user_token, headers=[PLAINTEXT])
        listed = await exchange(
            d.gateway.address,
            request("GET", "/v1/sessions/101/objects", d.session.user_token),
        )
        await d.nothing_left()

    assert (200, "pending") == (pending.status, pending.json()["state"])
    assert pending.header("Retry-After")
    assert document["decided_by"] == pending.json()["decided_by"]
    assert 0 < pending.json()["decided_within_s"] <= document["decided_within_s"] == LONG_S
    problem = early.problem(503, "commit_pending")
    assert document["status_url"] == problem["status_url"]
    assert early.header("Retry-After")
    assert 0 == count, "nothing that is pending is an object"
    assert bool(size) == bool(held), "what it holds is still accounted for"
    (entry,) = listed.json()["objects"]
    assert "committed" == committed["state"]
    assert entry == {name: committed[name] for name in entry}
    assert document["urn"] == committed["urn"]
    assert content == read.body


async def test_a_sealed_body_is_late_likewise(tmp_path: Path) -> None:
    async with deployed(tmp_path) as d:
        sealed = sealed_by_stock_tool(CONTENT, d.session.router_recipient)
        document = await d.sent(body=sealed, headers=[SEALED])
        d.two.go_on.set()
        await d.ended(document)
        read = await fetch(d.gateway, document["urn"], d.session.user_token, headers=[PLAINTEXT])

    assert CONTENT == read.body


@pytest.mark.both_databases
async def test_who_may_know_of_it_is_told_and_nobody_else(tmp_path: Path) -> None:
    async with deployed(tmp_path) as d:
        foreign = await open_session(d.gateway, "202")
        session = d.session
        path = session.path("t1", "output")
        answer = await upload(d.gateway, path, session.miner_token, CONTENT)
        document = answer.json()
        elsewhere = document | {"status_url": document["status_url"].replace("/101/", "/202/")}
        absent = {
            "urn": f"urn:blob:v4:{'a' * 32}",
            "status_url": f"/v1/sessions/101/uploads/{'a' * 32}",
        }
        known = {
            token: [await d.status(document, token), await fetch(d.gateway, document["urn"], token)]
            for token in (session.user_token, session.miner_token)
        }
        operator = d.gateway.operator_token
        shown = await d.status(document, operator)
        manifest = await fetch(d.gateway, document["urn"], operator, part="/manifest")
        erasing = await fetch(d.gateway, document["urn"], operator, method="DELETE")
        asked = [
            (session.other_miner_token, document, absent),
            (foreign.user_token, elsewhere, absent | {"status_url": elsewhere["status_url"][:-1]}),
        ]
        unknown = [
            [await bare_status(d.gateway, one, token) for one in pair] for token, *pair in asked
        ]
        unknown += [
            [await bare_fetch(d.gateway, one["urn"], token) for one in (document, absent)]
            for token in (session.other_miner_token, foreign.user_token, foreign.miner_token)
        ]

    assert 202 == answer.status
    for status_shown, read in known.values():
        assert "pending" == status_shown.json()["state"]
        read.problem(503, "commit_pending")
    assert "pending" == shown.json()["state"]
    manifest.problem(503, "commit_pending")
    erasing.problem(503, "commit_pending")
    for of_it, of_nothing in unknown:
        of_it.problem(404, "not_found")
        assert of_it.body == of_nothing.body


async def bare_status(gateway: RunningGateway, document: dict[str, Any], token: str) -> Answer:
    headers = [("X-Request-ID", "same")]
    data = request("GET", document["status_url"], token, headers=headers)
    return await exchange(gateway.address, data)


async def bare_fetch(gateway: RunningGateway, urn: str, token: str) -> Answer:
    return await fetch(gateway, urn, token, headers=[("X-Request-ID", "same")])


async def test_the_slot_is_its_own_meanwhile(tmp_path: Path) -> None:
    async with deployed(tmp_path) as d:
        document = await d.sent()
        path, token = d.session.path("t1"), d.session.user_token
        busy = await upload(d.gateway, path, token, b"another")
        d.two.go_on.set()
        await d.ended(document)
        taken = await upload(d.gateway, path, token, b"another")
        count = await d.objects()

    busy.problem(409, "slot_busy")
    assert document["urn"] == taken.problem(409, "slot_taken")["urn"]
    assert 1 == count


@pytest.mark.both_databases
async def test_it_fails_with_the_store_and_the_slot_is_free(tmp_path: Path) -> None:
    async with deployed(tmp_path) as d:
        document = await d.sent()
        d.two.faults = FAILS_AT_LAST
        d.two.go_on.set()
        failed = await d.ended(document)
        d.two.heal()
        gone = await fetch(d.gateway, document["urn"], d.session.user_token)
        again = await stored(d.gateway, d.session, CONTENT)
        still = (await d.status(document)).json()
        await d.nothing_left()

    assert ("failed", "backend_unavailable") == (failed["state"], failed["code"])
    assert failed["remedy"].startswith("Send the upload again")
    gone.problem(404, "not_found")
    assert document["urn"] != again["urn"]
    assert "failed" == still["state"]


async def test_it_fails_when_its_time_is_over(tmp_path: Path) -> None:
    async with deployed(tmp_path, decide_within_s=2 * SOON_S) as d:
        document = await d.sent()
        failed = await d.ended(document)
        hangs = not d.two.go_on.is_set()
        await d.nothing_left()

    assert hangs
    assert "failed" == failed["state"]


def let_pass(recovery: Recovery, seconds: float) -> None:
    """Let what a process has seen pending have been so for longer, by its own clock."""
    for payload_id in recovery._pending_since:
        recovery._pending_since[payload_id] -= seconds


async def overdue(gateway: RunningGateway, by_s: float = 1.0) -> None:
    """Let the time of all that is pending be over."""
    passed = outcomes.c.decide_by_ms - int((LONG_S + by_s) * 1000)
    await gateway.catalog.run(lambda c: c.execute(update(outcomes).values(decide_by_ms=passed)))


@pytest.mark.both_databases
async def test_what_is_overdue_is_decided_by_who_asks_and_its_owner_comes_too_late(
    tmp_path: Path,
) -> None:
    """As where its process was stopped for longer than its time, with its lease never claimed."""
    async with deployed(tmp_path) as d:
        document = await d.sent()
        await overdue(d.gateway)
        failed = (await d.status(document)).json()
        d.two.hung = ()
        again = await stored(d.gateway, d.session, b"another")
        d.two.go_on.set()
        await d.nothing_left()
        still = (await d.status(document)).json()
        count = await d.objects()
        read = await fetch(d.gateway, again["urn"], d.session.user_token, headers=[PLAINTEXT])

    assert ("failed", 0) == (failed["state"], failed["decided_within_s"])
    assert "failed" == still["state"]
    assert 1 == count
    assert b"another" == read.body


@pytest.mark.both_databases
async def test_what_is_overdue_is_decided_without_anybody_asking(tmp_path: Path) -> None:
    """Its slot is free again though whoever holds it never comes to an end."""
    async with deployed(tmp_path, recovery_interval_s=LONG_S) as d:
        recovery = d.gateway.gateway.recovery
        await d.sent()
        await recovery.run_once()  # it is seen
        let_pass(recovery, LONG_S)
        await overdue(d.gateway, 0.0)
        early = (await recovery.run_once()).uploads_overdue
        let_pass(recovery, OVERDUE_S)
        await overdue(d.gateway, OVERDUE_S)
        found = [(await recovery.run_once()).uploads_overdue for _ in range(2)]
        d.two.hung = ()
        again = await stored(d.gateway, d.session, b"another")
        d.two.go_on.set()
        await d.nothing_left()
        count = await d.objects()

    assert 0 == early, "its own task knows why it fails"
    assert [1, 0] == found
    assert "committed" == again["state"]
    assert 1 == count


@pytest.mark.both_databases
async def test_who_decides_and_who_commits_at_the_same_time_are_one_or_the_other(
    tmp_path: Path,
) -> None:
    async with deployed(tmp_path) as d:
        for number in range(ROUNDS):
            d.two.hang("finish")
            document = await d.sent(task_id=f"t{number}")
            await overdue(d.gateway)
            d.two.go_on.set()
            told = await asyncio.gather(*(d.status(document) for _ in range(3)))
            states = {answer.json()["state"] for answer in told}
            read = await fetch(d.gateway, document["urn"], d.session.user_token)
            last = (await d.status(document)).json()["state"]

            assert len(states) == 1
            assert states == {last} == {"committed" if read.status == 200 else "failed"}
        await d.nothing_left()


@pytest.mark.both_databases
async def test_another_process_tells_of_it_and_lets_it_be(tmp_path: Path) -> None:
    async with (
        deployed(tmp_path) as d,
        running_gateway(tmp_path, **settings_of(tmp_path)) as other,
    ):
        token = d.session.user_token
        document = await d.sent()
        await other.gateway.recovery.run_once()
        pending = (await status(other, document, token)).json()
        early = await fetch(other, document["urn"], token)
        d.two.go_on.set()
        committed = await ended(other, document, token)
        read = await fetch(other, document["urn"], token, headers=[PLAINTEXT])

    assert "pending" == pending["state"]
    early.problem(503, "commit_pending")
    assert "committed" == committed["state"]
    assert CONTENT == read.body


@pytest.mark.parametrize(("drain_s", "state"), [(LONG_S, "committed"), (0.1, "failed")])
async def test_a_stop_lets_it_end_or_fails_it_and_the_next_process_tells(
    tmp_path: Path, drain_s: float, state: str
) -> None:
    async with deployed(tmp_path, drain_s=drain_s) as d:
        document, session = await d.sent(), d.session
        stop = asyncio.create_task(d.gateway.gateway.stop())
        if state == "committed":
            await eventually(lambda: refuses(d.gateway), what="the end of listening")
            d.two.go_on.set()
        await stop
    async with running_gateway(tmp_path, **settings_of(tmp_path)) as gateway:
        told = (await status(gateway, document, session.user_token)).json()
        read = await fetch(gateway, document["urn"], session.user_token, headers=[PLAINTEXT])
        left = await leftovers(gateway.catalog, gateway.gateway.parts.store)

    assert state == told["state"]
    assert [] == left
    if state == "committed":
        assert CONTENT == read.body
    else:
        assert "intent_lost" == told["code"]
        read.problem(404, "not_found")


async def refuses(gateway: RunningGateway) -> bool:
    try:
        await exchange(gateway.address, request("GET", "/healthz"))
    except OSError:
        return True
    return False


async def test_after_a_kill_it_is_told_as_failed_by_the_next_process(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, instance_lease_s=0.5, instance_renew_s=0.1)
    backends = {"backends": json.dumps(settings["backends"])}
    killed = gateway_process(tmp_path / "data", module="tests.hanging_store", **settings | backends)
    async with killed as process:
        session = await open_session(process, "101")
        answer = await upload(process, session.path("t1"), session.user_token, CONTENT)
        document = answer.json()
        process.send_signal(signal.SIGKILL)
        await process.wait()
    async with running_gateway(tmp_path, **settings) as gateway:
        early = (await status(gateway, document, session.user_token)).json()
        failed = await ended(gateway, document, session.user_token)
        again = await stored(gateway, session, CONTENT)

        async def clean() -> bool:
            return not await leftovers(gateway.catalog, gateway.gateway.parts.store)

        await eventually(clean, what="the end of all leftovers")

    assert 202 == answer.status
    assert early["state"] in {"pending", "failed"}
    assert ("failed", "intent_lost") == (failed["state"], failed["code"])
    assert failed["decided_within_s"] > 0, "within the time that was told"
    assert document["urn"] != again["urn"]


@pytest.mark.both_databases
async def test_it_is_forgotten_after_its_time(tmp_path: Path) -> None:
    async with deployed(tmp_path) as d:
        document = await d.sent()
        d.two.go_on.set()
        await d.ended(document)
        await d.gateway.gateway.recovery.run_once()
        kept = await d.status(document)
        await overdue(d.gateway, OUTCOMES_KEPT_S + 1)
        await d.gateway.gateway.recovery.run_once()
        forgotten = await d.status(document)
        read = await fetch(d.gateway, document["urn"], d.session.user_token, headers=[PLAINTEXT])

    assert "committed" == kept.json()["state"]
    forgotten.problem(404, "not_found")
    assert CONTENT == read.body


async def test_nobody_is_answered_early_while_no_store_has_it(tmp_path: Path) -> None:
    async with deployed(tmp_path, decide_within_s=LONG_S) as d:
        d.one.hang("finish")
        sending = asyncio.create_task(d.sent())

        async def both_are_at_it() -> bool:
            return bool(d.one.asked["finish"] and d.two.asked["finish"])

        await eventually(both_are_at_it)
        done, _ = await asyncio.wait([sending], timeout=4 * SOON_S)  # nothing else can show it
        d.one.go_on.set()
        document = await sending
        d.two.go_on.set()
        committed = await d.ended(document)

    assert not done
    assert "committed" == committed["state"]


async def test_with_too_many_pending_ones_senders_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def is_refused() -> bool:
        return "too many uploads are late" in caplog.text

    monkeypatch.setattr(late, "PENDING_MAX", 1)
    async with deployed(tmp_path) as d:
        document = await d.sent()
        sending = asyncio.create_task(
            upload(d.gateway, d.session.path("t2"), d.session.user_token, CONTENT)
        )
        await eventually(is_refused)
        d.two.go_on.set()
        answer = await sending
        await d.ended(document)
        await d.nothing_left()

    assert 201 == answer.status


async def test_a_client_waits_for_what_became_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "POLL_S_MIN", SOON_S)
    told: list[dict[str, Any]] = []
    async with deployed(tmp_path) as d, Client(d.gateway.url, d.session.user_token) as sender:

        def go_on(document: dict[str, Any]) -> None:
            told.append(document)
            d.two.go_on.set()

        async def send(task_id: str) -> dict[str, Any]:
            body = io.BytesIO(CONTENT)
            return await sender.upload("101", task_id, "input", body, on_pending=go_on)

        stored = await send("t1")
        d.two.hang("finish")
        d.two.faults = FAILS_AT_LAST
        with pytest.raises(ClientError) as failed:
            await send("t2")
        read = await fetch(d.gateway, stored["urn"], d.session.user_token, headers=[PLAINTEXT])

    assert ["pending", "pending"] == [document["state"] for document in told]
    assert "committed" == stored["state"]
    assert CONTENT == read.body
    assert "backend_unavailable" == failed.value.code
    assert "Send the upload again" in str(failed.value)


async def test_a_client_does_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the gateway went away, and nothing is started in its place."""
    monkeypatch.setattr(client, "POLL_S_MIN", SOON_S)
    monkeypatch.setattr(client, "POLL_S_MAX", SOON_S)
    async with deployed(tmp_path) as d, Client(d.gateway.url, d.session.user_token) as sender:

        def go_away(document: dict[str, Any]) -> None:
            document["decided_within_s"] = 0.0
            d.gateway.gateway.services.draining = True

        with pytest.raises(ClientError) as undecided:
            await sender.upload("101", "t1", "input", io.BytesIO(CONTENT), on_pending=go_away)

    assert "undecided" == undecided.value.code
    assert "/v1/sessions/101/uploads/" in str(undecided.value)


async def test_whom_the_catalog_keeps_from_being_told_waits_for_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused, loop = asyncio.Event(), asyncio.get_running_loop()

    def begin(*_: object, **__: object) -> None:
        loop.call_soon_threadsafe(refused.set)
        raise CatalogUnavailable("not now")

    monkeypatch.setattr(late, "begin_outcome", begin)
    async with deployed(tmp_path) as d:
        sending = asyncio.create_task(
            upload(d.gateway, d.session.path("t1"), d.session.user_token, CONTENT)
        )
        await refused.wait()
        d.two.go_on.set()
        answer = await sending

    assert 201 == answer.status
