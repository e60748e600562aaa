"""``erase-with-backend-down``: objects are erased while one of the stores is away."""

from storage_gateway.records import ObjectState
from storage_gateway.stress.contract import Case, bytes_of_bodies
from storage_gateway.stress.erasing import (
    NEWER,
    Trace,
    erase_all,
    left_in,
    require_erased,
    require_erasing,
    trace_all,
)
from storage_gateway.stress.load import Member
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.rebuilding import COPIED, bring_copies, named_stores
from storage_gateway.stress.run_stores import GONE, RunStore
from storage_gateway.stress.trial import Trial

BEFORE = 3
"""Objects that each store has when it goes away."""
HEARD = "what is erased is erasing, and unreadable at once, through every gateway"


class EraseWithBackendDown(Parameters, kw_only=True, frozen=True):
    """Parameters of ``erase-with-backend-down``."""

    sizes: Sizes = (4096, 1_500_000)


async def run(trial: Trial, _parameters: EraseWithBackendDown) -> None:
    """Let each store be away once while objects are erased, and processes come and go."""
    member = await trial.member("stress")
    unstored: list[str] = []
    trial.begin_faults()
    erased = 0
    for away in trial.world.stores:
        erased += await _erase_without(trial, member, away, unstored)
    trial.notes["erased"] = erased
    trial.require_all("every body is stored", unstored)


async def _erase_without(trial: Trial, member: Member, away: RunStore, unstored: list[str]) -> int:
    """Erase what a store has, and what it never got, while it is away; then it comes back."""
    traces: dict[str, Trace] = {}
    async with trial.world.gateway(**COPIED) as gateway, trial.world.gateway(**COPIED) as other:
        customer, beside = (trial.customer(each, member) for each in (gateway, other))
        urns = [await trial.round_trip(customer, unstored) for _ in range(BEFORE)]
        await trial.world.wait_late()
        await bring_copies(trial, gateway)
        traces |= await trace_all(trial, urns)
        await _require_there(trial, away, list(traces.values()))
        await away.suffer(GONE)
        await erase_all(trial, customer, urns, HEARD, state=ObjectState.ERASING, beside=beside)

        async def client(_number: int) -> None:
            urn = await trial.round_trip(customer, unstored)
            new = await trace_all(trial, [urn] if urn else [])
            traces.update(new)
            erasing = ObjectState.ERASING
            await erase_all(trial, customer, list(new), HEARD, state=erasing, beside=beside)

        await trial.crowd(client)
        await require_erasing(trial, list(traces))
    # Who comes now has not seen any of it.
    async with trial.world.gateway(**COPIED):
        await require_erasing(trial, list(traces))
        await away.heal()
        criterion = "nothing of what is erased is left anywhere once every store is back"
        await require_erased(trial, traces, criterion)
    return len(traces)


async def _require_there(trial: Trial, store: RunStore, traces: list[Trace]) -> None:
    """Require that a store has each of the objects, and a copy of its manifest if it may."""
    wanted = 2 if store in named_stores(trial) else 1
    found = [len(await left_in(trial.world, store, trace, NEWER)) for trace in traces]
    trial.verdict.require(
        "the store that goes away has something to erase",
        met=bool(found) and min(found) >= wanted,
        evidence=f"{found} payloads and copies in store {store.name}",
    )


CASE = Case(
    name="erase-with-backend-down",
    edge_case="Objects are erased while a store that has them cannot be reached.",
    fault="Each of three stores is out of reach once; meanwhile the gateways end, and another one"
    " comes that knows of nothing.",
    load="Clients that upload, read back and erase; what is erased is asked for through two"
    " gateways.",
    passes_when="What is erased is unreadable at once; it counts as erased no sooner than the store"
    " is back; then no store has anything of it, copies of manifests neither, and no file of the"
    " catalog a part of its head.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=EraseWithBackendDown,
    bytes_min=bytes_of_bodies(3 * BEFORE),
    expected_s=15.0,
    stores=3,
    quorum=2,
    run=run,
)
