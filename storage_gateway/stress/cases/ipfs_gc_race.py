"""``ipfs-gc-race``: an IPFS node collects garbage again and again while it is used."""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from storage_gateway.backends.pins import Pin
from storage_gateway.errors import BackendUnavailable
from storage_gateway.stress.bodies import Body
from storage_gateway.stress.contract import Case, bytes_of_bodies
from storage_gateway.stress.erasing import erase_all
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.pinned import Pinned, watching
from storage_gateway.stress.record import OK
from storage_gateway.stress.run_stores import NODE
from storage_gateway.stress.trial import (
    ROUNDS_MIN,
    TINY_BYTES,
    TINY_SIZE,
    WORTH_RETRYING,
    Trial,
)
from urn import CID, Codec

KEPT_S_MAX = 30.0


class IPFSGCRace(Parameters, kw_only=True, frozen=True):
    """Parameters of ``ipfs-gc-race``."""

    sizes: Sizes = (4096, 1_500_000)


@dataclass(slots=True)
class _Collected:
    """What the node's collections came to."""

    times: int = 0
    blocks: int = 0
    is_over: bool = False

    async def again_and_again(self, pinned: Pinned) -> None:
        """Collect without a pause. None is broken off: after that js-ipfs 0.18 was seen to refuse
        all others.
        """
        while not self.is_over:
            self.blocks += await pinned.node.collect()
            self.times += 1


async def run(trial: Trial, _parameters: IPFSGCRace) -> None:
    """Upload, read and erase while the node collects; then let it collect for the last time."""
    member = await trial.member("stress")
    unstored: list[str] = []
    leaves: dict[str, list[CID]] = {}
    turns = itertools.count()
    collected = _Collected()
    async with trial.world.gateway() as gateway, watching(trial) as pinned:
        customer = trial.customer(gateway, member)

        async def store(body: Body | None = None) -> str:
            urn = await trial.round_trip(customer, unstored, body)
            if urn:
                leaves[urn] = _leaves_of(await pinned.of_object(urn))
            return urn

        async def is_kept() -> bool:
            await store(trial.body(TINY_SIZE))
            return bool(await pinned.by_node_or_none())

        async def client(_number: int) -> None:
            urn = await store()
            if urn and next(turns) % 2:
                await erase_all(trial, customer, [urn], "what is erased is unreadable at once")

        trial.begin_faults()
        collecting = asyncio.create_task(collected.again_and_again(pinned))
        try:
            # Beside another store an import that fails makes no upload fail.
            await trial.eventually(is_kept, within_s=KEPT_S_MAX)
            await trial.crowd(client)
            await trial.eventually(
                lambda: collected.times >= ROUNDS_MIN or collecting.done(), within_s=60.0
            )
        finally:
            collected.is_over = True
            ended = await asyncio.gather(collecting, return_exceptions=True)
        trial.require_all("the node can collect", [str(e) for e in ended if _is_refusal(e)])
        await trial.world.wait_late()
        await pinned.require_only("the node keeps what objects need, and nothing else")
        collected.blocks += await pinned.node.collect()
        await _judge_blocks(trial, pinned, leaves)
    wrong = [
        f"{operation} came to {outcome}"
        for operation in ("upload", "fetch")
        for outcome in trial.record.outcomes[operation]
        if outcome not in {OK, "erased", *WORTH_RETRYING}
    ]
    trial.require_all("nothing is answered but what to try again after", wrong)
    trial.require_all("every body is stored in the end", unstored)
    trial.verdict.require(
        "the node collected again and again, and found something",
        met=collected.times >= ROUNDS_MIN and collected.blocks > 0,
        evidence=f"{collected.times} times, {collected.blocks} blocks",
    )


def _is_refusal(error: object) -> bool:
    return isinstance(error, BackendUnavailable)


def _leaves_of(pins: Sequence[Pin]) -> list[CID]:
    return [CID(Codec.RAW, digest) for pin in pins for digest in pin.leaves]


async def _judge_blocks(trial: Trial, pinned: Pinned, leaves: dict[str, list[CID]]) -> None:
    """Require that the node has all of what is stored, and nothing of what was erased."""
    wrong: list[str] = []
    kept = 0
    for urn, cids in leaves.items():
        is_erased = urn in trial.ledger.erased
        looked_for = cids if is_erased else _leaves_of(await pinned.of_object(urn))
        has = {cid for cid in looked_for if await pinned.node.has(cid)}
        if is_erased and has:
            wrong.append(f"{len(has)} blocks of {urn}, which is erased, are there")
        if is_erased:
            continue
        kept += len(has)
        if lost := set(_leaves_of(await pinned.placed_of(urn))) - has:
            wrong.append(f"{len(lost)} blocks of {urn} are not there")
    trial.require_all("after a last collection there is what is stored, and nothing else", wrong)
    trial.verdict.require(
        "what was sent to the node while it collected outlives a last collection",
        met=kept > 0,
        evidence=f"{kept} leaves of {len(leaves.keys() - trial.ledger.erased)} objects",
    )
    trial.verdict.require(
        "some objects were erased, and some were not",
        met=0 < len(trial.ledger.erased) < len(leaves),
        evidence=f"{len(trial.ledger.erased)} of {len(leaves)} were",
    )


CASE = Case(
    name="ipfs-gc-race",
    edge_case="An IPFS node collects garbage while payloads are sent to it, read and erased.",
    fault="The node's collector is called again and again; it removes whatever no pin holds, of"
    " others too.",
    load="Clients that upload, read back, and erase every other object.",
    passes_when="Everything that is stored stays whole; of what was erased nothing is left after a"
    " last collection.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=IPFSGCRace,
    bytes_min=bytes_of_bodies(2, TINY_BYTES),
    expected_s=15.0,
    needs=NODE,
    run=run,
)
