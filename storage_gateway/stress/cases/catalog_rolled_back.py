"""``catalog-rolled-back``: a backup of the catalog is put back, and much happened since."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from storage_gateway.catalog.high_water import high_water, is_behind
from storage_gateway.catalog.work import find_intent, list_intents
from storage_gateway.collect import CollectReport
from storage_gateway.stress.contract import Case, bytes_of_bodies
from storage_gateway.stress.damage import require_right
from storage_gateway.stress.erasing import erase_all
from storage_gateway.stress.held import HELD_SIZE, Held
from storage_gateway.stress.load import Customer, Member
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.rebuilding import (
    COPIED,
    Kept,
    Stored,
    bring_copies,
    facts,
    keep_catalog,
    named_stores,
    put_back,
    rebuild,
    require_as_before,
    store_some,
)
from storage_gateway.stress.record import OK
from storage_gateway.stress.tampering import manifest_of
from storage_gateway.stress.trial import Trial
from storage_gateway.stress.world import GatewayLike

GC = {"gc_interval_s": 0.1, "gc_dwell_s": 0.4}
LOOK_MS = 100
"""Between looks of gc, by the catalog's clock."""
MANY = 1 << 30
"""An operator's word that gc may remove whatever it finds."""
MARK, COPY = "the mark", "a copy"
"""What tells that the catalog is an old one: the first where a gateway was started since."""
NOTICED_S_MAX = 30.0
PASSES = 4
LOOKS = 8
A_NIGHT_MS = 8 * 3600 * 1000
"""Since a backup was made: whoever had a lease then has none now."""


class CatalogRolledBack(Parameters, kw_only=True, frozen=True):
    """Parameters of ``catalog-rolled-back``."""

    sizes: Sizes = (4096, 1_000_000)


@dataclass(slots=True)
class _Past:
    """What there was when the backup was made, and what came of it."""

    kept: Kept = field(repr=False)
    member: Member
    early: list[str]
    """What the backup knows, and what was not erased since."""
    under_way: str = ""
    """The payload of the upload that was under way."""


async def run(trial: Trial, _parameters: CatalogRolledBack) -> None:
    """Put a backup back twice: one that the mark gives away, and one that a copy does."""
    stored = Stored()
    await trial.member("stress")
    for told_by in (MARK, COPY):
        past = await _live_on(trial, stored, told_by)
        before, payload_ids = await facts(trial.world), await _payloads(trial)
        blobs = await _blobs(trial, payload_ids)
        trial.begin_faults()
        await put_back(trial.world, past.kept)
        trial.world.clock.shift_ms += A_NIGHT_MS
        await _serve_behind(trial, stored, past, told_by)
        gone = blobs - await _blobs(trial, payload_ids)
        trial.require_all("nothing is collected while the catalog is behind", sorted(gone))
        report = await rebuild(trial, named_stores(trial))
        wrong = [f"{found.where}: {found.detail}" for found in report.findings]
        trial.require_all("rebuild finds nothing wrong", wrong)
        trial.verdict.require(
            "after the rebuild all is as it was",
            met=before.items() <= (await facts(trial.world)).items()
            and not await trial.world.catalog.inner.read(is_behind),
            evidence=f"of {len(before)} objects, of which {report.objects} and"
            f" {report.tombstones} tombstones were put back",
        )
        async with trial.world.gateway(**COPIED) as gateway:
            await require_as_before(trial, gateway, stored)
            await bring_copies(trial, gateway)


async def _live_on(trial: Trial, stored: Stored, told_by: str) -> _Past:
    """Store some, make a backup while an upload is under way, and go on: with it, with others, in
    another session too, and with erasures.
    """
    world, member = trial.world, trial.members["stress"]
    marked = await world.catalog.inner.read(high_water)
    async with world.gateway(**COPIED) as gateway:
        customer = trial.customer(gateway, member)
        await _mark_passes(trial, gateway, marked)
        early = await store_some(trial, customer, stored)
        await bring_copies(trial, gateway)
        async with _under_way(trial, customer) as payload_id:
            past = _Past(await keep_catalog(world), member, early[1:], payload_id)
            if told_by == MARK:
                marked = await gateway.upkeep.high_water.seen()
                async with world.gateway(**COPIED) as other:
                    await _mark_passes(trial, other, marked)
        late = await trial.member(f"since{len(trial.members)}")
        await bring_copies(trial, gateway)
        await store_some(trial, trial.customer(gateway, late), stored)
        await erase_all(trial, customer, early[:1], "what is erased is not read again")
    return past


