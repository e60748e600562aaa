"""Goal: keys are shown, rotated and retired from a terminal; jobs are begun, followed, left and
stopped; a reader with a stale key is told which one it needs.

Method: the real command beside a real gateway; what it says, how it ends, and whether the new
identities open what was sealed before.
"""

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from crypto import X25519Identity
from storage_gateway.cli import run as run_command
from tests.commands import Done, command_beside
from tests.gateway import MINER, OpenSession, RunningGateway, eventually, open_session
from tests.gateway import running_gateway as running
from tests.http.steps import uploaded
from tests.http.test_jobs import filled, heads, put_head
from tests.http.test_keys import keys_of
from tests.requirements import ROOT

Run = Callable[..., Awaitable[Done]]
STATE = ("keys", "state", "--session", "1", "--version", "1", "--state", "disabled")
VERBS = {
    "keys": ("census", "rotate", "state", "rewrap", "reseal", "migrate"),
    "jobs": ("list", "show", "stop"),
}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with running(tmp_path, key_retiring_s=0, key_disabled_s=0) as one:
        yield one


@pytest.fixture
async def session(gateway: RunningGateway, tmp_path: Path) -> OpenSession:
    one = await open_session(gateway)
    (tmp_path / "user.txt").write_text(one.user.to_text())
    return one


@pytest.fixture
def run(gateway: RunningGateway, tmp_path: Path) -> Run:
    async def run_it(*arguments: str, token: str | None = None) -> Done:
        given = token or gateway.operator_token
        environment = {"GATEWAY_URL": gateway.url, "GATEWAY_TOKEN": given}
        return await command_beside(*arguments, environment=environment, cwd=tmp_path)

    return run_it


def new_identity(tmp_path: Path, name: str = "new.txt") -> X25519Identity:
    identity = X25519Identity.generate()
    (tmp_path / name).write_text(identity.to_text())
    return identity


async def test_a_key_is_rotated_and_the_old_one_retired(
    gateway: RunningGateway, session: OpenSession, run: Run, tmp_path: Path
) -> None:
    bodies = await filled(gateway, session, 6)
    of_user = ("--session", session.session_id, "--party", "user")
    identity = new_identity(tmp_path)
    token = session.user_token

    rotated = await run("keys", "rotate", *of_user, "--identity", "new.txt", token=token)
    urn, body = next(iter(bodies.items()))
    opened = await run("get", urn, "-i", "new.txt", token=token)
    census = await run("keys", "census", "--session", session.session_id, token=token)
    listed = await run("keys", "census", "--session", session.session_id, "--json")
    step = ("keys", "state", *of_user, "--version", "1", "--state")
    disabled = await run(*step, "disabled", token=token)
    skipped = await run(*step, "disabled", "--urgent", token=token)

    assert 0 == rotated.status, rotated
    lines = rotated.out.decode().splitlines()
    assert "user: version 2 is active, proven" == lines[0]
    assert "done, 6 done, 0 changed, 0 failed of 6" in lines[1]
    assert str(identity.to_text()) not in rotated.out.decode() + rotated.err
    assert (0, body) == (opened.status, opened.out), opened
    rows = [re.split(r"\s{2,}", line) for line in census.out.decode().splitlines()]
    assert ["user", "1", "classic", "retiring", "unproven", "0", "0"] == rows[1][:7]
    assert ["user", "2", "classic", "active", "proven", "6", "0", "no"] == rows[2]
    keys = json.loads(listed.out)["keys"]
    assert {(k["version"], k["heads"]) for k in keys if k["party"] == "user"} == {(1, 0), (2, 6)}
    assert (0, b"user: version 1 is disabled, unproven\n") == (disabled.status, disabled.out)
    assert (0, disabled.out) == (skipped.status, skipped.out)


async def test_a_recipient_alone_is_unproven_and_old_heads_may_wait(
    gateway: RunningGateway, session: OpenSession, run: Run, tmp_path: Path
) -> None:
    await filled(gateway, session, 3)
    before = await heads(gateway)
    recipient = str(new_identity(tmp_path).recipient())
    of_miner = ("--session", session.session_id, "--party", "miner", "--miner", MINER)

    rotated = await run(
        "keys", "rotate", *of_miner, "--recipient", recipient, "--no-rewrap", "--json"
    )
    unchanged = await heads(gateway)
    counted = await run("keys", "rewrap", "--session", session.session_id, "--dry-run")
    still = await heads(gateway)
    done = await run("keys", "rewrap", "--json")
    none = await run("jobs", "list", token=session.user_token)

    document = json.loads(rotated.out)
    assert (2, "unproven", None) == (
        document["key"]["version"],
        document["key"]["proof"],
        document["job"],
    )
    assert before == unchanged == still
    assert f"rewrap: 3 to do\n  {session.session_id}: 3\n" == counted.out.decode()
    job = json.loads(done.out)
    assert (0, "done", 3, []) == (
        done.status,
        job["state"],
        job["progress"]["done"],
        job["failures"],
    )
    assert before != await heads(gateway)
    assert b"no jobs\n" == none.out  # it was over all sessions: the operator's alone


