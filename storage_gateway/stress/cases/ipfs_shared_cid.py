"""``ipfs-shared-cid``: two payloads, and a stranger's pin, that have one CID in an IPFS node."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from storage_gateway.backends.faulty import StoreFaults
from storage_gateway.backends.pins import Pin
from storage_gateway.errors import BackendUnavailable
from storage_gateway.pins import pins_in
from storage_gateway.records import INPUT
from storage_gateway.stress.bodies import Body, sealed_to
from storage_gateway.stress.contract import Case
from storage_gateway.stress.erasing import erase_all
from storage_gateway.stress.load import Customer
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.pinned import Pinned, watching
from storage_gateway.stress.run_stores import NODE
from storage_gateway.stress.tampering import manifest_of
from storage_gateway.stress.trial import Trial
from urn import CID, Codec

UNRECOVERED: dict[str, Any] = {"recovery_interval_s": 3600.0}
FAILS = StoreFaults(lost_answer={"finish": 1.0}, refused={"delete": 1.0})
"""All of it is stored, nobody is told, and nothing is cleared away."""
UNPINNED_S_MAX = 30.0


class IPFSSharedCID(Parameters, kw_only=True, frozen=True):
    """Parameters of ``ipfs-shared-cid``."""

    sizes: Sizes = (4096, 1_500_000)


@dataclass(frozen=True, slots=True)
class _Twins:
    """What was given up, and an object, with the same payload."""

    urn: str
    body: Body
    cid: CID
    """Of the payload, as any tool has it."""
    given_up: frozenset[str]
    stored: frozenset[str]
    """The roots that they are pinned by."""
    leaves: tuple[CID, ...]
    """The blocks that both need."""


async def run(trial: Trial, parameters: IPFSSharedCID) -> None:
    """For each size, clear what was given up first; then erase the object first."""
    member = await trial.member("stress")
    trial.begin_faults()
    async with watching(trial) as pinned:
        for size in parameters.sizes:
            async with trial.world.gateway(**UNRECOVERED) as gateway:
                customer = trial.customer(gateway, member)
                first = await _make_twins(trial, customer, pinned, trial.body(size))
                second = await _make_twins(trial, customer, pinned, trial.body(size))
                await _erase_stored(trial, customer, pinned, second)
            async with (
                _stranger(trial, pinned, second, beside=first),
                trial.world.gateway() as gateway,
            ):
                customer = trial.customer(gateway, member)
                await _require_whole(trial, customer, pinned, first)
                await _require_kept_by_stranger(trial, pinned, second)
            await pinned.node.collect()
            await _require_blocks(trial, pinned, second, there=False, who="nobody")
        await pinned.require_only("the node keeps what objects need, and nothing else")


async def _make_twins(trial: Trial, customer: Customer, pinned: Pinned, body: Body) -> _Twins:
    """Send a sealed file that is given up when all of it is stored, and send it again."""
    session_id = customer.member.session_id
    session = await trial.world.sessions.get(session_id)
    recipient = await trial.world.sessions.intake_recipient(session)
    sealed = await asyncio.to_thread(sealed_to, body, recipient)
    task_id = trial.next_task()
    trial.ledger.offer(customer.member, task_id, INPUT, body)
    trial.world.store.faults = FAILS
    refused = await customer.upload(task_id, body, sealed=sealed)
    await trial.world.wait_late()
    trial.world.store.heal()
    answer = await trial.deliver(customer, task_id, body, sealed=sealed)
    await trial.world.wait_late()
    trial.require_all("every body is stored", [] if answer.urn else [answer.outcome])
    pins = await pinned.of_object(answer.urn)
    leaves = {pin.leaves for pin in pins if pin.leaves}
    keys = {pin.key for pin in pins}
    twins = [p for p in await pinned.by_catalog() if p.leaves in leaves and p.key not in keys]
    made = _Twins(
        urn=answer.urn,
        body=body,
        cid=CID.parse((await manifest_of(trial.world, answer.urn)).cid),
        given_up=frozenset(str(pin.root) for pin in twins),
        stored=frozenset(str(pin.root) for pin in pins),
        leaves=tuple(CID(Codec.RAW, digest) for pin in pins for digest in pin.leaves),
    )
    both = made.given_up | made.stored
    trial.verdict.require(
        "what was given up is pinned, beside an object with the same bytes",
        met=refused.outcome == BackendUnavailable.code
        and bool(made.given_up)
        and both <= await pinned.node.pinned(),
        evidence=f"given up with {refused.outcome}; {len(twins)} pins of it, {len(pins)} of the"
        " object",
    )
    return made


async def _erase_stored(trial: Trial, customer: Customer, pinned: Pinned, twins: _Twins) -> None:
    """Erase the object while what was given up is not cleared away yet."""
    await erase_all(trial, customer, [twins.urn], "what is erased is unreadable at once")
    await _require_unpinned(trial, pinned, twins.stored)
    await pinned.node.collect()
    await _require_blocks(trial, pinned, twins, there=True, who="what was given up")


async def _require_whole(trial: Trial, customer: Customer, pinned: Pinned, twins: _Twins) -> None:
    """Let what was given up be cleared away; require that the object is whole."""
    await _require_unpinned(trial, pinned, twins.given_up)
    await pinned.node.collect()
    await _require_blocks(trial, pinned, twins, there=True, who="an object")
    await trial.read_back(customer, twins.urn, twins.body)


async def _require_kept_by_stranger(trial: Trial, pinned: Pinned, twins: _Twins) -> None:
    """Let the last of ours go; require that the stranger's pin is as it was."""
    await _require_unpinned(trial, pinned, twins.given_up)
    await pinned.node.collect()
    await _require_blocks(trial, pinned, twins, there=True, who="a stranger")
    trial.verdict.require(
        "a pin that a stranger made stays",
        met=str(twins.cid) in await pinned.node.pinned(),
        evidence=f"{twins.cid}",
    )


