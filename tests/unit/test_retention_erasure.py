"""Goal: a payload is called gone only when no late write can bring it back and no page shows it.

Method: the borders of the horizon, and Hypothesis over passes that find and lose blobs.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retention import ErasureStep, next_erasure_step

HORIZON_MS = 900_000
DELETED_MS = 1_000_000
LATEST_MS = DELETED_MS + HORIZON_MS
"""A write sent before the deletion can still arrive at this time, and not later."""


def step(
    *,
    blobs: int = 0,
    began_ms: int = LATEST_MS + 1,
    clean: bool = True,
    deleted_ms: int = DELETED_MS,
) -> ErasureStep:
    return next_erasure_step(
        blobs_found=blobs,
        last_deletion_ms=deleted_ms,
        pass_began_ms=began_ms,
        horizon_ms=HORIZON_MS,
        pages_clean=clean,
    )


@pytest.mark.parametrize(
    ("began_ms", "expected"),
    [
        (DELETED_MS - 1, ErasureStep.WAIT),
        (DELETED_MS, ErasureStep.WAIT),
        (LATEST_MS, ErasureStep.WAIT),
        (LATEST_MS + 1, ErasureStep.CLOSE),
    ],
)
def test_the_wait_ends_after_the_horizon_and_not_at_it(
    began_ms: int, expected: ErasureStep
) -> None:
    assert expected == step(began_ms=began_ms)


def test_pages_are_cleaned_before_it_is_closed() -> None:
    assert ErasureStep.CLEAN_PAGES == step(clean=False)


@pytest.mark.parametrize("began_ms", [0, LATEST_MS, LATEST_MS + 1, LATEST_MS * 2])
@pytest.mark.parametrize("clean", [False, True])
def test_what_is_found_is_deleted_whatever_the_time(began_ms: int, clean: bool) -> None:
    assert ErasureStep.DELETE == step(blobs=1, began_ms=began_ms, clean=clean)


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 2 * HORIZON_MS), st.booleans()), max_size=12
    )
)
def test_whatever_passes_find_it_closes_only_after_one_late_and_empty(
    passes: list[tuple[int, int, bool]],
) -> None:
    """Each pass: blobs found, milliseconds since the one before, whether the pages are clean."""
    now_ms = deleted_ms = DELETED_MS
    for blobs, later_ms, clean in passes:
        now_ms += later_ms
        outcome = step(blobs=blobs, began_ms=now_ms, clean=clean, deleted_ms=deleted_ms)
        if outcome is ErasureStep.CLOSE:
            assert 0 == blobs
            assert clean
            assert now_ms > deleted_ms + HORIZON_MS
            return
        if outcome is ErasureStep.DELETE:
            deleted_ms = now_ms
