"""Goal: the figures over an S3 server compare like with like, and their floors stand where they
should. Method: made-up figures for the rows; the requests of the client alone, the peers' pipes and
the steps of the null sealer by themselves. That it all runs: the quick run of test_bench.
"""

import asyncio
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from bench import backends, privacy
from bench.backends import rows_of
from bench.direct import Batch, blobs, requests, send_all
from bench.figures import Row, Sample, Verdict
from bench.machine import NotMeasurable
from bench.null_sealer import main, nothing_sealed
from bench.plan import Plan, quick_plan
from bench.report import cells
from bench.s3_commands import AgePiped, Command, RcloneCrypt
from bench.s3_server import S3Server
from bench.s3_sides import Direct, Gateway, Taken
from bench.s3_small import Counted
from bench.s3_watch import Watched
from bench.sides import SideMissing
from crypto import (
    CHUNK_SIZE,
    LEAF_SIZE,
    SEGMENT_SIZE,
    X25519Identity,
    new_bare_head,
    sealed_size,
)
from storage_gateway import read, write
from storage_gateway.backends.s3_client import Request, S3Client
from storage_gateway.leaves import Part
from tests.servers.seaweedfs import SeaweedFS

GIB = 1 << 30


def row(
    ours: float,
    *,
    least: float | None = None,
    most: float | None = None,
    full: bool,
    unit: str = "s",
) -> Row:
    return Row(
        "a row",
        unit,
        Sample((ours,)),
        "peer",
        Sample((10.0,)),
        ratio_min=least,
        ratio_max=most,
        saturated=full,
        beside="what was seen",
    )


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        (row(7, least=0.7, full=False), Verdict.HOLDS),
        (row(7, least=0.7, full=True), Verdict.HOLDS),
        (row(6.9, least=0.7, full=False), Verdict.MISSED),
        (row(6.9, least=0.7, full=True), Verdict.SATURATED),
        (row(13, most=1.3, full=False), Verdict.HOLDS),
        (row(13.1, most=1.3, full=False), Verdict.MISSED),
        (row(13.1, most=1.3, full=True), Verdict.SATURATED),
        # It excuses slowness, not dearness.
        (row(13.1, most=1.3, full=True, unit="CPU s/GiB"), Verdict.MISSED),
        (row(1, full=True), Verdict.NO_FLOOR),
    ],
)
def test_a_floor_may_be_a_ceiling_and_a_full_server_an_excuse(
    figures: Row, expected: Verdict
) -> None:
    assert expected == figures.verdict(judged=True)


def test_a_ceiling_without_a_peer_is_missed() -> None:
    assert Verdict.MISSED == Row("a", "s", Sample((1.0,)), ratio_max=1.0).verdict(judged=True)


def test_a_ceiling_and_what_is_beside_are_shown() -> None:
    shown = cells(row(13.1, most=1.3, full=False), judged=True)

    assert ("<= 1.3 x", "MISSED", "what was seen") == shown[-3:]


def watched(*, cpu_s: float, core: float) -> Watched:
    """Return what a side left behind that used so much, beside a server that used half of it."""
    done = Watched(cast("S3Server", None), lambda: Taken(1.0, 1.0))
    done.cpu_s, done.server_shares, done.core_shares = [cpu_s], [core / 2], [core]
    return done


@pytest.mark.parametrize(("core", "expected"), [(0.94, Verdict.MISSED), (0.95, Verdict.SATURATED)])
def test_each_floor_stands_at_its_peer(core: float, expected: Verdict) -> None:
    sides = {
        Gateway.name: watched(cpu_s=3, core=core),
        Direct.name: watched(cpu_s=1, core=1),
        RcloneCrypt.name: watched(cpu_s=4, core=1),
        AgePiped.name: watched(cpu_s=2.9, core=1),
    }
    walls = dict(zip(sides, (Sample((s,)) for s in (10.0, 6.0, 11.0, 9.0)), strict=True))

    rows = rows_of("upload", GIB, walls, sides)

    wanted = [
        ("upload", Direct.name, ">= 0.7 x", expected),
        ("upload", RcloneCrypt.name, ">= 1 x", Verdict.HOLDS),
        ("upload", AgePiped.name, "", Verdict.NO_FLOOR),
        ("upload, CPU", AgePiped.name, "<= 1 x", Verdict.MISSED),
        ("upload, CPU", RcloneCrypt.name, "<= 1 x", Verdict.HOLDS),
    ]
    found = [(one.name, one.peer_name, one.floor, one.verdict(judged=True)) for one in rows]
    assert wanted == found
    assert (3.0, 1.0) == rows[0].cpu
    assert "of its core" in rows[0].beside


