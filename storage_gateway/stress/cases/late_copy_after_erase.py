"""``late-copy-after-erase``: what an erased object was written as comes to a store afterwards."""

from collections.abc import Mapping, Sequence

from sqlalchemy import func, select

from storage_gateway.backends.faulty import StoreFaults
from storage_gateway.catalog.retention_tables import leases
from storage_gateway.manifest_copies import RETENTION, folder_of
from storage_gateway.records import ObjectState
from storage_gateway.stress.contract import Case, bytes_of_bodies
from storage_gateway.stress.erasing import (
    NEWER,
    Trace,
    erase_all,
    left_in,
    require_erased,
    states_of,
    trace_all,
)
from storage_gateway.stress.load import Customer
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.rebuilding import (
    COPIED,
    Stored,
    bring_copies,
    facts,
    lose_catalog,
    named_stores,
    rebuild,
    require_as_before,
    store_some,
)
from storage_gateway.stress.record import OK
from storage_gateway.stress.run_stores import RunStore
from storage_gateway.stress.trial import Trial
from storage_gateway.stress.world import GatewayLike

ONE_ERASED_OF = 3
LONG_HORIZON_S = 60.0
"""Of the gateway under which things come late, however slow the machine."""
PASSES = 5
"""Passes of recovery, by the last of which what came late is found; the first may have begun
before."""
PASSES_S_MAX = 30.0
IN_FLIGHT, IN_FLIGHT_SIZE = 3, 4096
"""Objects that are erased while a store is still taking them."""
SLOW_S = 1.0
LEASE_S = 86400
HEARD = "what is erased is erasing, and unreadable at once"
ERASED = "nothing of what is erased is left anywhere"

TOMBSTONE = 2
"""The generation of an object that was stored, and erased."""

Blobs = Mapping[str, bytes]


class LateCopyAfterErase(Parameters, kw_only=True, frozen=True):
    """Parameters of ``late-copy-after-erase``."""

    sizes: Sizes = (4096, 1_000_000)


async def run(trial: Trial, _parameters: LateCopyAfterErase) -> None:
    """Erase, have what was written come to each store once more, and after all that once again."""
    stored, named = Stored(), named_stores(trial)
    settings = {**COPIED, "late_write_horizon_s": LONG_HORIZON_S}
    async with trial.world.gateway(**settings) as gateway:
        customer = trial.customer(gateway, await trial.member("stress"))
        urns = await store_some(trial, customer, stored)
        gone = urns[::ONE_ERASED_OF]
        await _lease_all(trial, customer, gone)
        await bring_copies(trial, gateway)
        traces = await trace_all(trial, gone)
        blobs = await _written(trial, named[0], traces)
        claims = await _leased(trial, named[0], traces)
        trial.begin_faults()
        await erase_all(trial, customer, list(traces), HEARD, state=ObjectState.ERASING)
        traces |= await _erase_in_flight(trial, gateway, customer, named[-1])
        await _looked(trial, gateway, traces, "what is erased is deleted")
        for store in named:
            await _put_all(store, blobs)
            criterion = "what comes to a store late is found, and deleted"
            await _looked(trial, gateway, traces, criterion)
    async with trial.world.gateway(**COPIED) as gateway:
        await require_erased(trial, traces, ERASED)
        await bring_copies(trial, gateway)  # also of claims that ended with their objects
    trial.notes["came_late"] = len(blobs) * len(named)
    before = await facts(trial.world)
    for store in named:  # later than anybody looks for it
        # Also claims, in the place of the copies that say that they ended.
        for key in await _leased(trial, store, traces):
            await store.store.delete(key)
        await _put_all(store, {**blobs, **claims})
    await lose_catalog(trial.world)
    await rebuild(trial, named)
    trial.verdict.require(
        "all that comes back is what was there",
        met=before == await facts(trial.world),
        evidence=f"of {len(before)} objects, {len(traces)} of them erased",
    )
    claimed = await trial.world.catalog.inner.read(
        lambda c: c.execute(select(func.count()).select_from(leases)).scalar_one()
    )
    trial.verdict.require(
        "no claim on what is erased comes back", met=claimed == 0, evidence=f"{claimed} leases"
    )
    async with trial.world.gateway(**COPIED) as gateway:
        await require_as_before(trial, gateway, stored)
        await bring_copies(trial, gateway)
        await require_erased(trial, traces, f"{ERASED}, after a rebuild neither")


