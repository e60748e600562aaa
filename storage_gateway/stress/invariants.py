"""What always holds, by the numbers of ARCHITECTURE.md, and where to look when it does not."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Invariant:
    """One thing that always holds, and where to look when it does not."""

    text: str
    look_at: str


INVARIANTS: Mapping[int, Invariant] = {
    1: Invariant(
        "A manifest names only payloads that are durable in the store.",
        "the order of placing and commit: placing.py, write.py, catalog/objects.commit_upload",
    ),
    2: Invariant(
        "A URN answered with 201 is readable, byte for byte, until erased.",
        "what was answered before it was committed, or cleared away after: write.py, recovery.py",
    ),
    3: Invariant(
        "A head lies in the catalog, sealed in copies of manifests, and nowhere else.",
        "what is handed to the store: write.py, placing.py, outbox.py",
    ),
    4: Invariant(
        "Plaintext never touches a disk.",
        "what is handed to the store and to the catalog: write.py, crypto/sealer.py",
    ),
    5: Invariant(
        "Recovery may die anywhere and be run again; what was claimed from a process it cannot"
        " commit.",
        "fences, leases and the steps of settling: settle.py, recovery.py, catalog/work.py",
    ),
    6: Invariant(
        "A payload never changes under its payload id.",
        "who writes under a payload id: write.py, placing.py",
    ),
    7: Invariant(
        "When recovery has drained and the horizon has passed, every blob is named by a manifest.",
        "what is settled, buried and swept: settle.py, recovery.py, retention/erasure.py",
    ),
    8: Invariant(
        "A reader sees nothing or the whole object, never a mix.",
        "slots, contexts and what a read checks: catalog/objects.py, read.py",
    ),
}
"""By the numbers of ARCHITECTURE.md, "What holds"."""
