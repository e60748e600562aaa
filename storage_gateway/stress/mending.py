"""What the cases of repair have in common: passes by hand, and a look at every copy there is."""

import hashlib
from functools import partial

from crypto import LEAF_SIZE
from storage_gateway.backends import KeyedStore
from storage_gateway.catalog.repairs import BEFORE_ALL, list_copies_to_make
from storage_gateway.catalog.segments import load_segments
from storage_gateway.errors import BlobMissing
from storage_gateway.records import Segment
from storage_gateway.repair import RepairReport
from storage_gateway.scrub import ScrubReport

from .tampering import manifest_of
from .trial import Trial
from .world import GatewayLike

PASS_S_MAX = 60.0
MENDED_S_MAX = 60.0
PAGE = 100
UNHINDERED = 1e12
"""Bytes a second that scrub may read where a case has it run."""


async def scrub(gateway: GatewayLike) -> ScrubReport:
    """Have a gateway read every copy, as an operator does who runs the pass by hand."""
    total = ScrubReport()
    while not total.ended:
        report = await gateway.upkeep.scrub.run_once(within_s=PASS_S_MAX)
        total.right += report.right
        total.bad += report.bad
        total.unread += report.unread
        total.bytes_read += report.bytes_read
        total.ended = report.ended
        if report == ScrubReport():
            break  # somebody else is at it
    return total


async def repair(gateway: GatewayLike) -> RepairReport:
    """Have a gateway make what is to be made, as an operator does who runs the pass by hand."""
    return await gateway.upkeep.repair.run_once(within_s=PASS_S_MAX, at_once=True)


async def mend(trial: Trial, gateway: GatewayLike) -> None:
    """Run passes of a gateway until there is nothing more to do; require that it comes to that."""
    newest: list[str] = []

    async def is_mended() -> bool:
        read, made = await scrub(gateway), await repair(gateway)
        # Also what repair still waits for, as it may come by itself.
        left = await trial.world.catalog.inner.read(
            partial(list_copies_to_make, after=BEFORE_ALL, limit=PAGE, settled_s=0.0)
        )
        newest[:] = [f"{read}", f"{made}", f"{len(left)} copies left to make"]
        nothing_bad = ScrubReport(right=read.right, bytes_read=read.bytes_read, ended=True)
        return read == nothing_bad and made == RepairReport(ended=True) and not left

    met = await trial.eventually(is_mended, within_s=MENDED_S_MAX)
    trial.verdict.require(
        "scrub and repair come to an end with nothing left to do",
        met=met,
        evidence="; ".join(newest),
    )


async def require_everywhere(trial: Trial, criterion: str) -> None:
    """Require that every store has each segment of each object that is not erased, and has it
    right, whatever the catalog says of it.
    """
    world, looked_at, wrong = trial.world, 0, list[str]()
    for urn in trial.ledger.acknowledged:
        if urn in trial.ledger.erased:
            continue
        payload_id = (await manifest_of(world, urn)).payload_id
        segments = await world.catalog.inner.read(partial(load_segments, payload_id=payload_id))
        for each in world.stores:
            for segment in segments:
                key = f"{world.parts.payloads}{payload_id}/{segment.index}"
                said = await _look_at(each.faulty, key, segment)
                looked_at += 1
                if said:
                    wrong.append(f"segment {segment.index} of {urn} {said} in store {each.name}")
    trial.require_all(criterion, wrong)
    trial.verdict.require(
        "there are copies to look at", met=looked_at > 0, evidence=f"{looked_at} copies"
    )


async def _look_at(store: KeyedStore, key: str, segment: Segment) -> str:
    """Return what is wrong with a copy."""
    try:
        size = (await store.stat(key)).size
        data = await store.get(key, 0, size)
    except BlobMissing:
        return "is missing"
    leaves = [data[at : at + LEAF_SIZE] for at in range(0, len(data), LEAF_SIZE)]
    digests = tuple(hashlib.sha256(leaf).digest() for leaf in leaves)
    return "" if digests == tuple(segment.leaf_digests) else "has other bytes"
