"""Goal: what a check says of copies: in how many stores a segment is right, and which copies can be
made again.

Method: leaves told one by one, and what follows from them.
"""

from crypto import Secret
from storage_gateway.findings import MEND, RESTORE, SEE_TO_STORE, CheckReport
from storage_gateway.records import Segment
from storage_gateway.verify_copies import CopiesSeen

URN = "urn:blob:v4:x"
SEGMENT = Segment(0, 1000, (b"a", b"b"), Secret(b"key"), (b"t", b"u"))


def seen(**leaves: str) -> CopiesSeen:
    """``leaves`` has two letters for each store: r for right, w for wrong, - for not read."""
    copies = CopiesSeen(URN, [SEGMENT])
    for store, states in leaves.items():
        for at, state in enumerate(states):
            if state == "r":
                copies.see_right(store, 0, at)
            elif state == "w":
                copies.see_wrong(store, 0, "leaf", f"leaf {at} in {store} is wrong")
    return copies


def told(copies: CopiesSeen) -> list[tuple[str, str | None, int | None]]:
    report = CheckReport()
    copies.tell(report)
    return [(finding.remedy, finding.urn, finding.copies_left) for finding in report.findings]


def test_a_copy_that_is_right_elsewhere_can_be_made() -> None:
    copies = seen(one="rw", two="rr", three="rr")

    assert [(0, "one")] == list(copies.bad())
    assert [(MEND, URN, 2)] == told(copies)


def test_two_that_are_wrong_in_the_same_leaf_cannot_be_made_from_each_other() -> None:
    copies = seen(one="rw", two="ww")

    assert [] == list(copies.bad())
    assert [(RESTORE, URN, 0)] * 2 == told(copies)


def test_it_may_take_two_others_that_are_wrong_themselves() -> None:
    copies = seen(one="ww", two="rw", three="wr")

    assert [(0, "one")] == list(copies.bad())
    assert 0 == copies.copies_left(0)
    assert {(MEND, URN, 0), (RESTORE, URN, 0)} == set(told(copies))


def test_a_copy_of_another_size_is_none_whatever_its_leaves_are() -> None:
    copies = seen(one="rr", two="rr")
    copies.see_wrong("one", 0, "segment", "it has another size")

    assert [(0, "one")] == list(copies.bad())
    assert [(MEND, URN, 1)] == told(copies)


def test_what_was_not_read_counts_as_no_copy() -> None:
    copies = seen(one="r-", two="rw")
    copies.see_unread("one", [0], "it does not answer")

    assert [] == list(copies.bad())
    assert [(RESTORE, URN, 0), (SEE_TO_STORE, URN, 0)] == told(copies)


def test_many_segments_of_one_store_are_one_finding() -> None:
    segments = [Segment(index, 1000, (b"a",), Secret(b"key"), (b"t",)) for index in range(5)]
    copies = CopiesSeen(URN, segments)
    for index in range(5):
        copies.see_wrong("one", index, "object", f"segment {index} is missing")
        copies.see_right("two", index, 0)
    copies.see_right("three", 4, 0)
    report = CheckReport()
    copies.tell(report)

    (finding,) = report.findings
    assert ("segment 0 is missing; so it is with 5 segments in store one", 1) == (
        finding.detail,
        finding.copies_left,
    )
