"""Goal: the benchmarks judge as they say, and hide nothing. Method: made-up figures for medians,
floors and reports; a run of seconds for the measuring itself.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from xml.dom.minidom import parseString

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import metering
from bench.__main__ import Benchmarks, main
from bench.figures import Row, Sample, Verdict, interleave, net_of, one_after_the_other, rate_of
from bench.ipfs import has_node
from bench.kernels import Peer, against, both_ways, started
from bench.machine import NotMeasurable, cores, require_space
from bench.ours import OursByLeaf
from bench.plan import Plan, quick_plan
from bench.plot import draw, panels
from bench.report import BEGIN, END, RegionMissing, markdown, replace_region, text_table
from bench.servers import bare_server
from bench.sides import Side
from bench.small import AT_ONCE
from bench.thin import Connection, TransferFailed
from bench.worker import timed
from crypto import LEAF_PLAINTEXT_SIZE, CryptoError
from storage_gateway.metrics import Metrics
from storage_gateway.parts import open_parts
from tests.requirements import ROOT
from tests.servers.seaweedfs import installed

RATES = st.floats(min_value=0.1, max_value=1e5)


def row(ours: float, *, peer: float | None = None, floor: float | None = None) -> Row:
    return Row(
        "a row",
        "MB/s",
        Sample((ours,)),
        "peer",
        None if peer is None else Sample((peer,)),
        ratio_min=floor,
    )


def memory_row(ours: float) -> Row:
    return Row("memory", "MiB", Sample((ours,)), ours_max=64.0)


def test_a_median_is_not_moved_by_one_wild_run() -> None:
    sample = Sample((100.0, 1.0, 102.0))

    assert 100.0 == sample.median
    assert 1.01 == sample.spread


def test_a_sample_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Sample(())


def test_sides_are_measured_in_turn() -> None:
    asked: list[str] = []

    def side(name: str, values: list[float]) -> float:
        asked.append(name)
        return values.pop(0)

    ours, peers = [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]

    samples = interleave({"a": lambda: side("a", ours), "b": lambda: side("b", peers)}, 3)

    assert ["a", "b", "a", "b", "a", "b"] == asked
    assert {"a": Sample((1.0, 2.0, 3.0)), "b": Sample((4.0, 5.0, 6.0))} == samples


def test_a_round_to_warm_up_counts_for_no_side() -> None:
    asked: list[str] = []
    told: list[tuple[str, float]] = []

    def side(name: str) -> float:
        asked.append(name)
        return float(len(asked))

    sides = {name: lambda name=name: side(name) for name in ("a", "b")}
    samples = interleave(sides, 2, lambda *value: told.append(value), warm_up=True)

    assert ["a", "b"] * 3 == asked
    assert {"a": Sample((3.0, 5.0)), "b": Sample((4.0, 6.0))} == samples
    assert [("a", 3.0), ("b", 4.0), ("a", 5.0), ("b", 6.0)] == told


@given(st.lists(st.tuples(RATES, RATES), min_size=1))
def test_two_kinds_of_work_on_one_core_are_slower_than_either(
    pairs: list[tuple[float, float]],
) -> None:
    first, second = (Sample(tuple(side)) for side in zip(*pairs, strict=True))

    both = one_after_the_other(first, second)

    for slow, a, b in zip(both.values, first.values, second.values, strict=True):
        assert pytest.approx(1.0) == slow / a + slow / b


@pytest.mark.parametrize(
    ("figures", "judged", "expected"),
    [
        (row(50, peer=100, floor=0.5), True, Verdict.HOLDS),
        (row(49.9, peer=100, floor=0.5), True, Verdict.MISSED),
        (row(49.9, peer=100, floor=0.5), False, Verdict.NOT_JUDGED),
        (row(50, floor=0.5), True, Verdict.MISSED),  # no peer, no proof
        (row(1, peer=100), True, Verdict.NO_FLOOR),
        (row(1, peer=100), False, Verdict.NO_FLOOR),
        (memory_row(63.9), True, Verdict.HOLDS),
        (memory_row(64), True, Verdict.MISSED),
        (memory_row(64), False, Verdict.NOT_JUDGED),
    ],
)
def test_a_floor_holds_or_is_missed(figures: Row, judged: bool, expected: Verdict) -> None:
    assert expected == figures.verdict(judged=judged)


def test_a_missed_floor_is_shown_in_every_form() -> None:
    rows = [row(10, peer=100, floor=0.5), memory_row(70)]

    table = text_table(rows, judged=True)
    section = markdown(rows, judged=True, machine="m", command="c", date="d")

    assert 2 == table.count("MISSED")
    assert 2 == section.count("MISSED")
    assert "0.10" in table


def test_figures_replace_what_stood_between_the_marks_and_nothing_else() -> None:
    document = f"before\n{BEGIN}\nold\n{END}\nafter\n"

    written = replace_region(document, "new")

    assert f"before\n{BEGIN}\nnew\n{END}\nafter\n" == written
    assert written == replace_region(written, "new")


@pytest.mark.parametrize("document", ["", BEGIN, END, f"{END}\n{BEGIN}"])
def test_a_document_without_marks_is_left_alone(document: str) -> None:
    with pytest.raises(RegionMissing):
        replace_region(document, "new")


def test_the_document_of_the_project_has_the_marks() -> None:
    document = (ROOT / "docs" / "performance.md").read_text()

    assert replace_region(document, "new") != document


def test_a_rate_is_that_of_each_run() -> None:
    assert Sample((500.0, 250.0)) == rate_of(Sample((0.002, 0.004)), 1.0)


def test_a_start_is_taken_off_each_run_unless_noise_hides_what_is_left() -> None:
    start = Sample((1.0, 3.0, 2.0))

    assert Sample((3.0, 1.0)) == net_of(Sample((5.0, 3.0)), start)
    assert net_of(Sample((5.0, 2.0)), start) is None


def compared(rates: dict[str, float], counted: set[str]) -> list[tuple[str, str]]:
    """Return who stands beside ours, and with what floor."""
    samples = {side: Sample((rate,)) for side, rate in rates.items()}
    titles = {side: side.upper() for side in rates}
    rows = against("seal", "/s", samples, titles=titles, counted=counted, ratio_min=1.0)
    return [(found.peer_name, found.floor) for found in rows]


def test_the_floor_stands_at_the_best_peer_that_counts() -> None:
    rates = {"ours": 5.0, "slow": 1.0, "odd": 9.0, "fast": 2.0}

    assert [("ODD", ""), ("FAST", ">= 1 x"), ("SLOW", "")] == compared(rates, {"slow", "fast"})
    assert [("", "")] == compared({"ours": 5.0}, {"slow"})


@pytest.mark.parametrize(
    ("leaves", "expected"),
    [
        ([], [("whole", 5.0, ">= 3 x"), ("whole", 5.0, "")]),
        (
            [7.0],
            [
                ("whole", 5.0, ""), ("whole", 5.0, ""),
                ("by leaf", 7.0, ">= 3 x"), ("by leaf", 7.0, ""),
            ],
        ),
    ],
)  # fmt: skip
def test_large_ones_are_judged_leaf_by_leaf_and_shown_in_one_piece(
    leaves: list[float], expected: list[tuple[str, float, str]]
) -> None:
    rates = {"ours": 5.0, "slow": 1.0, "fast": 2.0}
    if leaves:
        rates["leaves"] = leaves[0]
    samples = {side: Sample((rate,)) for side, rate in rates.items()}

    rows = both_ways(
        ("whole", "by leaf"),
        "MB/s",
        samples,
        titles={"slow": "S", "fast": "F"},
        counted={"slow", "fast"},
        ratio_min=3.0,
    )

    assert ["F", "S"] * (1 + len(leaves)) == [found.peer_name for found in rows]
    assert expected == [(found.name, found.ours.median, found.floor) for found in rows]


class Forgetful(OursByLeaf):
    """Does nothing any more from the second call of what it is told to forget."""

    def __init__(self, folder: Path, forgets: str) -> None:
        super().__init__(folder)
        self.forgets = forgets
        self.calls = {"seal": 0, "open": 0}

    def seal(self) -> None:
        self.calls["seal"] += 1
        if self.forgets != "seal" or self.calls["seal"] == 1:
            super().seal()
        else:
            before = bytes(self._payload)
            super().seal()  # a new head, so that what lies there is of another key
            self._payload[LEAF_PLAINTEXT_SIZE:] = before[LEAF_PLAINTEXT_SIZE:]

    def open(self) -> None:
        self.calls["open"] += 1
        if self.forgets != "open" or self.calls["open"] == 1:
            super().open()
        else:
            self.opened = self._plaintext


@pytest.mark.parametrize("size", [1, LEAF_PLAINTEXT_SIZE, 2 * LEAF_PLAINTEXT_SIZE + 70_000])
def test_leaf_by_leaf_the_same_buffers_serve_again(tmp_path: Path, size: int) -> None:
    side = Forgetful(tmp_path, forgets="nothing")

    for work in ("seal", "open", "seal"):
        assert 1 == timed(side, work, size, 0.0)["count"]


@pytest.mark.parametrize(("work", "refused"), [("open", AssertionError), ("seal", CryptoError)])
def test_what_a_buffer_held_before_is_not_taken_for_work(
    tmp_path: Path, work: str, refused: type[Exception]
) -> None:
    side = Forgetful(tmp_path, forgets=work)

    with pytest.raises(refused):
        timed(side, work, 2 * LEAF_PLAINTEXT_SIZE + 70_000, 0.0)


class Reversing(Side):
    """Seals by turning around; forgets a byte when it is told to."""

    version = "0"

    def __init__(self, lost: int = 0) -> None:
        self.calls = 0
        self.lost = lost

    def seal(self) -> None:
        self.calls += 1
        self.sealed = self.plaintext[self.lost :][::-1]

    def open(self) -> None:
        self.opened = self.sealed[::-1]


def test_a_side_is_timed_for_as_long_as_asked_and_at_least_once() -> None:
    side = Reversing()

    assert 1 == timed(side, "seal", 100, 0.0)["count"]
    assert 100 == len(side.plaintext)
    found = timed(side, "seal", 100, 0.01)
    assert found["seconds"] >= 0.01
    assert side.calls == 1 + 1 + found["count"]  # the first seals once more, to get ready


@pytest.mark.parametrize("work", ["seal", "open"])
def test_a_side_that_does_not_give_the_plaintext_back_has_no_figure(work: str) -> None:
    with pytest.raises(AssertionError, match="plaintext"):
        timed(Reversing(lost=1), work, 100, 0.0)
    side = Reversing()
    timed(side, work, 100, 0.0)
    side.lost = 1
    side.sealed = b"" if work == "open" else side.sealed
    with pytest.raises(AssertionError, match="plaintext"):
        timed(side, work, 100, 0.0)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("/nowhere/python",), "there is no python"),
        ((sys.executable, "-c", 'print(\'{"missing": "no library"}\')'), "no library"),
        ((sys.executable, "-c", "pass"), "it did not start"),
    ],
)
def test_a_peer_that_is_not_there_is_named(
    tmp_path: Path, command: tuple[str, ...], reason: str
) -> None:
    plan = quick_plan(tmp_path, lambda _text: None)

    with ExitStack() as stack:
        worker = started(plan, stack, Peer("a peer", command))

    assert worker is None
    assert [f"a peer: NOT MEASURED, {reason} (to get it: make bench-tools)"] == plan.notes
    assert reason in markdown([], judged=True, machine="m", command="c", date="d", notes=plan.notes)


def test_the_plot_shows_whole_plaintexts_best_first() -> None:
    rows = [
        Row("seal 1 KiB", "/s", Sample((5.0, 7.0)), "a < b", Sample((9.0,))),
        Row("seal 1 KiB", "/s", Sample((5.0, 7.0)), "c", Sample((1.0,))),
        Row("seal head", "µs", Sample((5.0,))),
        Row("upload", "MB/s", Sample((5.0,))),
    ]

    (panel,) = panels(rows)
    assert ["a < b", "storage gateway", "c"] == [name for name, _ in panel.bars]
    drawn = parseString(draw(rows, "today & here"))  # noqa: S318 - drawn a line above
    texts = {text.childNodes[0].nodeValue for text in drawn.getElementsByTagName("text")}
    assert {"a < b", "9", "today & here", "seal 1 KiB, /s"} <= texts


def floors(*rows: Row) -> Benchmarks:
    """Return benchmarks that answer with the rows at once."""

    def measured(plan: Plan) -> list[Row]:
        assert plan.folder.is_dir()
        return list(rows)

    return {"made-up": (measured, "figures of a test")}


@pytest.mark.parametrize(
    ("rows", "arguments", "expected"),
    [
        ([row(60, peer=100, floor=0.5), memory_row(5)], [], 0),
        ([row(60, peer=100, floor=0.5), memory_row(70)], [], 1),
        ([row(40, peer=100, floor=0.5)], ["made-up"], 1),
        ([row(40, peer=100, floor=0.5)], ["--quick"], 0),
    ],
)
def test_the_exit_status_tells_of_a_missed_floor(
    rows: list[Row], arguments: list[str], expected: int
) -> None:
    assert expected == main(arguments, floors(*rows))


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["--runs", "0"], ["--write", "--quick"], ["--write", "small"]]
)
def test_wrong_usage_is_refused_before_anything_is_measured(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(arguments)

    assert 2 == refused.value.code


def test_a_full_disk_is_noticed_beforehand(tmp_path: Path) -> None:
    require_space(tmp_path, 1)
    with pytest.raises(NotMeasurable, match="TMPDIR"):
        require_space(tmp_path, 1 << 60)


def test_a_refused_request_is_no_figure() -> None:
    _, core = cores()
    with bare_server(core, 1) as server, Connection(server.url) as connection:
        with pytest.raises(TransferFailed, match="404"):
            connection.request("GET", "/nothing")
        assert server.peak_memory() > 1 << 20
        assert server.cpu_s() > 0


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Yield a folder whose path is short: sockets of the S3 server are made below it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        yield Path(folder)


@pytest.mark.timeout(600)  # some forty processes, one after the other
def test_a_quick_run_measures_everything_and_leaves_nothing(tmp_path: Path, scratch: Path) -> None:
    figures = tmp_path / "figures.json"

    run = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--json", str(figures)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == run.returncode, run.stderr
    assert [] == list(scratch.iterdir())
    document = json.loads(figures.read_text())
    measured = {found["what"].split()[0] for found in document["rows"]}
    assert {
        "seal", "open", "splice", "the", "upload", "sealed", "plaintext", "peak", "4",
        "scrub,", "repair,", "rebuild,", "rewrap,", "census,", "sweep,",
        *({"S3", "privacy,"} if installed() else ()),
        *({"IPFS"} if has_node() else ()),
    } == measured  # fmt: skip
    assert any(note.startswith("pyrage: ") for note in document["notes"])
    assert all(found["ours"] > 0 for found in document["rows"])
    assert {"not_judged", "no_floor"} == {found["verdict"] for found in document["rows"]}


@pytest.fixture
def unsettled(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process goes on with other tests."""
    monkeypatch.setattr(metering, "settle_objects", lambda: None)


@pytest.mark.usefixtures("unsettled")
async def test_of_two_gateways_one_is_metered(tmp_path: Path) -> None:
    uploads = await metering.measure_uploads(tmp_path, 1, AT_ONCE)
    alone = await metering.measure_alone(1, 100)

    assert {metering.METERED, metering.SILENT} == set(uploads) == set(alone)
    assert alone[metering.METERED].median > alone[metering.SILENT].median > 0


@pytest.mark.usefixtures("unsettled")
@pytest.mark.parametrize("counts", ["stores", "requests"])
async def test_two_gateways_of_which_both_are_metered_are_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: str
) -> None:
    if counts == "requests":
        monkeypatch.setattr(metering, "_Silent", Metrics)
    else:
        observing = partial(open_parts, observe=Metrics().observe_store)
        monkeypatch.setattr(metering, "open_parts", observing)
    with pytest.raises(AssertionError, match="the sides are not what they are called"):
        await metering.measure_uploads(tmp_path, 1, AT_ONCE)