async def _mark_passes(trial: Trial, gateway: GatewayLike, mark: int) -> None:
    """Wait until the stores have a higher mark than that, as those of a gateway that started."""

    async def is_higher() -> bool:
        return await gateway.upkeep.high_water.seen() > mark

    met = await trial.eventually(is_higher, within_s=NOTICED_S_MAX)
    trial.verdict.require(
        "a gateway that starts raises the mark", met=met, evidence=f"beyond {mark}"
    )


@asynccontextmanager
async def _under_way(trial: Trial, customer: Customer) -> AsyncIterator[str]:
    """Have an upload under way during the block, which yields its payload; then it is stored."""
    held, task_id = Held(trial.body(HELD_SIZE)), trial.next_task()
    trial.ledger.offer(customer.member, task_id, "input", held.body)
    sent = asyncio.create_task(customer.upload(task_id, held.body, source=held.pieces()))
    payload_id = ""

    async def has_begun() -> bool:
        nonlocal payload_id
        found = await trial.world.catalog.inner.read(partial(list_intents, after="", limit=1))
        payload_id = found[0].payload_id if found else ""
        return bool(found)

    try:
        await trial.eventually(has_begun, within_s=NOTICED_S_MAX)
        yield payload_id
    finally:
        held.goes_on.set()
        answer = await sent
    if answer.outcome == OK:
        trial.acknowledge(customer.member, answer.urn, held.body)
    trial.require_all(
        "an upload that was under way is stored", [] if answer.outcome == OK else [answer.outcome]
    )


async def _payloads(trial: Trial) -> list[str]:
    """Return the payloads of all objects that are not erased."""
    urns = trial.ledger.acknowledged.keys() - trial.ledger.erased
    return [(await manifest_of(trial.world, urn)).payload_id for urn in urns]


async def _blobs(trial: Trial, payload_ids: list[str]) -> set[str]:
    """Return what is stored of payloads, with the stores' names."""
    return {
        f"{each.name}: {blob.key}"
        for each in named_stores(trial)
        for payload_id in payload_ids
        async for blob in each.store.list(f"{trial.world.parts.payloads}{payload_id}/")
    }


async def _serve_behind(trial: Trial, stored: Stored, past: _Past, told_by: str) -> None:
    """Run gateways on the old catalog: one that must notice, then one that collects, too, what was
    there for less than a second, where in earnest it is a week.
    """
    world = trial.world
    async with world.gateway(**COPIED) as gateway:
        at_start = gateway.upkeep.high_water.is_behind

        async def is_noticed() -> bool:
            return await world.catalog.inner.read(is_behind)

        noticed = await trial.eventually(is_noticed, within_s=NOTICED_S_MAX)
        trial.verdict.require(
            f"{told_by} tells that the catalog is an old one",
            met=noticed and at_start is (told_by == MARK),
            evidence=f"noticed: {noticed}; when the gateway started: {at_start}",
        )
        for _ in range(PASSES):
            await gateway.upkeep.recovery.run_once()
        find = partial(find_intent, payload_id=past.under_way)
        intent = await world.catalog.inner.read(find)
        trial.verdict.require(
            "no upload of another process is cleared away",
            met=intent is not None,
            evidence=f"{intent}",
        )
    async with world.gateway(**COPIED, **GC) as gateway:
        customer = trial.customer(gateway, past.member)
        early = {urn: trial.ledger.acknowledged[urn][1] for urn in past.early}
        for _ in range(LOOKS):
            world.clock.shift_ms += LOOK_MS
            reports: list[CollectReport] = []

            async def says_so(reports: list[CollectReport] = reports) -> bool:
                # The gateway's own pass may have its turn.
                reports.append(await gateway.upkeep.collect.run_once(confirm=MANY))
                return reports[-1].behind

            trial.verdict.require(
                "gc says that it waits for a rebuild",
                met=await trial.eventually(says_so, within_s=NOTICED_S_MAX),
                evidence=f"{reports[-1]}",
            )
        await require_right(trial, customer, early, "what the old catalog knows is served")
        await store_some(trial, customer, stored)


CASE = Case(
    name="catalog-rolled-back",
    edge_case="Last night's backup of the catalog is put back, and objects were stored and erased"
    " since.",
    fault="While no gateway runs the run's catalog is exchanged for what it was before: first after"
    " another gateway was started, then without, so that only an upload that was under way gives it"
    " away. Leases of that time have run out.",
    load="Clients that upload before, in between in another session too, and on the old catalog; an"
    " upload that is under way when the backup is made, and stored afterwards; erasures.",
    passes_when="It is noticed; until the rebuild nothing is collected and no upload is aborted;"
    " afterwards all is as it was.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=CatalogRolledBack,
    bytes_min=bytes_of_bodies(4, HELD_SIZE, HELD_SIZE),
    expected_s=30.0,
    stores=2,
    quorum=2,
    run=run,
)
