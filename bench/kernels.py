"""Sealing and opening against peers, in one run, in turn, on one core; heads by themselves.

Every side is a process of its own (`bench.worker`), so that libraries which cannot share an
environment can share a run. What is not installed is said in the report, with how to get it.
"""

import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .figures import Row, Sample, in_microseconds, interleave, net_of, rate_of
from .machine import NotMeasurable, cores, pinned
from .plan import Plan

SMALL_SIZE = 1024
LARGE_RATIO_MIN = 3.0
SMALL_RATIO_MIN = 1.0
ROOT = Path(__file__).resolve().parent.parent
PEERS_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
GET_PEERS = "make bench-tools"
LEAF_BY_LEAF = "leaf by leaf"


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is measured beside ours. `judged_small`: whether it counts for the floor of 1 KiB."""

    title: str
    command: tuple[str | Path, ...]
    judged_small: bool = True
    folder: Path = ROOT


def peers() -> dict[str, Peer]:
    """Return the peers with classic recipients, or with none, by the name of their side."""
    worker = (PEERS_PYTHON, "-m", "bench.worker")
    return {
        "pyrage": Peer("pyrage", (sys.executable, "-m", "bench.worker", "pyrage")),
        "age": Peer("age command, with its start", (sys.executable, "-m", "bench.worker", "age")),
        "crypt4gh": Peer("crypt4gh", (*worker, "crypt4gh")),
        "aws": Peer("AWS Encryption SDK", (*worker, "aws")),
        # Without recipients there is nothing to wrap, which is all that 1 KiB costs the others.
        "tink": Peer("Tink streaming (no recipients)", (*worker, "tink"), judged_small=False),
    }


def hybrid_peer() -> Peer:
    """Return the one peer that has hybrid recipients (Debian's age 1.1.1 and pyrage have none)."""
    homes = sorted((ROOT / ".venv").glob("node-*/node_modules/age-encryption"))
    script = (Path(__file__).parent / "worker.mjs").read_text(encoding="utf-8")
    home = homes[-1].parent.parent if homes else ROOT / "node_modules"
    command = (shutil.which("node") or "node", "--input-type=module", "--eval", script)
    return Peer("npm age-encryption", command, folder=home)


class Worker:
    """A side in its process. Raises NotMeasurable when it breaks."""

    def __init__(self, process: "subprocess.Popen[str]", title: str) -> None:
        """`process` speaks as bench/worker.py says."""
        self._process = process
        self._title = title
        try:
            self.about = self._read()
        except NotMeasurable:
            self.about = {"missing": "it did not start"}

    def seconds(self, work: str, size: int, seconds_min: float) -> float:
        """Return the seconds that one call took, the mean of those in `seconds_min`."""
        pipe = self._process.stdin
        assert pipe is not None
        pipe.write(json.dumps({"work": work, "size": size, "seconds": seconds_min}) + "\n")
        pipe.flush()
        answer = self._read()
        return float(answer["seconds"] / answer["count"])

    def _read(self) -> dict[str, Any]:
        pipe = self._process.stdout
        assert pipe is not None
        line = pipe.readline()
        if not line:
            raise NotMeasurable(f"{self._title} broke off; what it said stands above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def measure(plan: Plan) -> list[Row]:
    """Return seal and open of a large and a small plaintext for both classes, then heads."""
    _, core = cores()
    with ExitStack() as stack:
        stack.enter_context(pinned(core))
        ours = (sys.executable, "-m", "bench.worker")
        beside = {"classic": peers(), "hybrid": {"npm": hybrid_peer()}}
        found: dict[str, dict[str, Worker]] = {}
        for key_class, those in beside.items():
            sides = {"ours": Peer(f"ours, {key_class}", (*ours, key_class)), **those}
            if key_class == "classic":
                sides["leaves"] = Peer(f"ours, {LEAF_BY_LEAF}", (*ours, "leaves"))
            workers = {side: started(plan, stack, peer) for side, peer in sides.items()}
            found[key_class] = {side: each for side, each in workers.items() if each is not None}
        return [
            *_envelopes(plan, found["classic"], beside["classic"], "3 recipients", judged=True),
            *_envelopes(plan, found["hybrid"], beside["hybrid"], "3 hybrid recipients"),
            *_heads(plan, "classic", found["classic"]["ours"]),
            *_heads(plan, "hybrid", found["hybrid"]["ours"]),
        ]


def started(plan: Plan, stack: ExitStack, peer: Peer) -> Worker | None:
    """Return the side's process, until the stack ends; None, and a note, where it cannot be had."""
    folder = Path(tempfile.mkdtemp(dir=plan.folder))
    try:
        worker = stack.enter_context(_process(peer, folder))
    except FileNotFoundError as error:
        why = f"there is no {Path(error.filename).name}"
    else:
        why = worker.about.get("missing", "")
        if not why:
            plan.notes.append(f"{peer.title}: {worker.about['version']}")
            return worker
    plan.notes.append(f"{peer.title}: NOT MEASURED, {why} (to get it: {GET_PEERS})")
    return None


@contextmanager
def _process(peer: Peer, scratch: Path) -> Iterator[Worker]:
    process = subprocess.Popen(
        [*peer.command, scratch],
        cwd=peer.folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Worker(process, peer.title)
        finally:
            process.kill()


def _envelopes(
    plan: Plan,
    workers: dict[str, Worker],
    beside: Mapping[str, Peer],
    whom: str,
    *,
    judged: bool = False,
) -> list[Row]:
    rows: list[Row] = []
    for size, work in itertools.product((plan.envelope_size, SMALL_SIZE), ("seal", "open")):
        large = size > SMALL_SIZE
        amount = f"{size >> 20} MiB" if large else f"{size >> 10} KiB"
        name = f"{work} {amount}, {whom}"
        # What is not larger than a leaf is one piece either way.
        asked = {side: each for side, each in workers.items() if large or side != "leaves"}
        seconds = _measured(plan, name, work, size, asked)
        unit = size / 1e6 if large else 1.0
        titles = {side: peer.title for side, peer in beside.items()}
        counted = {side for side, peer in beside.items() if large or peer.judged_small}
        start = seconds.pop("age start", None)
        net = None if start is None else net_of(seconds["age"], start)
        if net is not None:
            seconds["age net"], titles["age net"] = net, "age command, net of its start"
            # Of 1 KiB the rest is the difference of two times that are nearly the same.
            counted |= {"age net"} if large else set()
        rates = {side: rate_of(sample, unit) for side, sample in seconds.items()}
        rows += both_ways(
            (name, f"{work} {amount} {LEAF_BY_LEAF}, {whom}"),
            "MB/s" if large else "/s",
            rates,
            titles=titles,
            counted=counted if judged else set(),
            ratio_min=LARGE_RATIO_MIN if large else SMALL_RATIO_MIN,
        )
    return rows


def both_ways(
    names: tuple[str, str],
    unit: str,
    rates: Mapping[str, Sample],
    *,
    titles: Mapping[str, str],
    counted: set[str],
    ratio_min: float,
) -> list[Row]:
    """Return the rows of ours in one piece, then those of ours leaf by leaf, if that was measured.

    The floor stands at the latter then: the gateway does it so (decision 0017).
    """
    whole = {side: rate for side, rate in rates.items() if side != "leaves"}
    if "leaves" not in rates:
        return against(names[0], unit, whole, titles=titles, counted=counted, ratio_min=ratio_min)
    by_leaf = {**whole, "ours": rates["leaves"]}
    return [
        *against(names[0], unit, whole, titles=titles, counted=set(), ratio_min=ratio_min),
        *against(names[1], unit, by_leaf, titles=titles, counted=counted, ratio_min=ratio_min),
    ]


def against(
    name: str,
    unit: str,
    rates: Mapping[str, Sample],
    *,
    titles: Mapping[str, str],
    counted: set[str],
    ratio_min: float,
) -> list[Row]:
    """Return a row for each peer, fastest first; the floor stands at the best that counts."""
    ours = rates["ours"]
    others = sorted(rates.keys() - {"ours"}, key=lambda side: -rates[side].median)
    best = next((side for side in others if side in counted), None)
    return [
        Row(
            name,
            unit,
            ours,
            titles[side],
            rates[side],
            ratio_min=ratio_min if side == best else None,
        )
        for side in others
    ] or [Row(name, unit, ours)]


def _measured(
    plan: Plan, name: str, work: str, size: int, workers: dict[str, Worker]
) -> dict[str, Sample]:
    """Return seconds a call of each side; of the age command also those of its start alone."""
    seconds_min = 0.0 if size > SMALL_SIZE else plan.small_seconds

    def call(worker: Worker, what: str) -> Callable[[], float]:
        return lambda: worker.seconds(what, size, seconds_min)

    sides = {side: call(worker, work) for side, worker in workers.items()}
    if "age" in workers:
        sides["age start"] = call(workers["age"], "start")
    return interleave(sides, plan.runs, _note(plan, name), warm_up=True)


def _heads(plan: Plan, key_class: str, worker: Worker) -> list[Row]:
    """Return seal, open and splice of a head for three recipients, in microseconds.

    Opened with the last recipient's identity; spliced: one of three stanzas is replaced, the head
    opened before and after.
    """
    works = ["seal head", "open head", "splice head"]
    if key_class == "classic":
        works.append("wrap on the curve")

    def call(work: str) -> Callable[[], float]:
        return lambda: worker.seconds(work, SMALL_SIZE, plan.small_seconds)

    name = f"head, {key_class}, 3 recipients"
    calls = {work: call(work) for work in works}
    found = interleave(calls, plan.runs, _note(plan, name), warm_up=True)
    rows = [
        Row(f"{work}, {key_class}, 3 recipients", "µs", in_microseconds(found[work]))
        for work in works[:3]
    ]
    if key_class == "classic":
        once = in_microseconds(found["wrap on the curve"])
        names = {"the curve alone, 3 wraps": 1, "the curve alone, 3 wraps and their check": 2}
        rows += [
            Row(name, "µs", Sample(tuple(times * value for value in once.values)))
            for name, times in names.items()
        ]
    return rows


def _note(plan: Plan, name: str) -> Callable[[str, float], None]:
    return lambda side, seconds: plan.say(f"{name}: {side} {seconds * 1e6:,.0f} µs")
