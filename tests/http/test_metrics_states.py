"""Goal: what is asked for at the moment of a scrape is told with its value.

Method: a real gateway over two folders, which is brought into a state that differs from that at its
start; where the value moves, it is read in the same moment beside what is told.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pytest

from storage_gateway.backends import health
from storage_gateway.leaves import PIECE_BYTES_MAX
from storage_gateway.recovery import RecoveryReport
from tests.gateway import RunningGateway, eventually, open_session, running_gateway
from tests.http.raw import EXPECT, connected, request
from tests.http.scraping import NAMES, samples, settings, value
from tests.http.steps import LEAF, PLAINTEXT, fetch, made_bytes, uploaded


def text_of(gateway: RunningGateway) -> str:
    """Return what is told at this very moment."""
    return gateway.gateway.metrics.text().decode()


def held(gateway: RunningGateway) -> Mapping[str, bool]:
    """Return by budget whether transfers hold a piece at least."""
    return {
        labels["budget"]: size >= PIECE_BYTES_MAX
        for labels, size in samples(text_of(gateway), "memory_bytes")
    }


async def test_memory_that_uploads_and_downloads_hold(tmp_path: Path) -> None:
    async def writes_only() -> bool:
        return held(gateway) == {"write": True, "read": False}

    async def reads_only() -> bool:
        return held(gateway) == {"write": False, "read": True}

    async def none() -> bool:
        return 0 == value(text_of(gateway), "memory_bytes")

    patient: dict[str, object] = {**settings(tmp_path), "body_idle_s": 60}
    async with running_gateway(tmp_path, **patient) as gateway:
        session = await open_session(gateway, "metered")
        token = session.user_token
        document = await uploaded(gateway, session.path("t1"), token, made_bytes(40 * LEAF))
        await eventually(none, what="the end of the upload")
        async with connected(gateway.address) as connection:
            headers = [EXPECT, ("Content-Length", str(4 * LEAF))]
            await connection.send(request("POST", session.path("t2"), token, headers=headers))
            assert 100 == (await connection.answer()).status
            await eventually(writes_only, what="memory of an upload")
            connection.abort()
        await eventually(none, what="the end of what was broken off")
        async with connected(gateway.address) as connection:
            await connection.send(
                request("GET", f"/v1/objects/{document['urn']}", token, headers=[PLAINTEXT])
            )
            await eventually(reads_only, what="memory of a download")
            connection.abort()
        await eventually(none, what="the end of the download")


async def test_what_the_newest_pass_found_and_when(tmp_path: Path) -> None:
    began = time.time()
    options = {**settings(tmp_path), "late_write_horizon_s": 1000, "instance_renew_s": 5}
    async with running_gateway(tmp_path, **options) as gateway:
        recovery = gateway.gateway.recovery

        async def passed(**wanted: int) -> bool:
            return recovery.newest == RecoveryReport(**wanted)

        session = await open_session(gateway, "metered")
        document = await uploaded(gateway, session.path("t1"), session.user_token, b"x")
        await fetch(gateway, document["urn"], session.user_token, method="DELETE")
        await eventually(lambda: passed(graves_waiting=1), what="a pass that sees a grave")
        _is_told(gateway, began, graves_waiting=1)
        first_ms = recovery.newest_ms
        (tmp_path / "two").rename(tmp_path / "away")
        await eventually(lambda: passed(failures=1), what="a pass that fails at it")
        _is_told(gateway, began, failures=1)
        (tmp_path / "away").rename(tmp_path / "two")

    assert first_ms is not None
    assert recovery.newest_ms is not None
    assert first_ms < recovery.newest_ms


def _is_told(gateway: RunningGateway, began: float, **found: int) -> None:
    recovery, text = gateway.gateway.recovery, text_of(gateway)
    told = {labels["what"]: count for labels, count in samples(text, "recovery_newest")}
    assert asdict(RecoveryReport()) | found == told
    assert recovery.passes == value(text, "recovery_passes_total")
    assert recovery.newest_ms is not None
    when_s = value(text, "recovery_newest_timestamp_seconds")
    assert recovery.newest_ms / 1000 == when_s
    assert began - 1 <= when_s <= time.time() + 1, "the catalog's clock is this machine's"


async def test_a_read_that_takes_long_is_told_of_by_its_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "HEDGE_S", 0.0)
    monkeypatch.setattr(health, "ALIKE_S", 1000.0)  # the first one stays the first
    async with running_gateway(tmp_path, **settings(tmp_path)) as gateway:
        members = gateway.gateway.parts.members
        session = await open_session(gateway, "metered")
        document = await uploaded(gateway, session.path("t1"), session.user_token, b"x")
        while not members[0].hedged:
            await fetch(gateway, document["urn"], session.user_token)
        text = text_of(gateway)

    assert [1, 0] == [value(text, "store_hedged_total", store=name) for name in NAMES]
