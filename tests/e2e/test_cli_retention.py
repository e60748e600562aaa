"""Goal: how long things stay is said, shown and changed from a terminal, as the gateway has it.

Method: the real commands against a gateway with policies; what the gateway then says of the object,
and what the commands print and end with.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from crypto import X25519Identity
from storage_gateway.cli import run as run_command
from storage_gateway.cli.durations import duration, lifetime
from storage_gateway.custody import OPERATOR_TOKEN_FILE
from tests.commands import Done, command_beside
from tests.gateway import OpenSession, RunningGateway, open_session, running_gateway
from tests.http.blind_world import open_blind
from tests.http.claims_world import DAY_S, SETTINGS, kept, lives_s, ms_of

RECIPIENT = str(X25519Identity.generate().recipient())

Run = Callable[..., Awaitable[Done]]


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with running_gateway(tmp_path, **SETTINGS) as running:
        yield running


@pytest.fixture
async def session(gateway: RunningGateway) -> OpenSession:
    return await open_session(gateway, "101", retention="open")


@pytest.fixture
def run(gateway: RunningGateway, tmp_path: Path) -> Run:
    """Run a command as the operator, or with the token in ``token``."""

    async def run_it(*arguments: str, token: str | None = None) -> Done:
        file = gateway.data_dir / OPERATOR_TOKEN_FILE
        if token is not None:
            file = tmp_path / "token"
            file.write_text(token)
        to = ("--url", gateway.url, "--token-file", str(file))
        return await command_beside(*arguments, *to, cwd=tmp_path)

    return run_it


async def put(run: Run, tmp_path: Path, token: str, session_id: str, *more: str) -> dict[str, Any]:
    (tmp_path / "prompt.txt").write_text("content")
    where = ("--session", session_id, "--task", "1")
    done = await run("put", *where, *more, "--json", "prompt.txt", token=token)
    assert (0, "") == (done.status, done.err)
    return dict(json.loads(done.out))


async def test_put_says_how_long_it_is_kept(
    gateway: RunningGateway, session: OpenSession, run: Run, tmp_path: Path
) -> None:
    mine = await put(run, tmp_path, session.user_token, "101", "--lifetime", "30d")
    blind = await open_blind(gateway)
    token = blind.tokens["user"]
    sealed_here = await put(run, tmp_path, token, blind.session_id, "--lifetime", "2m")
    refused = await run(
        *("put", "--session", blind.session_id, "--task", "2", "--lifetime", "1d", "prompt.txt"),
        token=token,
    )

    assert [30 * DAY_S, 120] == [lives_s(document) for document in (mine, sealed_here)]
    assert (1, b"") == (refused.status, refused.out)
    assert "at most 600 seconds" in refused.err
    assert "[lifetime_too_long]" in refused.err


async def test_a_session_is_opened_with_a_policy_and_goes_over_to_another(
    gateway: RunningGateway, run: Run
) -> None:
    opened = await run(
        "session", "open", "--user", RECIPIENT, "--session", "7", "--retention", "strict"
    )
    raised = await run("session", "retain", "7", "stricter")
    again = await run("session", "retain", "7", "stricter", "--json")
    refused = await run("session", "retain", "7", "brief")
    unknown = await run("session", "retain", "7", "nobody")

    assert "strict" == json.loads(opened.out)["retention"]["policy"]
    assert (0, b"stricter compliance\n", "") == (raised.status, raised.out, raised.err)
    assert "stricter" == json.loads(again.out)["retention"]["policy"]
    assert (1, b"") == (refused.status, refused.out)
    assert "[lifetime_too_short]" in refused.err
    assert 1 == unknown.status
    assert "'forever', 'brief', 'open', 'strict', 'stricter'" in unknown.err


async def test_lifetime_and_lease_are_shown_and_changed(gateway: RunningGateway, run: Run) -> None:
    held = await kept(gateway, "open")
    token = held.session.user_token
    first = await run("retention", "show", held.urn, token=token)
    longer = await run("retention", "set", held.urn, "90d", "--json", token=token)
    forever = await run("retention", "set", held.urn, "forever")
    shorter = await run("retention", "set", held.urn, "45m", token=token)
    mine = await run("retention", "renew", held.urn, "12h", token=token)
    operators = await run("retention", "renew", held.urn, "2d", "--json")
    kept_by = await run("retention", "let-go", held.urn, token=token)
    now = await held.shown()

    assert [0] * 7 == [
        done.status for done in (first, longer, forever, shorter, mine, operators, kept_by)
    ]
    committed, expires = now["committed"], now["expires"]
    until = first.out.decode().splitlines()[2].split()[-1]
    assert [
        "policy        open (governance)",
        f"committed     {committed}",
        f"keep until    {until}",
        "held          no",
        f"expires       {until}",
        f"a sweep would keep it: lifetime, until {until}",
    ] == first.out.decode().splitlines()
    assert 60_000 == ms_of(until) - ms_of(committed)
    assert 90 * DAY_S == lives_s(json.loads(longer.out))
    assert b"\nkeep until    for ever\n" in forever.out
    assert b"\nexpires       never\n" in forever.out
    assert b"\nlease         user, until " in mine.out
    assert ["operator", "user"] == [x["holder"] for x in json.loads(operators.out)["leases"]]
    assert f"\nlease         operator, until {expires}\n" in kept_by.out.decode()
    assert b"user" not in kept_by.out
    assert 45 * 60_000 == ms_of(now["keep_until"]) - ms_of(committed)


async def test_what_expired_says_so_and_is_had_back(gateway: RunningGateway, run: Run) -> None:
    held = await kept(gateway, "open")
    await held.expire()
    token = held.session.user_token
    read = await run("get", held.urn, "--plaintext", token=token)
    shown = await run("retention", "show", held.urn, token=token)
    after = (await held.shown())["erase_after"]
    renewed = await run("retention", "renew", held.urn, "5m", token=token)
    back = await run("get", held.urn, "--plaintext", token=token)

    assert 1 == read.status
    assert after in read.err
    assert "[expired]" in read.err
    assert f"\nerased after  {after}\n" in shown.out.decode()
    assert f"a sweep would keep it: grace, until {after}\n" in shown.out.decode()
    assert b"erased after" not in renewed.out
    assert (0, b"content") == (back.status, back.out)


async def test_a_refusal_is_told_and_ends_with_1(gateway: RunningGateway, run: Run) -> None:
    held = await kept(gateway, "stricter")
    token = held.session.user_token
    await held.leased(1000)
    refused = [
        (await run("retention", "set", held.urn, "90s", token=token), "lifetime_too_short"),
        (await run("retention", "let-go", held.urn, token=token), "lifetime_too_short"),
        (await run("retention", "renew", held.urn, "0s", token=token), "invalid_field"),
        (await run("retention", "show", "urn:blob:v4:" + "a" * 32), "not_found"),
        (
            await run("retention", "renew", held.urn, "1d", token=held.session.miner_token),
            "forbidden",
        ),
    ]

    for done, code in refused:
        assert (1, b"") == (done.status, done.out)
        assert f"[{code}]" in done.err


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("45m", 2700), ("12h", 43200), ("30d", 2_592_000), ("0s", 0), ("007s", 7)],
)
def test_a_duration_has_a_unit(text: str, seconds: int) -> None:
    assert seconds == duration(text) == lifetime(text)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND"),
        (["show"], "URN"),
        *(
            (["renew", "urn:x", f"{wrong}"], "write it like 30d, 12h, 45m or 90s")
            for wrong in (
                "30",
                "d",
                "",
                "1.5h",
                "30D",
                "1w",
                "٣d",
                "1 d",
                "forever",
                "9" * 13 + "s",
            )
        ),
        (["set", "urn:x", "+3d"], "write it like 30d"),
    ],
)
def test_wrong_usage_is_told(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_command(["retention", *arguments])

    assert 2 == ended.value.code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["show", "set", "renew", "let-go"])
def test_help_has_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_command(["retention", verb, "--help"])

    assert 0 == ended.value.code
    assert f"storage-gateway retention {verb} urn:blob:v4:" in capsys.readouterr().out
