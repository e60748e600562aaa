"""When may a payload that was given up be called gone? Pure.

A late write, sent before the object was erased, can still arrive at a store after a deletion found
nothing. So a payload is gone only when a pass that *began* later than the late-write horizon after
the last deletion found nothing, and the catalog's own pages hold no copy of the head any more.
"""

import enum


class ErasureStep(enum.StrEnum):
    """What a pass does next about one payload."""

    DELETE = "delete"
    """Delete what was found; the wait starts anew."""
    WAIT = "wait"
    """Nothing was found, but a late write may still be on its way."""
    CLEAN_PAGES = "clean_pages"
    """The stores are clean; the catalog's freed pages are to be written back."""
    CLOSE = "close"
    """It is gone."""


def next_erasure_step(
    *,
    blobs_found: int,
    last_deletion_ms: int,
    pass_began_ms: int,
    horizon_ms: int,
    pages_clean: bool,
) -> ErasureStep:
    """Decide the next step from what a pass found. All times by one clock, in milliseconds."""
    if blobs_found:
        return ErasureStep.DELETE
    if pass_began_ms <= last_deletion_ms + horizon_ms:
        return ErasureStep.WAIT
    return ErasureStep.CLOSE if pages_clean else ErasureStep.CLEAN_PAGES