@dataclass
class SlowAtFirst:
    """A client whose first call takes as long as all others together."""

    log: list[str] = field(default_factory=list)

    async def call(self, request: Request) -> SimpleNamespace:
        self.log.append(f"{request.key} begins")
        for _ in range(10 if request.key == "0" else 0):
            await asyncio.sleep(0)
        self.log.append(f"{request.key} ends")
        return SimpleNamespace(body=b"")


@pytest.mark.parametrize("in_rounds", [True, False])
async def test_a_round_begins_when_the_last_one_is_answered(in_rounds: bool) -> None:
    client = SlowAtFirst()
    asked = [Request(method="PUT", key=str(number), body=b"") for number in range(4)]
    batch = Batch("put", "bucket", 4, 1, at_once=2, in_rounds=in_rounds)

    await send_all(cast("S3Client", client), asked, batch)

    assert in_rounds == (client.log.index("0 ends") < client.log.index("2 begins"))
    assert 8 == len(client.log)


@dataclass
class BusyServer:
    """A server and a load generator whose CPU time goes on as told; what is left is done first."""

    server: list[float] = field(default_factory=lambda: [1.0, 8.0, 9.0])
    load: list[float] = field(default_factory=lambda: [5.0, 5.9])

    def cpu_s(self) -> float:
        return self.server.pop(0)

    def load_s(self) -> float:
        return self.load.pop(0)

    def wait_quiet(self) -> None:
        self.server.pop(0)


def test_the_core_of_the_server_is_what_it_and_the_load_use() -> None:
    busy = BusyServer()
    side = Watched(cast("S3Server", busy), lambda: Taken(2.0, 1.5), load_s=busy.load_s)

    assert 2.0 == side.measure()

    assert [1.5] == side.cpu_s
    assert [0.5] == side.server_shares
    assert [pytest.approx(0.95)] == side.core_shares


def test_a_server_is_quiet_once_it_uses_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    used, waited = [1.0, 3.0, 5.0, 5.0], list[float]()
    monkeypatch.setattr(S3Server, "cpu_s", lambda _server: used.pop(0))
    monkeypatch.setattr("time.sleep", waited.append)

    S3Server(cast("SeaweedFS", None)).wait_quiet()

    assert [] == used
    assert 3 == len(waited)