async def _require_unpinned(trial: Trial, pinned: Pinned, roots: frozenset[str]) -> None:
    async def unpinned() -> bool:
        return not roots & await pinned.node.pinned()

    within_s = trial.world.config.late_write_horizon_s + UNPINNED_S_MAX
    trial.verdict.require(
        "what was given up or erased is pinned no more",
        met=await trial.eventually(unpinned, within_s=within_s),
        evidence=f"{len(roots)} roots",
    )


async def _require_blocks(
    trial: Trial, pinned: Pinned, twins: _Twins, *, there: bool, who: str
) -> None:
    """Require of the blocks that the twins share that all of them are there, or none."""
    has = [await pinned.node.has(cid) for cid in twins.leaves]
    trial.verdict.require(
        "after a collection there are the blocks that anybody needs, and no other ones",
        met=bool(has) and set(has) == {there},
        evidence=f"{sum(has)} of {len(has)} blocks that {who} needs",
    )


@asynccontextmanager
async def _stranger(
    trial: Trial, pinned: Pinned, twins: _Twins, *, beside: _Twins
) -> AsyncIterator[None]:
    """Pin the payload by its own CID until the end of the block, as anybody may."""
    pins = pins_in(trial.world.catalog.inner)(pinned.store.name)
    # Should the run die, it is found by this, beside an object that stays, and cleared away.
    folder = (await pinned.of_object(beside.urn))[0].key.rpartition("/")[0]
    await pins.intend(Pin(f"{folder}/stranger", twins.cid, 0, ()))
    await pinned.node.pin(twins.cid)
    try:
        yield
    finally:
        await pinned.node.unpin(twins.cid)


CASE = Case(
    name="ipfs-shared-cid",
    edge_case="Two payloads have the same bytes, and so one CID in an IPFS node: an upload of a"
    " sealed file fails after its last byte, and the file is sent again.",
    fault="What was given up is cleared away before or after the object with the same bytes is"
    " erased; a stranger pins the same CID; the node collects in between.",
    load="Sealed files, each sent twice.",
    passes_when="Clearing one away takes nothing from the other, nor from the stranger; once nobody"
    " needs the blocks, the node removes them.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=IPFSSharedCID,
    bytes_min=lambda parameters: 4 * sum(parameters.sizes),
    expected_s=15.0,
    needs=NODE,
    run=run,
)
