"""``ipfs-slow-pin``: imports that an IPFS node is done with after everybody has given them up."""

from typing import Annotated, Any

import msgspec

from storage_gateway.backends.faulty import NO_FAULTS
from storage_gateway.errors import BackendUnavailable
from storage_gateway.late import CommitPending
from storage_gateway.records import INPUT
from storage_gateway.stress.bodies import Body
from storage_gateway.stress.contract import Case
from storage_gateway.stress.erasing import erase_all
from storage_gateway.stress.load import Customer
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.pinned import Pinned, watching
from storage_gateway.stress.run_stores import GONE, HORIZON_S, NEAR_NODE, Ailment
from storage_gateway.stress.tcp_faults import FaultKind, ProxyFault
from storage_gateway.stress.trial import TINY_BYTES, Trial

IMPORT = b"POST /api/v0/dag/import"
LANDED_S_MAX = 30.0
UNRECOVERED: dict[str, Any] = {"recovery_interval_s": 3600.0}
ANSWERED_SOON: dict[str, Any] = {"answer_within_s": 0.2}
"""Settings of gateways."""
BODIES = 2
"""In each round: one that has its quorum without the node, one that has not."""


class IPFSSlowPin(Parameters, kw_only=True, frozen=True):
    """Parameters of ``ipfs-slow-pin``."""

    sizes: Sizes = (4096, 1_500_000)
    late: Annotated[
        tuple[Annotated[float, msgspec.Meta(gt=0, lt=1)], ...],
        msgspec.Meta(
            min_length=1,
            max_length=8,
            description="How long after the deadline an import is done with, as shares of the"
            " late-write horizon, one after the other",
        ),
    ] = (0.1, 0.9)


def bytes_of_all(parameters: IPFSSlowPin) -> int:
    """Return what all rounds make, sent and read back, and a body before each and all of them."""
    return 2 * max(TINY_BYTES, *parameters.sizes) * ((BODIES + 1) * len(parameters.late) + 1)


async def run(trial: Trial, parameters: IPFSSlowPin) -> None:
    """Give up imports of two uploads in each round, and see them land; then clear them away."""
    member = await trial.member("stress")
    unstored: list[str] = []
    refused: dict[str, Body] = {}
    async with watching(trial, near=True) as pinned:
        async with trial.world.gateway() as gateway:
            await trial.round_trip(trial.customer(gateway, member), unstored)
        trial.begin_faults()
        for number, share in enumerate(parameters.late):
            # What has landed is seen in every other round: else recovery might be quicker.
            settings = ANSWERED_SOON if number % 2 else UNRECOVERED
            async with trial.world.gateway(**settings) as gateway:
                customer = trial.customer(gateway, member)
                await pinned.use_again(customer, unstored)
                before = await pinned.by_node()
                await _give_up(trial, customer, pinned, share, refused)
                if settings is UNRECOVERED:
                    await _require_landed(trial, pinned, before)
                await trial.world.heal()
        async with trial.world.gateway() as gateway:
            await pinned.require_only("what landed late is found, and unpinned")
            customer = trial.customer(gateway, member)
            for task_id, body in refused.items():
                answer = await trial.deliver(customer, task_id, body)
                if not answer.urn:
                    unstored.append(f"{task_id} ended in {answer.outcome}")
            await trial.world.wait_late()
            await _wait_settled(trial)
            await pinned.require_only("in the end no pin is left but of what is stored")
    trial.require_all("every body is stored in the end", unstored)


async def _give_up(
    trial: Trial, customer: Customer, pinned: Pinned, share: float, refused: dict[str, Body]
) -> None:
    """Erase an object whose import is under way, and fail an upload by one; wait until both of
    them have reached the node.
    """
    deadline_s = pinned.backend.deadline_s
    late_s = deadline_s + share * (HORIZON_S + deadline_s)
    proxy = pinned.store.proxy
    await pinned.store.suffer(_late(late_s))
    begun = 0 if proxy is None else proxy.happened
    erased = await trial.deliver(customer, trial.next_task(), trial.body())
    criterion = "a quorum does not wait for the node, and what is erased meanwhile is unreadable"
    await erase_all(trial, customer, [erased.urn], criterion)
    spared = next(s for s in trial.world.stores if s.domain != pinned.store.domain)
    for each in trial.world.stores:
        if each not in (spared, pinned.store):
            await each.suffer(GONE)
    body, task_id = trial.body(), trial.next_task()
    refused[task_id] = body
    trial.ledger.offer(customer.member, task_id, INPUT, body)
    answer = await customer.upload(task_id, body)
    trial.verdict.require(
        "an upload whose quorum waits for the node is refused, or told that it is pending",
        met=answer.outcome in (BackendUnavailable.code, CommitPending.code),
        evidence=f"after {answer.seconds:.1f} s it came to {answer.outcome}",
    )

    def reached() -> bool:
        return proxy is not None and proxy.happened >= begun + BODIES

    trial.verdict.require(
        "what was given up reached the node all the same",
        met=await trial.eventually(reached, within_s=late_s + LANDED_S_MAX),
        evidence=f"{late_s:.1f} s after it was sent; it is given up after {deadline_s:.1f} s",
    )


async def _require_landed(trial: Trial, pinned: Pinned, before: set[str]) -> None:
    landed: set[str] = set()

    async def has_landed() -> bool:
        landed.update(await pinned.by_node() - before)
        return len(landed) >= BODIES

    trial.verdict.require(
        "what was given up was pinned all the same",
        met=await trial.eventually(has_landed, within_s=LANDED_S_MAX),
        evidence=f"{len(landed)} pins",
    )


async def _wait_settled(trial: Trial) -> None:
    async def is_settled() -> bool:
        return not await trial.world.unsettled()

    within_s = trial.world.config.late_write_horizon_s + LANDED_S_MAX
    await trial.eventually(is_settled, within_s=within_s)


def _late(late_s: float) -> Ailment:
    wire = ProxyFault(kind=FaultKind.LATE, late_s=late_s, requests=(IMPORT,))
    return Ailment(calls=NO_FAULTS, wire=wire)


CASE = Case(
    name="ipfs-slow-pin",
    edge_case="An IPFS node pins what it was sent after the gateway has given it up: a little after"
    " the deadline, or long after.",
    fault="Imports reach the node late, also when nobody waits for them any more: of an object that"
    " has its quorum without the node and is erased meanwhile, and of an upload that has not.",
    load="One client, without and with a quorum besides the node.",
    passes_when="What waits for the node is refused, or told that it is pending; what was pinned"
    " late is found by what was written down before, and is unpinned; what is sent again is"
    " stored.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=IPFSSlowPin,
    bytes_min=bytes_of_all,
    expected_s=40.0,
    stores=3,
    quorum=2,
    needs=NEAR_NODE,
    run=run,
)
