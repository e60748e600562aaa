"""Goal: `session open` opens what its options say, and its tokens are neither lost nor shown.

Method: the real command against a gateway with three stores in two failure domains; what the
gateway then says of the session, and what the file is that it was written to.
"""

import asyncio
import json
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from crypto import X25519Identity
from storage_gateway.cli import run as run_command
from storage_gateway.custody import OPERATOR_TOKEN_FILE
from tests.commands import Done, command_beside
from tests.gateway import MINER, RunningGateway, running_gateway
from tests.http.raw import exchange, request
from tests.http.steps import uploaded

RECIPIENT = str(X25519Identity.generate().recipient())
DOMAINS = {"one": "near", "two": "near", "three": "far"}

Run = Callable[..., Awaitable[Done]]


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    backends = [
        {"kind": "local", "name": name, "path": str(tmp_path / name), "failure_domain": domain}
        for name, domain in DOMAINS.items()
    ]
    async with running_gateway(tmp_path, backends=backends, reserve_bytes=0) as running:
        yield running


@pytest.fixture
def run(gateway: RunningGateway, tmp_path: Path) -> Run:
    token = gateway.data_dir / OPERATOR_TOKEN_FILE

    async def run_it(*arguments: str) -> Done:
        to = ("--url", gateway.url, "--token-file", str(token))
        return await command_beside("session", "open", *to, *arguments, cwd=tmp_path)

    return run_it


async def test_a_session_is_as_the_options_say(
    gateway: RunningGateway, run: Run, tmp_path: Path
) -> None:
    wanted = ("--backend", "one", "--backend", "three", "--write-quorum", "1")
    parties = ("--user", RECIPIENT, "--miner", f"{MINER}={RECIPIENT}")
    done = await run(*parties, "--session", "101", *wanted, "-o", "session.json")

    assert (0, b"101\n", "") == (done.status, done.out, done.err)
    file = tmp_path / "session.json"
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    document = json.loads(await asyncio.to_thread(file.read_bytes))
    assert (["one", "three"], 1) == (document["backends"], document["write_quorum"])
    assert [MINER] == [miner["id"] for miner in document["parties"]["miners"]]
    token = document.pop("tokens")["user"]
    shown = await exchange(gateway.address, request("GET", "/v1/sessions/101", token))
    assert document == shown.json()
    await uploaded(gateway, "/v1/sessions/101/tasks/1/input", token, b"content")


async def test_what_is_not_said_is_left_to_the_gateway(run: Run) -> None:
    done = await run("--user", RECIPIENT)

    document = json.loads(done.out)
    assert (0, "") == (done.status, done.err)
    assert (None, None) == (document["backends"], document["write_quorum"])
    assert document["session_id"]
    assert document["tokens"]["user"]


async def test_a_refusal_says_what_to_do_and_leaves_nothing(run: Run, tmp_path: Path) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    unknown = await run("--user", RECIPIENT, "--backend", "four", "-o", "session.json")

    assert (1, b"") == (unknown.status, unknown.out)
    assert "no such backend is configured; there are: one, two, three" in unknown.err
    assert before == sorted(path.name for path in tmp_path.iterdir())


async def test_a_file_that_is_there_is_kept_and_no_session_opened(
    gateway: RunningGateway, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "session.json").write_text("of another session")
    done = await run("--user", RECIPIENT, "--session", "7", "-o", "session.json")
    path = request("GET", "/v1/sessions/7", gateway.operator_token)
    answer = await exchange(gateway.address, path)

    assert 1 == done.status
    assert "the file exists" in done.err
    assert "of another session" == (tmp_path / "session.json").read_text()
    answer.problem(404, "unknown_session")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "COMMAND"),
        (["open"], 2, "--user"),
        (["open", "--user", RECIPIENT, "--miner", MINER], 2, "write it like 0x…=age1…"),
        (["open", "--user", RECIPIENT, "--write-quorum", "x"], 2, "--write-quorum"),
        (["open", "--help"], 0, "--backend NAME"),
        (["open", "--help"], 0, "--write-quorum N"),
    ],
)
def test_usage_is_told(
    arguments: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_command(["session", *arguments])

    assert status == ended.value.code
    assert said in "".join(capsys.readouterr())
