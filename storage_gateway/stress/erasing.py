"""What the cases of erasing have in common: who erases is heard at once, and is told "erased" when
nothing is left.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from storage_gateway.errors import Erased
from storage_gateway.manifest_copies import OBJECT, folder_of, parse_copy_name
from storage_gateway.records import ObjectState

from .judge import files_and_tables
from .load import Customer
from .record import OK
from .run_stores import RunStore
from .tampering import manifest_of
from .trial import Trial
from .world import World

LOOKS = 3
"""So often recovery looks for what was erased, later than the horizon, before that is judged."""
LOOKED_S_MAX = 30.0
ERASED_S_MAX = 30.0
NEWER = 9
"""A generation that no manifest of a run gets to."""
HEAD_PIECE = 32
"""Of a head so many bytes in a row are its own: a page that was written over in part may hold no
more of it."""


async def erase_all(
    trial: Trial,
    customer: Customer,
    urns: Sequence[str],
    criterion: str,
    *,
    state: ObjectState | None = None,
    beside: Customer | None = None,
) -> None:
    """Erase objects; require that each is unreadable from then on, through ``beside``'s gateway
    too, and answered in that state.
    """
    wrong = []
    for urn in urns:
        trial.ledger.erased.add(urn)
        answer = await customer.erase(urn)
        reads = [await reader.fetch(urn, size=0) for reader in (customer, beside) if reader]
        told = str(answer.document.get("state", ""))
        came_to = {read.outcome for read in reads}
        if (answer.outcome, came_to) != (OK, {Erased.code}) or told != (state or told):
            wrong.append(f"erasing {urn} came to {answer.outcome} {told}, reading to {came_to}")
    trial.require_all(criterion, wrong)


async def states_of(trial: Trial, urns: Iterable[str]) -> list[ObjectState]:
    """Return in which state each object is."""
    return [(await manifest_of(trial.world, urn)).state for urn in urns]


async def require_erasing(trial: Trial, urns: Sequence[str]) -> None:
    """Wait until recovery looked for what was erased more than once, long enough afterwards, while
    a store is away; require that nothing counts as erased.
    """
    horizon_over = time.monotonic() + trial.world.config.late_write_horizon_s
    asked, looks_before = trial.world.store.asked, 0

    async def looked() -> bool:
        nonlocal looks_before
        if time.monotonic() < horizon_over:
            looks_before = asked["list"]
        is_erasing = set(await states_of(trial, urns)) == {ObjectState.ERASING}
        return not is_erasing or asked["list"] >= looks_before + LOOKS * len(urns)

    within_s = trial.world.config.late_write_horizon_s + LOOKED_S_MAX
    met = await trial.eventually(looked, within_s=within_s)
    states = [state.value for state in await states_of(trial, urns)]
    trial.verdict.require(
        "nothing counts as erased before every store was seen clean",
        met=met and set(states) == {ObjectState.ERASING.value},
        evidence=f"with a store out of reach: {states}",
    )


@dataclass(frozen=True, slots=True)
class Trace:
    """What an object was before it was erased."""

    object_id: str
    payload_id: str
    head: bytes = field(repr=False)


async def trace_all(trial: Trial, urns: Iterable[str]) -> dict[str, Trace]:
    """Return what objects are that are to be erased, by their URNs."""
    found = {urn: await manifest_of(trial.world, urn) for urn in urns}
    return {
        urn: Trace(manifest.object_id, manifest.payload_id, manifest.head or b"")
        for urn, manifest in found.items()
    }


async def left_in(world: World, store: RunStore, trace: Trace, newest: int) -> list[str]:
    """Return the keys of what a store has of an object: its payload, and copies of its manifest
    from before that generation.
    """
    blobs = store.store.list(f"{world.parts.payloads}{trace.payload_id}/")
    copies = store.store.list(folder_of(world.prefix, OBJECT, trace.object_id))
    found = [blob.key async for blob in blobs]
    async for blob in copies:
        name = parse_copy_name(world.prefix, blob.key)
        if name is None or name.generation < newest:
            found.append(blob.key)
    return found


async def require_deleted(trial: Trial, traces: Mapping[str, Trace], criterion: str) -> None:
    """Wait until no store has anything of the payloads; require that it comes to that."""
    left: list[str] = []

    async def are_deleted() -> bool:
        left.clear()
        for trace in traces.values():
            for each in trial.world.stores:
                left.extend(await left_in(trial.world, each, trace, 0))
        return not left

    await trial.eventually(are_deleted, within_s=ERASED_S_MAX)
    trial.require_all(criterion, left)


async def require_erased(trial: Trial, traces: Mapping[str, Trace], criterion: str) -> bool:
    """Wait until objects are erased; require that from that moment on no store has anything of
    them but the tombstone, and that their heads are nowhere. False: it did not come to that.
    """
    world, waiting, left = trial.world, dict(traces), list[str]()

    async def is_over() -> bool:
        is_buried = "graves" in await world.unsettled()
        for urn in list(waiting):
            manifest = await manifest_of(world, urn)
            if manifest.state is ObjectState.ERASED:
                trace = waiting.pop(urn)
                for each in world.stores:
                    found = await left_in(world, each, trace, manifest.generation)
                    left.extend(f"{key} in store {each.name}" for key in found)
        return not waiting or not is_buried  # of what has no grave nothing more is heard

    within_s = world.config.late_write_horizon_s + ERASED_S_MAX
    await trial.eventually(is_over, within_s=within_s)
    left += [f"{urn} is still erasing" for urn in waiting]
    left += await asyncio.to_thread(_heads_in, trial, traces.values())
    trial.require_all(criterion, left)
    return not left


def _heads_in(trial: Trial, traces: Iterable[Trace]) -> list[str]:
    """Search the run's files and tables for any part of the heads."""
    pieces = [
        trace.head[at : at + HEAD_PIECE]
        for trace in traces
        # The first line is that of every age file.
        for at in range(HEAD_PIECE, len(trace.head) - HEAD_PIECE, HEAD_PIECE)
    ]
    return [
        f"{name} holds a part of a head"
        for name, content in files_and_tables(trial)
        if any(piece in content for piece in pieces)
    ]