@pytest.mark.parametrize("size", [0, 4096, SEGMENT_SIZE, 3 * SEGMENT_SIZE + 1])
def test_the_client_alone_moves_the_blobs_of_a_gateway(size: int) -> None:
    batch = Batch("put", "bucket", 2, sealed_size(size), at_once=1, first=5)

    found = blobs(batch)

    assert 2 * -(-sealed_size(size) // SEGMENT_SIZE) == len(found) == len(dict(found))
    assert 2 * sealed_size(size) == sum(each for _, each in found)
    assert SEGMENT_SIZE >= max(each for _, each in found)
    bodies = [one.body for one in requests(batch, {})]
    assert [each for _, each in found] == [len(body) for body in bodies if isinstance(body, bytes)]


def test_the_client_alone_reads_four_leaves_at_a_time() -> None:
    batch = Batch("get", "bucket", 1, SEGMENT_SIZE + 10, at_once=1)

    ranges = [(one.key, one.byte_range) for one in requests(batch, {})]

    half = 4 * LEAF_SIZE
    assert [("0/0", (0, half)), ("0/0", (half, half)), ("0/1", (0, 10))] == ranges


def fake_server() -> S3Server:
    seaweedfs = SimpleNamespace(endpoint="http://127.0.0.1:1", access_key="a", secret_key="s")
    return cast("S3Server", SimpleNamespace(seaweedfs=seaweedfs, new_bucket=lambda: "bucket"))


class Shell(Command):
    """Any commands."""

    name = "shell"
    version = "0"
    pipe: tuple[str, ...] = ()

    def _uploading(self) -> list[list[str]]:
        return [["/bin/sh", "-c", each] for each in self.pipe]

    _downloading = _uploading


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Return commands, on a machine with an rclone and with somebody's settings for AWS."""
    rclone = tmp_path / "rclone"
    rclone.touch()
    rclone.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("AWS_CA_BUNDLE", "/somewhere")
    return Shell(fake_server(), tmp_path, tmp_path / "plaintext")


def test_all_commands_of_a_pipe_are_run_and_counted(shell: Shell, tmp_path: Path) -> None:
    burn = f"{sys.executable} -S -c 'import time\nwhile time.process_time() < 0.05: pass'"
    shell.pipe = (f"{burn}; echo one", f"{burn}; cat >{tmp_path}/out; env >{tmp_path}/env")

    taken = shell.upload()

    assert "one\n" == (tmp_path / "out").read_text()
    assert taken.cpu_s >= 0.1
    environment = (tmp_path / "env").read_text()
    assert "RCLONE_CONFIG_CRYPT_REMOTE=server:bucket" in environment
    assert "AWS_" not in environment  # rclone would take them for its own


@pytest.mark.parametrize("pipe", [("exit 3", "cat"), ("echo x", "cat >&2; exit 4")])
def test_a_command_that_fails_is_no_figure(shell: Shell, pipe: tuple[str, ...]) -> None:
    shell.pipe = pipe

    with pytest.raises(NotMeasurable, match="shell failed"):
        shell.download()


@pytest.mark.parametrize("kind", [RcloneCrypt, AgePiped])
def test_a_command_that_is_not_there_is_named(
    kind: type[Command], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(SideMissing, match="there is no rclone"):
        kind(fake_server(), tmp_path, tmp_path)


def steps() -> list[object]:
    """Return what the gateway now seals and opens by."""
    return [vars(write)[name] for name in ("sealing", "new_head", "open_head")] + [
        vars(read)["open_head"]
    ]


@pytest.mark.parametrize(
    "measure", [backends.measure, privacy.measure], ids=["backends", "privacy"]
)
def test_without_an_s3_server_the_report_says_so(
    measure: Callable[[Plan], list[Row]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.s3_server.installed", lambda: None)
    plan = quick_plan(tmp_path, lambda _text: None)

    assert [] == measure(plan)

    (note,) = plan.notes
    assert "NOT MEASURED, there is no SeaweedFS" in note
    assert "make test-tools" in note


def test_without_commands_the_rest_is_measured_and_the_report_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    plan = quick_plan(tmp_path, lambda _text: None)

    assert [] == list(backends.installed_commands(plan, fake_server(), b"plaintext"))

    missing = "NOT MEASURED, there is no rclone (to get it: make bench-tools)"
    assert [f"{kind.name}: {missing}" for kind in (RcloneCrypt, AgePiped)] == plan.notes


def test_requests_are_counted_with_the_time_of_their_run() -> None:
    answers = [(Taken(2.0, 1.0), 20), (Taken(4.0, 1.0), 20)]
    counted = Counted(lambda: answers.pop(0))

    walls = Sample((counted.work().wall_s, counted.work().wall_s))

    assert Sample((10.0, 5.0)) == counted.rate(walls)


def sealed_by_the_gateway(data: bytes) -> bytes:
    """Return what the step of sealing makes of a body."""
    sealer = new_bare_head([X25519Identity.generate().recipient()]).sealer
    part = Part(leaf=0, offset=0, data=data, ends_leaf=True, last=True)
    return bytes(vars(write)["sealing"](sealer, part)())


@pytest.mark.parametrize("size", [0, 5, CHUNK_SIZE, 2 * CHUNK_SIZE + 1])
def test_the_null_sealer_hides_nothing_and_changes_no_size(size: int) -> None:
    data = b"secret. " * (size // 8) + b"s" * (size % 8)
    real, sealed = steps(), sealed_by_the_gateway(data)
    with nothing_sealed():
        assert not set(real) & set(steps())
        clear = sealed_by_the_gateway(data)
        opened, out = vars(read)["open_head"](b"", []), bytearray(size)
        opened.opener().open_run_into(0, clear, out, last=True)

    assert len(sealed) == len(clear)
    assert clear.startswith(data[:CHUNK_SIZE])
    assert data == out
    assert not data or not sealed.startswith(data[:CHUNK_SIZE])
    assert real == steps()


def test_a_null_sealer_without_a_step_to_replace_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(write, "sealing")

    with pytest.raises(AttributeError, match="sealing"), nothing_sealed():
        pass


def test_the_null_sealer_leaves_a_folder_alone_that_exists(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["serve", "--data-dir", str(tmp_path)])

    assert 2 == refused.value.code
    assert [] == list(tmp_path.iterdir())
