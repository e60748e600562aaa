"""Where processes were when they were killed or stopped, by what they had told in their log.

At log level ``debug`` a process tells of each upload's steps before it takes them, and when they
are done. A line that was written is in the file, whatever becomes of the process.
"""

import enum
import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

POLL_S = 0.0003
WITHIN_S = 20.0


class Window(enum.StrEnum):
    """What a process was in the midst of."""

    UPLOAD = "upload"
    """Its intent stands, its commit was not begun."""
    COMMIT = "commit"
    """The commit was handed to the catalog, and its answer was not there."""
    RECOVERY = "recovery"
    """A pass had begun to claim it, and had not buried it."""
    ABORT = "abort"
    """Its own request was giving it up."""


COUNTED = (Window.UPLOAD, Window.COMMIT, Window.RECOVERY)
UPLOAD_BEGAN = "upload began"
COMMIT_BEGAN = "commit began"
CLAIM_BEGAN = "claim began"
COMMITTED = "upload committed"
SETTLING = "settling"
ENDS = frozenset({COMMITTED, "upload aborted", "upload failed", "settled by another"})


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the trace."""

    event: str
    payload_id: str
    worker: int | None


class Trace:
    """The steps told in a log from now on."""

    def __init__(self, log: Path) -> None:
        """The file need not exist yet."""
        self._log = log
        self._at = log.stat().st_size if log.exists() else 0
        self._windows: dict[tuple[int | None, str], Window] = {}
        self._committed: set[str] = set()

    def read(self) -> list[Step]:
        """Return what was told since the last call."""
        if not self._log.exists():
            return []
        with self._log.open("rb") as file:
            file.seek(self._at)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._at += len(whole) + len(newline)
        steps = [step for line in whole.split(b"\n") if (step := _step(line)) is not None]
        for step in steps:
            self._follow(step)
        return steps

    def wait_for(self, event: str) -> Step | None:
        """Block until a process has told of such a step; None when none did."""
        until = time.monotonic() + WITHIN_S
        while time.monotonic() < until:
            found = next((step for step in self.read() if step.event == event), None)
            if found is not None:
                return found
            time.sleep(POLL_S)
        return None

    def windows(self, worker: int | None = None) -> dict[str, Window]:
        """Return what a process that is stopped or dead was at, by payload."""
        self.read()
        return {p: window for (w, p), window in self._windows.items() if w == worker}

    def take_windows(self, worker: int | None = None) -> dict[str, Window]:
        """As `windows`, and forget it: the process is dead."""
        mine = self.windows(worker)
        for payload_id in mine:
            del self._windows[worker, payload_id]
        return mine

    def _follow(self, step: Step) -> None:
        key = (step.worker, step.payload_id)
        if step.event == COMMITTED:
            self._committed.add(step.payload_id)
        if step.event in ENDS:
            self._windows.pop(key, None)
        elif step.event == UPLOAD_BEGAN:
            self._windows[key] = Window.UPLOAD
        elif step.event == COMMIT_BEGAN:
            self._windows[key] = Window.COMMIT
        elif step.event == CLAIM_BEGAN:
            self._windows[key] = Window.RECOVERY
        elif step.payload_id in self._committed:
            # A pass had read the intent before the commit: it will find that it is gone.
            return
        elif self._windows.get(key) is not Window.RECOVERY:
            self._windows[key] = Window.ABORT


def _step(line: bytes) -> Step | None:
    if b'"payload_id"' not in line:
        return None
    told = json.loads(line)
    event = told["event"]
    if event == SETTLING and told["step"] == "claim":
        event = CLAIM_BEGAN
    if event not in {UPLOAD_BEGAN, COMMIT_BEGAN, CLAIM_BEGAN, SETTLING, *ENDS}:
        return None
    return Step(event, told["payload_id"], told.get("worker"))


@dataclass(slots=True)
class Count:
    """In how many kills, or pauses, a process was in the midst of what."""

    windows: "Counter[Window]" = field(default_factory=Counter)
    commits: set[str] = field(default_factory=set)
    """Payloads whose commit may have taken effect, or not."""
    others: set[str] = field(default_factory=set)
    total: int = 0

    def add(self, windows: dict[str, Window]) -> None:
        """Count one; several uploads at the same step count once."""
        self.total += 1
        self.windows.update(set(windows.values()))
        for payload_id, window in windows.items():
            (self.commits if window is Window.COMMIT else self.others).add(payload_id)

    def said(self, committed: Iterable[str], what: str) -> str:
        """Return a line that tells the counts; ``committed`` are all payloads that were."""
        effect = len(self.commits.intersection(committed))
        inside = self.windows
        return (
            f"{self.total} {what}: {inside[Window.UPLOAD]} inside an upload,"
            f" {inside[Window.COMMIT]} inside a commit ({effect} commits took effect,"
            f" {len(self.commits) - effect} did not), {inside[Window.RECOVERY]} inside a recovery"
        )
