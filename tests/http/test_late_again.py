"""Goal: who lost the answer of an upload that is pending, and sends it again, is told where to ask.

Method: as in `test_late`; what is told of a slot that is busy, to whom, and what the client does.
"""

import asyncio
import io
from pathlib import Path
from typing import Any

import pytest

from storage_gateway import client
from storage_gateway.api import object_handlers
from storage_gateway.client import Client, ClientError
from storage_gateway.errors import SlotBusy
from tests.gateway import eventually
from tests.http.steps import upload
from tests.http.test_late import CONTENT, FAILS_AT_LAST, SOON_S, Deployment, deployed


async def sent_again(d: Deployment) -> dict[str, Any]:
    """Send it again; return the problem that is told."""
    answer = await upload(d.gateway, d.session.path("t1"), d.session.user_token, CONTENT)
    assert answer.header("Retry-After")
    return answer.problem(409, "slot_busy")


@pytest.mark.both_databases
async def test_who_sends_it_again_is_told_where_to_ask(tmp_path: Path) -> None:
    async with deployed(tmp_path) as d:
        document = await d.sent()
        busy = await sent_again(d)
        d.two.go_on.set()
        committed = await d.ended(busy)

    assert document["status_url"] == busy["status_url"]
    assert "object_id" not in busy
    assert ("committed", document["urn"]) == (committed["state"], committed["urn"])


async def test_who_is_late_himself_is_told_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slot was free when it was looked at, and taken when the first leaf was there."""
    async with deployed(tmp_path) as d:
        document = await d.sent()
        services = d.gateway.gateway.services
        holder = document["status_url"].rpartition("/")[2]

        async def too_late(*_: object) -> None:
            raise SlotBusy("another upload to this slot is under way", object_id=holder)

        session = await services.sessions.get(d.session.session_id)
        monkeypatch.setattr(services.uploads, "look", lambda _slot: lambda _connection: session)
        monkeypatch.setattr(object_handlers, "_take_in", too_late)
        busy = await sent_again(d)
        d.two.go_on.set()
        await d.ended(document)

    assert document["status_url"] == busy["status_url"]
    assert "object_id" not in busy


async def test_of_one_that_nobody_was_answered_nothing_is_told(tmp_path: Path) -> None:
    async with deployed(tmp_path) as d:
        d.one.hang("finish")  # in no store: it is not late
        sending = asyncio.create_task(d.sent())

        async def is_begun() -> bool:
            return bool(d.one.asked["finish"] and d.two.asked["finish"])

        await eventually(is_begun, what="the writes")
        busy = await sent_again(d)
        d.one.go_on.set()
        await sending

    assert not {"status_url", "object_id"} & busy.keys()


async def client_sends(d: Deployment, told: list[dict[str, Any]]) -> ClientError:
    async with Client(d.gateway.url, d.session.user_token) as sender:

        def go_on(document: dict[str, Any]) -> None:
            told.append(document)
            d.two.go_on.set()

        body = io.BytesIO(CONTENT)
        with pytest.raises(ClientError) as ended:
            await sender.upload("101", "t1", "input", body, on_pending=go_on)
        assert 0 == body.tell(), "it was sent in vain"
        return ended.value


@pytest.mark.parametrize("fails", [False, True])
async def test_a_client_waits_for_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    monkeypatch.setattr(client, "POLL_S_MIN", SOON_S)
    told: list[dict[str, Any]] = []
    async with deployed(tmp_path) as d:
        if fails:
            d.two.faults = FAILS_AT_LAST
        document = await d.sent()
        ended = await client_sends(d, told)

    assert [("pending", True)] == [(seen["state"], seen["earlier"]) for seen in told]
    assert document["urn"] == ended.problem["urn"]
    assert ("backend_unavailable" if fails else "slot_taken") == ended.code
