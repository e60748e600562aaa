"""Goal: an operator runs a pass by hand, over HTTP and from a terminal, and is told what is wrong.

Method: a real gateway over two folders, a damaged file; the command as a process.
"""

import json
import random
from pathlib import Path

import pytest

from storage_gateway.catalog.high_water import is_behind, set_behind
from storage_gateway.cli.commands import _parser
from storage_gateway.upkeep import PASSES
from tests.commands import Done, command_beside
from tests.gateway import open_session
from tests.http.raw import exchange, request
from tests.http.steps import uploaded
from tests.http.sweep_world import HOUR_MS, YEAR_MS, expired_of, world_of
from tests.http.test_replicas import Folders, folders, running

__all__ = ["folders"]


async def test_a_pass_is_run_from_a_terminal(folders: Folders, tmp_path: Path) -> None:
    async with running(folders) as (gateway, session):
        await uploaded(gateway, session.path("t1"), session.user_token, b"content")
        other = await open_session(gateway, f"{random.getrandbits(64)}")
        await uploaded(gateway, other.path("t1"), other.user_token, b"more")
        first, _ = await folders.payload_files("one")
        right = first.read_bytes()
        first.write_bytes(b"rot")
        environment = {"GATEWAY_URL": gateway.url, "GATEWAY_TOKEN": gateway.operator_token}

        found = await command_beside("passes", "run", "scrub", environment=environment)
        mended = await command_beside("passes", "run", "repair", "--json", environment=environment)
        again = await command_beside("passes", "run", "scrub", environment=environment)
        settled = await command_beside("passes", "run", "recovery", environment=environment)
        collected = await command_beside(
            "passes", "run", "gc", "--confirm", "5", "--json", environment=environment
        )
        unknown = await command_beside("passes", "run", "nothing", environment=environment)

        assert right == first.read_bytes()
    assert (1, b"scrub: 3 right, 1 bad") == (found.status, found.out[:21]), found
    assert 0 == mended.status, mended
    assert 1 == json.loads(mended.out)["made"]
    assert (0, b"scrub: 4 right, 0 bad") == (again.status, again.out[:21]), again
    assert (0, b"recovery: ") == (settled.status, settled.out[:10]), settled
    assert 0 == collected.status, collected
    assert (4, 0) == ((told := json.loads(collected.out))["seen"], told["braked"])
    assert 2 == unknown.status


async def test_a_sweep_is_looked_at_and_confirmed_from_a_terminal(tmp_path: Path) -> None:
    async with world_of(tmp_path) as world:
        environment = {
            "GATEWAY_URL": world.gateway.url,
            "GATEWAY_TOKEN": world.gateway.operator_token,
        }

        async def command(*words: str) -> Done:
            return await command_beside("passes", "run", *words, environment=environment)

        nothing = await command("sweep", "--dry-run")
        due = await world.make(3, ends_in_ms=-HOUR_MS)
        (held,) = await world.make(1, ends_in_ms=-HOUR_MS, holds=1)
        await world.leap_behind(YEAR_MS)
        shown = await command("sweep", "--dry-run")
        document = json.loads((await command("sweep", "--dry-run", "--json")).out)
        braked = await command("sweep", "--json")
        before = expired_of(await world.rows())
        swept = await command("sweep", "--confirm", "3")
        after = expired_of(await world.rows())
        misused = await command("gc", "--dry-run")

    assert 0 == nothing.status, nothing
    assert b"sweep: nothing is due; the clock is steady\n" == nothing.out
    assert 0 == shown.status, shown
    lines = shown.out.decode().splitlines()
    assert {f"expire urn:blob:v4:{object_id} lifetime_over" for object_id in due} | {
        f"keep   urn:blob:v4:{held} held"
    } == set(lines[:-1])
    assert {"3 expire", "1 keep"} == set(
        lines[-1].removeprefix("sweep: ").split(";")[0].split(", ")
    )
    assert "--confirm 3" in shown.err
    assert ("leapt", 3, False) == tuple(document[name] for name in ("clock", "braked", "goes"))
    assert 4 == len(document["verdicts"])
    assert (1, 3) == (braked.status, json.loads(braked.out)["braked"])
    assert set() == before
    assert (0, set(due)) == (swept.status, after), swept
    assert 2 == misused.status


async def test_a_rebuild_that_lacks_a_store_is_no_success(folders: Folders) -> None:
    async with running(folders, write_quorum=1) as (gateway, session):
        await uploaded(gateway, session.path("t1"), session.user_token, b"content")
        environment = {"GATEWAY_URL": gateway.url, "GATEWAY_TOKEN": gateway.operator_token}
        await gateway.catalog.run(set_behind)

        await folders.vanish("two")
        lacking = await command_beside("passes", "run", "rebuild", environment=environment)
        still = await gateway.catalog.read(is_behind)
        await folders.come_back("two")
        whole = await command_beside("passes", "run", "rebuild", environment=environment)
        after = await gateway.catalog.read(is_behind)

    assert (1, True) == (lacking.status, still), lacking
    assert "out of reach: two." in lacking.err
    assert (0, False) == (whole.status, after), whole
    assert "out of reach" not in whole.err


def test_every_pass_can_be_run_from_a_terminal() -> None:
    for name in PASSES:
        assert name == _parser().parse_args(["passes", "run", name]).name


@pytest.mark.parametrize(
    ("name", "body", "status", "code"),
    [
        ("scrub", b"", 200, None),
        ("scrub", b'{"seconds": 0.5}', 200, None),
        ("scrub", b'{"seconds": 0}', 422, "invalid_field"),
        ("scrub", b'{"seconds": 61}', 422, "invalid_field"),
        ("scrub", b'{"limit": 1}', 422, "invalid_field"),
        ("gc", b'{"confirm": 3}', 200, None),
        ("gc", b'{"confirm": -1}', 422, "invalid_field"),
        ("sweep", b'{"confirm": 3}', 200, None),
        ("scrub", b'{"confirm": 3}', 422, "invalid_field"),
        ("nothing", b"", 404, "no_such_pass"),
    ],
)
async def test_what_may_be_asked_of_a_pass(
    folders: Folders, name: str, body: bytes, status: int, code: str | None
) -> None:
    async with running(folders) as (gateway, _):
        headers = [("Content-Type", "application/json")] if body else []
        asked = request(
            "POST",
            f"/v1/admin/passes/{name}",
            gateway.operator_token,
            headers=headers,
            body=body or None,
        )
        answer = await exchange(gateway.address, asked)

    if code is None:
        told = answer.json()
        assert (status, name) == (answer.status, told["pass"])
        # The gateway's own first sweep may have its turn.
        assert told["ended"] or (name, told["looked"]) == ("sweep", 0)
    else:
        answer.problem(status, code)
