"""Goal: an operator holds, looks and releases from a terminal, as the gateway has it.

Method: the real commands against a gateway; what it then says, and what they print and end with.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from storage_gateway.custody import OPERATOR_TOKEN_FILE
from tests.commands import Done, command_beside
from tests.gateway import RunningGateway, running_gateway
from tests.http.claims_world import SETTINGS, kept

Run = Callable[..., Awaitable[Done]]
BY = ("--who", "the court", "--why", "case 7")
NO_MORE = ("--who", "the clerk", "--why", "it is over")


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with running_gateway(tmp_path, **SETTINGS) as running:
        yield running


@pytest.fixture
def run(gateway: RunningGateway, tmp_path: Path) -> Run:
    """Run ``hold`` as the operator, or with the token in ``token``."""

    async def run_it(*arguments: str, token: str | None = None) -> Done:
        file = gateway.data_dir / OPERATOR_TOKEN_FILE
        if token is not None:
            file = tmp_path / "token"
            file.write_text(token)
        to = ("--url", gateway.url, "--token-file", str(file))
        return await command_beside("hold", *arguments, *to, cwd=tmp_path)

    return run_it


@pytest.mark.parametrize("scope", ["object", "session"])
async def test_a_hold_from_a_terminal(gateway: RunningGateway, run: Run, scope: str) -> None:
    held = await kept(gateway)
    on = (held.urn,) if scope == "object" else ("--session", held.session.session_id)
    placed = await run("place", *on, *BY)
    hold_id = placed.out.decode().strip()
    assert (0, "", 32) == (placed.status, placed.err, len(hold_id))
    (await held.ask("DELETE", "")).problem(409, "held")

    listed = await run("list", held.urn)
    lines = listed.out.decode().splitlines()
    assert (0, 2) == (listed.status, len(lines))
    assert lines[0].split() == ["hold", "on", "since", "who", "why", "released", "by", "as"]
    assert all(word in lines[1] for word in (hold_id, scope, "the court", "case 7", "no"))
    document = json.loads((await run("list", *on, "--json")).out)
    assert [hold_id] == [hold["hold_id"] for hold in document["holds"]]

    released = await run("release", hold_id, *on, *NO_MORE)
    assert (0, "") == (released.status, released.err)
    assert released.out.startswith(b"released 20")
    assert released.out.endswith(b"by the clerk\n")
    document = json.loads((await run("release", hold_id, *on, *BY, "--json")).out)
    assert ("the clerk", "it is over") == (document["released_by"], document["release_why"])
    assert 202 == (await held.ask("DELETE", "")).status


async def test_what_is_refused_is_said(gateway: RunningGateway, run: Run) -> None:
    held = await kept(gateway)
    for arguments in (
        ("place", *BY),
        ("place", held.urn, "--session", "101", *BY),
        ("list",),
        ("release", "a" * 32, *NO_MORE),
        ("place", held.urn, "--who", "the court"),
    ):
        wrong = await run(*arguments)
        assert (2, b"") == (wrong.status, wrong.out), wrong
        assert "URN" in wrong.err or "--why" in wrong.err
    refusals: list[tuple[tuple[str, ...], str]] = [
        (("place", held.urn, "--who", "", "--why", "case 7"), "invalid_field"),
        (("release", "a" * 32, held.urn, *NO_MORE), "no_such_hold"),
        (("list", "--session", "nowhere"), "unknown_session"),
    ]
    for asked, code in refusals:
        refused = await run(*asked)
        assert (1, b"") == (refused.status, refused.out), refused
        assert f"[{code}]" in refused.err
    refused = await run("place", held.urn, *BY, token=held.session.user_token)
    assert 1 == refused.status
    assert "[forbidden]" in refused.err
    assert 202 == (await held.ask("DELETE", "")).status
