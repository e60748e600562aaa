"""Goal: pending uploads end in time and truthfully where everything around them goes wrong.

Method: as in `test_late`, with deletes that hang too, errors that nobody foresaw, a reason that is
noted too late, and a proxy that answers for a gateway that is away.
"""

import asyncio
import io
import logging
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from storage_gateway import client, failed, late, write
from storage_gateway.catalog.outcomes import note_failure
from storage_gateway.client import Client
from tests.gateway import DEADLINE_S, eventually, leftovers, running_gateway
from tests.http.steps import SEGMENT, made_bytes
from tests.http.test_late import CONTENT, SOON_S, deployed, overdue, settings_of, status

HOUR_S = 3600.0


async def test_a_stop_does_not_wait_for_a_store_that_never_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is to be deleted there is left to the next process."""
    monkeypatch.setattr(late, "END_S_MAX", SOON_S)
    monkeypatch.setattr(failed, "SETTLE_S_MAX", SOON_S)
    async with deployed(tmp_path, drain_s=SOON_S) as d:
        document, session = await d.sent(body=made_bytes(SEGMENT)), d.session
        d.two.hang("finish", "delete", "list")
        async with asyncio.timeout(DEADLINE_S):  # it would be for ever
            await d.gateway.gateway.stop()
        told_at_stop = caplog.text
        d.two.go_on.set()
    async with running_gateway(tmp_path, **settings_of(tmp_path)) as gateway:
        told = (await status(gateway, document, session.user_token)).json()

        async def clean() -> bool:
            return not await leftovers(gateway.catalog, gateway.gateway.parts.store)

        await eventually(clean, what="the end of all leftovers")

    assert "left to recovery" in told_at_stop
    assert "failed" == told["state"]


async def test_a_place_among_the_pending_is_free_once_it_is_decided(tmp_path: Path) -> None:
    async with deployed(tmp_path, decide_within_s=2 * SOON_S) as d:
        d.two.hang("finish", "delete", "list")
        document = await d.sent()
        await d.ended(document)
        pending = d.gateway.gateway.services.late.pending

        async def is_free() -> bool:
            return not pending

        await eventually(is_free, what="the place")  # its own task may be a moment behind
        hangs = not d.two.go_on.is_set()

    assert hangs


@pytest.mark.both_databases
async def test_what_was_told_as_the_reason_stays_so(tmp_path: Path) -> None:
    async with deployed(tmp_path) as d:
        document = await d.sent()
        await overdue(d.gateway)
        first = (await d.status(document)).json()
        object_id = document["status_url"].rpartition("/")[2]
        await d.gateway.catalog.run(lambda c: note_failure(c, object_id, "storage_full"))
        second = (await d.status(document)).json()

    assert "intent_lost" == first["code"] == second["code"]


async def test_an_error_that_nobody_foresaw_leaves_a_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("not foreseen")

    async with deployed(tmp_path) as d:
        document = await d.sent()
        monkeypatch.setattr(write, "manifest_of", broken)
        d.two.go_on.set()
        failed = await d.ended(document)
        await d.nothing_left()

    traces = [r for r in caplog.records if r.levelno == logging.ERROR and r.exc_info]
    assert ["late upload ended in an error"] == [record.getMessage() for record in traces]
    assert "internal" == failed["code"]


async def test_a_client_outlasts_a_proxy_that_answers_for_the_gateway(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "POLL_S_MIN", SOON_S)
    monkeypatch.setattr(client, "POLL_S_MAX", SOON_S)
    pending: dict[str, Any] = {
        "session_id": "101",
        "state": "pending",
        "status_url": "/status",
        "urn": "urn:x",
        "decided_within_s": 20,
    }
    answers = iter((502, 429, 200))

    async def take(request: web.Request) -> web.Response:
        await request.read()
        return web.json_response(pending, status=202)

    async def tell(_: web.Request) -> web.Response:
        code = next(answers)
        if code != 200:
            return web.Response(status=code, text="<html>away</html>", content_type="text/html")
        return web.json_response(pending | {"state": "committed"})

    app = web.Application()
    app.router.add_get("/status", tell)
    app.router.add_route("*", "/{rest:.*}", take)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with Client(url, "token") as sender:
            stored = await sender.upload("101", "t1", "input", io.BytesIO(CONTENT))
    finally:
        await runner.cleanup()

    assert "committed" == stored["state"]


@pytest.mark.both_databases
async def test_a_database_clock_that_is_set_forward_ends_nothing_that_is_pending(
    tmp_path: Path,
) -> None:
    """By that clock it is overdue; by the clock of whoever looks it has just begun."""
    async with deployed(tmp_path) as d:
        recovery = d.gateway.gateway.recovery
        document = await d.sent()
        seen = (await recovery.run_once()).uploads_overdue
        await overdue(d.gateway, HOUR_S)
        found = [(await recovery.run_once()).uploads_overdue for _ in range(3)]
        d.two.go_on.set()
        await d.nothing_left()
        count = await d.objects()
        end = (await d.status(document)).json()

    assert [0] * 4 == [seen, *found]
    assert 1 == count
    assert "committed" == end["state"]