async def _lease_all(trial: Trial, customer: Customer, urns: Sequence[str]) -> None:
    """Have leases on objects, of which there are copies, too."""
    token, wish = customer.member.user_token, {"for_s": LEASE_S}
    answers = [
        await customer.ask("renew", "PUT", f"/v1/objects/{urn}/lease", token, wish) for urn in urns
    ]
    refused = [answer.outcome for answer in answers if answer.outcome != OK]
    trial.require_all("what is to be erased is leased", refused)


async def _written(trial: Trial, store: RunStore, traces: Mapping[str, Trace]) -> Blobs:
    """Return all that a store has of objects, by the keys."""
    found: dict[str, bytes] = {}
    for trace in traces.values():
        for key in await left_in(trial.world, store, trace, NEWER):
            found[key] = await _read(store, key)
    trial.verdict.require(
        "a store has payloads and copies of what is erased",
        met=len(found) >= 2 * len(traces) > 0,
        evidence=f"{len(found)} of {len(traces)} objects",
    )
    return found


async def _leased(trial: Trial, store: RunStore, traces: Mapping[str, Trace]) -> Blobs:
    """Return the copies that a store has of what is claimed of objects, by the keys."""
    found: dict[str, bytes] = {}
    for trace in traces.values():
        folder = folder_of(trial.world.prefix, RETENTION, trace.object_id)
        for key in [blob.key async for blob in store.store.list(folder)]:
            found[key] = await _read(store, key)
    trial.verdict.require(
        "a store has copies of what is claimed",
        met=bool(found),
        evidence=f"{len(found)} copies in store {store.name}",
    )
    return found


async def _read(store: RunStore, key: str) -> bytes:
    return await store.store.get(key, 0, (await store.store.stat(key)).size)


async def _put_all(store: RunStore, blobs: Blobs) -> None:
    for key, data in blobs.items():
        await store.store.put(key, data)


async def _erase_in_flight(
    trial: Trial, gateway: GatewayLike, customer: Customer, store: RunStore
) -> dict[str, Trace]:
    """Erase objects as soon as they are acknowledged, while one store is still taking them."""
    store.faulty.faults = StoreFaults(delay_s={"put": SLOW_S, "finish": SLOW_S})
    traces: dict[str, Trace] = {}
    for _ in range(IN_FLIGHT):
        answer = await trial.deliver(customer, trial.next_task(), trial.body(IN_FLIGHT_SIZE))
        new = await trace_all(trial, [answer.urn])
        await erase_all(trial, customer, list(new), HEARD, state=ObjectState.ERASING)
        traces |= new
    slowed = store.faulty.injected["slow put"] + store.faulty.injected["slow finish"]
    store.faulty.heal()
    await trial.world.wait_late()
    await gateway.upkeep.outbox.wait()
    trial.verdict.require(
        "a store was slow to take what was erased",
        met=slowed > 0,
        evidence=f"{slowed} calls in store {store.name}",
    )
    return traces


async def _looked(
    trial: Trial, gateway: GatewayLike, traces: Mapping[str, Trace], criterion: str
) -> None:
    """Have recovery look some times; require that no store has anything of the objects then, and
    that none counts as erased, as more may come.
    """
    recovery, left = gateway.upkeep.recovery, list[str]()
    enough = recovery.passes + PASSES
    await trial.eventually(lambda: recovery.passes >= enough, within_s=PASSES_S_MAX)
    for trace in traces.values():
        for store in trial.world.stores:
            found = await left_in(trial.world, store, trace, TOMBSTONE)
            left += [f"{key} in store {store.name}" for key in found]
    trial.require_all(criterion, left)
    states = {state.value for state in await states_of(trial, traces)}
    trial.verdict.require(
        "nothing counts as erased as long as something may come late",
        met=states == {ObjectState.ERASING.value},
        evidence=f"{states}",
    )


CASE = Case(
    name="late-copy-after-erase",
    edge_case="What an object was written as comes to a store when it is erased, and the deletion"
    " found nothing there.",
    fault="A store of two that is slow to take what is acknowledged, and erased at once;"
    " payloads and copies of manifests that come to each store once more, and again when all is"
    " over. Then the catalog is exchanged for an empty one.",
    load="Clients that upload, claim, and erase; all is read, and sent again, afterwards.",
    passes_when="What comes late is found and deleted, and nothing counts as erased before none can"
    " come; a rebuild brings nothing of it back.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=LateCopyAfterErase,
    bytes_min=bytes_of_bodies(ONE_ERASED_OF, IN_FLIGHT * IN_FLIGHT_SIZE),
    expected_s=10.0,
    stores=2,
    run=run,
)
