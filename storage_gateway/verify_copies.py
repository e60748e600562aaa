"""What a check saw of a payload's copies: what is wrong, where, and in how many stores it is right.

A copy that is wrong can be made again when each of its leaves is right in some other store: that is
what repair needs, and all it needs.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .findings import MEND, RESTORE, SEE_TO_STORE, CheckReport
from .records import Segment


@dataclass(slots=True)
class _Fault:
    """What is wrong in the same way with some segments in one store."""

    detail: str
    segments: list[int]


class CopiesSeen:
    """Told of each leaf of one payload; `bad` and `tell` once all stores were read."""

    def __init__(self, urn: str, segments: Sequence[Segment]) -> None:
        """``segments`` are all that the payload has."""
        self.urn = urn
        self._leaves = {segment.index: len(segment.leaf_digests) for segment in segments}
        self._right: dict[int, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
        """The leaves that are right, by segment and store."""
        self._faults: dict[tuple[str, str], _Fault] = {}
        """By store and kind."""
        self._wrong: dict[int, set[str]] = defaultdict(set)
        """Stores, by segment."""
        self._unread: dict[str, tuple[str, list[int]]] = {}

    def see_right(self, store: str, segment: int, leaf: int) -> None:
        """Note that a leaf has its digest."""
        self._right[segment][store].add(leaf)

    def see_wrong(self, store: str, segment: int, kind: str, detail: str) -> None:
        """Note that a copy is not what it should be."""
        self._wrong[segment].add(store)
        fault = self._faults.setdefault((store, kind), _Fault(detail, []))
        if segment not in fault.segments[-1:]:
            fault.segments.append(segment)

    def see_unread(self, store: str, segments: Sequence[int], detail: str) -> None:
        """Note that a store did not let its copies be read: whether they are right is not known."""
        self._unread[store] = detail, list(segments)

    def is_wrong(self, store: str, segment: int) -> bool:
        """Tell whether something was found wrong with a copy."""
        return store in self._wrong[segment]

    def is_any_wrong(self, store: str) -> bool:
        """Tell whether something was found wrong with any copy in a store."""
        return any(store in stores for stores in self._wrong.values())

    def copies_left(self, segment: int) -> int:
        """Return in how many stores a segment is right."""
        return sum(
            len(leaves) == self._leaves.get(segment, -1) and not self.is_wrong(store, segment)
            for store, leaves in self._right[segment].items()
        )

    def bad(self) -> Iterator[tuple[int, str]]:
        """Yield segment and store of each copy that is wrong, and can be made again."""
        for segment, stores in self._wrong.items():
            for store in stores:
                if self._can_be_made(store, segment):
                    yield segment, store

    def tell(self, report: CheckReport) -> None:
        """Add what was found to a report: of one store and kind in one finding, or in two where
        some can be made again and others cannot.
        """
        for (store, kind), fault in self._faults.items():
            for can_be_made, remedy in ((True, MEND), (False, RESTORE)):
                told = [s for s in fault.segments if self._can_be_made(store, s) is can_be_made]
                if told:
                    detail = _detail(fault, told, store)
                    self._tell(report, kind, detail, remedy, told)
        for detail, segments in self._unread.values():
            self._tell(report, "object", detail, SEE_TO_STORE, segments)

    def _tell(
        self, report: CheckReport, kind: str, detail: str, remedy: str, segments: Sequence[int]
    ) -> None:
        left = min(map(self.copies_left, segments), default=0)
        report.find(kind, self.urn, detail, remedy, copies_left=left)

    def _can_be_made(self, store: str, segment: int) -> bool:
        others: Mapping[str, set[int]] = self._right[segment]
        leaves = set[int]().union(*(seen for other, seen in others.items() if other != store))
        return len(leaves) == self._leaves.get(segment, -1)


def _detail(fault: _Fault, told: Sequence[int], store: str) -> str:
    if told == fault.segments and len(told) == 1:
        return fault.detail
    if told[0] == fault.segments[0]:
        return f"{fault.detail}; so it is with {len(told)} segments in store {store}"
    return f"segment {told[0]} in store {store} is damaged, {len(told)} segments are"