async def test_what_could_not_be_done_is_listed_and_ends_with_1(
    gateway: RunningGateway, session: OpenSession, run: Run, tmp_path: Path
) -> None:
    bodies = await filled(gateway, session, 4)
    broken = min(await heads(gateway))
    await gateway.catalog.run(partial(put_head, object_id=broken, head=b"not a head"))
    new_identity(tmp_path)
    of_user = ("--session", session.session_id, "--party", "user")

    rotated = await run("keys", "rotate", *of_user, "--identity", "new.txt")
    job_id = rotated.out.decode().splitlines()[1].split()[0]
    shown = await run("jobs", "show", job_id)
    followed = await run("jobs", "show", job_id, "--follow", "--json")

    urn = next(urn for urn in bodies if urn.endswith(broken))
    assert 1 == rotated.status
    assert "3 done, 0 changed, 1 failed of 4" in rotated.out.decode()
    assert f"  {urn}: " in rotated.out.decode()
    assert "[head_refused]" in rotated.out.decode()
    assert (0, rotated.out.split(b"\n", 1)[1]) == (shown.status, shown.out)
    assert (1, [urn]) == (
        followed.status,
        [failure["urn"] for failure in json.loads(followed.out)["failures"]],
    )


async def test_ctrl_c_leaves_the_job_running(
    gateway: RunningGateway, session: OpenSession, run: Run, tmp_path: Path
) -> None:
    for number in range(3):
        other = await open_session(gateway, f"10{number}")
        await uploaded(gateway, other.path("t"), other.user_token, b"body")
        recipient = str(X25519Identity.generate().recipient())
        of_user = ("--session", other.session_id, "--party", "user")
        await run("keys", "rotate", *of_user, "--recipient", recipient, "--no-rewrap")
    environment = {"GATEWAY_URL": gateway.url, "GATEWAY_TOKEN": gateway.operator_token}
    main, other_end = pty.openpty()
    with closing(os.fdopen(main, "rb", buffering=0)) as terminal:
        process = await asyncio.to_thread(
            partial(
                subprocess.Popen,
                [sys.executable, "-m", "storage_gateway", "keys", "rewrap", "--rate", "0.2"],
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                stderr=other_end,
                stdout=subprocess.DEVNULL,
            )
        )
        os.close(other_end)
        said = b""
        while b"heads" not in said:  # the bar
            said += await asyncio.to_thread(terminal.read, 4096)
        process.send_signal(signal.SIGINT)
        while b"--follow" not in said:
            said += await asyncio.to_thread(terminal.read, 4096)
        status = await asyncio.to_thread(process.wait)
    job_id = (re.findall(rb"jobs show (\w+) --follow", said))[0].decode()
    shown = await run("jobs", "show", job_id, "--json")
    stopped = await run("jobs", "stop", job_id)

    async def has_ended() -> bool:
        return "ended" in json.loads((await run("jobs", "show", job_id, "--json")).out)

    await eventually(has_ended, what="the end of the job")
    followed = await run("jobs", "show", job_id, "--follow")

    assert 130 == status
    assert b"1/3" in said or b"0/3" in said
    assert "running" == json.loads(shown.out)["state"]
    assert (0, True) == (stopped.status, b": stopping" in stopped.out), stopped
    assert (1, True) == (followed.status, b": stopped" in followed.out), followed


async def test_get_says_which_key_it_has_and_tries_the_next(
    gateway: RunningGateway, session: OpenSession, run: Run, tmp_path: Path
) -> None:
    document = await uploaded(gateway, session.path("t1"), session.user_token, b"old")
    urn, token = document["urn"], session.user_token
    identity = new_identity(tmp_path)
    of_user = ("--session", session.session_id, "--party", "user")
    await run("keys", "rotate", *of_user, "--identity", "new.txt", "--no-rewrap")
    (tmp_path / "both.txt").write_text(identity.to_text() + "\n" + session.user.to_text())
    (tmp_path / "miner.txt").write_text(session.miner.to_text())

    stale = await run("get", urn, "-i", "new.txt", token=token)
    either = await run("get", urn, "-i", "both.txt", token=token)
    of_another = await run("get", urn, "-i", "miner.txt", token=token)
    several = await run("keys", "rotate", *of_user, "--identity", "both.txt")

    assert (1, b"") == (stale.status, stale.out)
    assert "version 2 is held, the object is sealed for version 1" in stale.err
    assert "[stale_key_reader]" in stale.err
    assert "POST /v1/jobs" in stale.err
    assert (0, b"old") == (either.status, either.out), either
    assert (0, b"old") == (of_another.status, of_another.out), of_another
    assert (1, True) == (several.status, "the file has 2 identities" in several.err)


