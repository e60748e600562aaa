"""Judging a run: each invariant of the case, and each criterion, by what was seen."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .invariants import INVARIANTS

EVIDENCE_MAX = 10
"""Pieces of evidence that a report shows for each invariant; the rest is counted."""

PASS, FAIL = "pass", "fail"


@dataclass(slots=True)
class _Judged:
    holds: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        shown = self.broken or self.holds
        document: dict[str, Any] = {
            "verdict": PASS if self.holds and not self.broken else FAIL,
            "evidence": shown[:EVIDENCE_MAX],
        }
        if len(shown) > EVIDENCE_MAX:
            document["more_evidence"] = len(shown) - EVIDENCE_MAX
        if not shown:
            document["evidence"] = ["it was not judged: the run ended before"]
        return document


class Verdict:
    """What speaks for and against. What was not judged at all counts as failed."""

    def __init__(self, invariants: Iterable[int]) -> None:
        """Take the invariants that must be judged."""
        self._invariants = {number: _Judged() for number in invariants}
        self._criteria: dict[str, _Judged] = {}

    def holds(self, invariant: int, evidence: str) -> None:
        """Note that an invariant was looked at and holds."""
        self._invariants.setdefault(invariant, _Judged()).holds.append(evidence)

    def broken(self, invariant: int, evidence: str) -> None:
        """Note that an invariant is broken; evidence names what, never a secret or content."""
        self._invariants.setdefault(invariant, _Judged()).broken.append(evidence)

    def judge(self, invariant: int, wrong: list[str], evidence: str) -> None:
        """Note each wrong thing, or that there was none."""
        for what in wrong:
            self.broken(invariant, what)
        if not wrong:
            self.holds(invariant, evidence)

    def require(self, criterion: str, *, met: bool, evidence: str) -> None:
        """Note whether a criterion of the case, beside the invariants, is met."""
        judged = self._criteria.setdefault(criterion, _Judged())
        (judged.holds if met else judged.broken).append(evidence)

    def passed(self) -> bool:
        """Tell whether everything was judged and nothing is broken."""
        judged = (*self._invariants.values(), *self._criteria.values())
        return all(j.holds and not j.broken for j in judged)

    def as_json(self) -> dict[str, Any]:
        """Return verdict, invariants and criteria; what failed says where to look."""
        invariants = []
        for number, judged in sorted(self._invariants.items()):
            entry = {"number": number, "invariant": INVARIANTS[number].text} | judged.as_json()
            if entry["verdict"] == FAIL:
                entry["look_at"] = INVARIANTS[number].look_at
            invariants.append(entry)
        criteria = [
            {"criterion": name} | judged.as_json() for name, judged in self._criteria.items()
        ]
        return {
            "verdict": PASS if self.passed() else FAIL,
            "invariants": invariants,
            "criteria": criteria,
        }