async def test_a_miner_rotates_its_key_and_others_wrap_anew(
    gateway: RunningGateway, session: OpenSession, run: Run, tmp_path: Path
) -> None:
    new_identity(tmp_path)
    of_miner = ("--session", session.session_id, "--party", "miner", "--miner", MINER)
    rotate = ("keys", "rotate", *of_miner, "--identity", "new.txt")
    rotated = await run(*rotate, token=session.miner_token)
    alone = await run(*rotate, "--no-rewrap", token=session.miner_token)
    other = await run(*rotate, token=session.user_token)

    assert 1 == rotated.status
    assert b"version 2 is active, proven" in rotated.out
    assert "the key is registered; what was sealed before is not wrapped for it yet" in rotated.err
    assert 0 == alone.status, alone
    assert (1, b"") == (other.status, other.out)
    assert "[forbidden]" in other.err


async def test_the_routers_own_keys_are_shown_and_refusals_told(
    gateway: RunningGateway, session: OpenSession, run: Run
) -> None:
    shown = await run("keys", "census", "--json")
    refused = await run("keys", "state", "--router", "--version", "1", "--state", "destroyed")
    foreign = await run("keys", "census", token=session.user_token)

    assert [("router", 1, "active")] == [
        (key["party"], key["version"], key["state"]) for key in json.loads(shown.out)["keys"]
    ]
    assert (1, True) == (refused.status, "[key_state_skipped]" in refused.err), refused
    assert (1, True) == (foreign.status, "[forbidden]" in foreign.err)
    assert {1: "active"} == {n: k["state"] for n, k in (await keys_of(gateway, session)).items()}


async def test_the_routers_own_key_is_rotated(
    gateway: RunningGateway, session: OpenSession, run: Run
) -> None:
    bodies = await filled(gateway, session, 3)
    before = await heads(gateway)
    rotated = await run("keys", "rotate", "--router", "--json")
    after = await heads(gateway)
    census = await run("keys", "census", "--json")
    plain = await run("get", next(iter(bodies)), "--plaintext", token=session.user_token)

    told = json.loads(rotated.out)
    assert (0, "router", 2) == (rotated.status, told["key"]["party"], told["key"]["version"])
    assert ("done", 3, []) == (
        told["job"]["state"],
        told["job"]["progress"]["done"],
        told["job"]["failures"],
    )
    assert not set(before.values()) & set(after.values())
    found = {key["version"]: key for key in json.loads(census.out)["keys"]}
    assert {1: ("retiring", 0), 2: ("active", 3)} == {
        version: (key["state"], key["heads"]) for version, key in found.items()
    }
    assert (0, next(iter(bodies.values()))) == (plain.status, plain.out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["keys", "rotate", "--router", "--party", "user"], "no --party"),
        (["keys", "rotate", "--router", "--recipient", "age1x"], "makes its own identity"),
        (["keys", "rotate", "--session", "1", "--party", "user"], "give --identity FILE"),
        (["keys", "rotate", "--session", "1", "--recipient", "age1x"], "needs --party"),
        ([*STATE, "--party", "miner"], "goes with --miner"),
        ([*STATE, "--party", "user", "--miner", MINER], "goes with --miner"),
        ([*STATE], "needs --party"),
        (["keys", "rotate", "--session", "1", "--router"], "not allowed with"),
        (["keys"], "COMMAND"),
        (["jobs", "show"], "ID"),
    ],
)
def test_wrong_usage_is_told_and_ends_with_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = run_command(arguments)
    except SystemExit as ended:
        status = int(str(ended.code))

    assert 2 == status
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("group", "verb"), [(group, verb) for group, verbs in VERBS.items() for verb in verbs]
)
def test_every_command_has_help_with_examples(
    group: str, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_command([group, verb, "--help"])

    assert 0 == ended.value.code
    _, _, examples = capsys.readouterr().out.partition("examples:\n")
    assert f"  storage-gateway {group} {verb}" in examples
