"""``repair-under-load``: copies are lost and made again while uploads, reads and erasures go on."""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from storage_gateway.backends.faulty import StoreFaults
from storage_gateway.catalog.copies import BAD, PLACED
from storage_gateway.stress.contract import Case
from storage_gateway.stress.damage import complete
from storage_gateway.stress.erasing import erase_all
from storage_gateway.stress.load import Customer
from storage_gateway.stress.mending import UNHINDERED, mend, repair, require_everywhere, scrub
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.record import OK
from storage_gateway.stress.run_stores import GONE
from storage_gateway.stress.tampering import (
    Change,
    blob_key,
    copies_of,
    flipped,
    replaced,
    spoil,
)
from storage_gateway.stress.trial import Trial
from storage_gateway.stress.world import GatewayLike

BEGUN = 4
"""Objects that are there before the load begins, of which each loses a copy."""
BROKEN_MAX = 6
"""Copies that are lost in one round."""
ROUNDS_MIN = 2
ERASED_EACH = 3
"""Of so many objects that lost a copy one is erased while repair is at it."""


class RepairUnderLoad(Parameters, kw_only=True, frozen=True):
    """Parameters of ``repair-under-load``."""

    sizes: Sizes = (4096, 1_500_000, 9_000_000)


def bytes_at_least(parameters: RepairUnderLoad) -> int:
    """Return what is there before the load, and what the load stores in three rounds."""
    return 2 * (BEGUN + 3 * parameters.clients) * max(parameters.sizes)


@dataclass(slots=True)
class _Load:
    """What clients have stored, and what they saw."""

    customer: Customer
    kept: list[str] = field(default_factory=list)
    """What may be read, and is not to be erased."""
    whole: list[str] = field(default_factory=list)
    """Of that: what has lost no copy yet."""
    unstored: list[str] = field(default_factory=list)
    misread: list[str] = field(default_factory=list)
    reads: int = 0
    made: int = 0
    """Copies that repair has made."""
    broken: int = 0
    """Copies that were lost."""

    def add(self, urn: str) -> None:
        """Note an object."""
        if urn:
            self.kept.append(urn)
            self.whole.append(urn)


async def run(trial: Trial, _parameters: RepairUnderLoad) -> None:
    """Lose copies in one store of three, with another one away at times, and repair meanwhile."""
    member = await trial.member("stress")
    async with trial.world.gateway(scrub_bytes_per_s=UNHINDERED) as gateway:
        load = _Load(trial.customer(gateway, member))
        for _ in range(BEGUN):
            load.add(await trial.round_trip(load.customer, load.unstored))
        await complete(trial)
        trial.begin_faults()
        await _repair_into_nothing(trial, gateway, load)
        await _repair_under_load(trial, gateway, load)
    await trial.world.heal()
    await trial.world.wait_late()
    async with trial.world.gateway(scrub_bytes_per_s=UNHINDERED) as gateway:
        await mend(trial, gateway)
    await require_everywhere(trial, "every store has each segment right in the end")
    trial.require_all("every body is stored", load.unstored)
    trial.require_all("every read is right while copies are lost and made again", load.misread)
    trial.verdict.require(
        "copies were lost, read around, and made again under load",
        met=load.broken > 0 and load.reads > 0 and load.made > 0,
        evidence=f"{load.broken} lost, {load.made} made, {load.reads} reads",
    )


async def _repair_into_nothing(trial: Trial, gateway: GatewayLike, load: _Load) -> None:
    """Let the store that lost copies say that it has them again, and keep nothing."""
    ill = trial.world.stores[0]
    await _break(trial, load, len(load.whole))
    found = await scrub(gateway)
    ill.faulty.faults = StoreFaults(forgets=True)
    report = await repair(gateway)
    ill.faulty.heal()
    counted = [urn for urn in load.kept if ill.name not in await copies_of(trial.world, urn, BAD)]
    trial.verdict.require(
        "what a store did not keep is not counted as made",
        met=found.bad > 0 and report.failed > 0 and not report.made and not counted,
        evidence=f"{found.bad} bad copies, {report.made} counted as made, {report.failed} failed",
    )


async def _repair_under_load(trial: Trial, gateway: GatewayLike, load: _Load) -> None:
    """Lose copies and repair, in rounds, as long as clients are at work."""

    async def client(number: int) -> None:
        load.add(await trial.round_trip(load.customer, load.unstored))
        await _read_one(trial, load, number)

    crowd = asyncio.create_task(trial.crowd(client))
    try:
        for rounds in itertools.count():
            if rounds >= ROUNDS_MIN and crowd.done():
                break
            await _round(trial, gateway, load)
    finally:
        await crowd


async def _read_one(trial: Trial, load: _Load, number: int) -> None:
    urn = load.kept[trial.chance("read", number, load.reads).below(len(load.kept))]
    body = trial.ledger.acknowledged[urn][1]
    load.reads += 1
    answer = await load.customer.fetch(urn, size=body.size)
    if urn in trial.ledger.erased:
        return
    if answer.outcome != OK:
        load.misread.append(f"{urn} came to {answer.outcome}")
    elif answer.digest != body.digest:
        trial.verdict.broken(8, f"{urn} was read with other content than was sent for it")


async def _round(trial: Trial, gateway: GatewayLike, load: _Load) -> None:
    """Lose copies in the first store, and repair while the last one is away, and once more."""
    last = trial.world.stores[-1]
    broken = await _break(trial, load, BROKEN_MAX)
    # Before a store is away: one that does not answer a scrub is left alone for minutes.
    await scrub(gateway)
    doomed = broken[::ERASED_EACH]
    load.kept = [urn for urn in load.kept if urn not in doomed]
    await last.suffer(GONE)
    criterion = "what is erased while its copies are made is gone at once"
    made, _ = await asyncio.gather(
        repair(gateway), erase_all(trial, load.customer, doomed, criterion)
    )
    load.made += made.made
    await last.heal()
    load.made += (await repair(gateway)).made


async def _break(trial: Trial, load: _Load, count: int) -> Sequence[str]:
    """Lose a copy of as many objects, in the first store, each in another way; return them."""
    broken, store = [], trial.world.stores[0]
    for urn in load.whole[:count]:
        load.whole.remove(urn)
        segments = (await copies_of(trial.world, urn, PLACED)).get(store.name, frozenset())
        if not segments:
            continue  # it did not come there in time: repair is to make it anyway
        chance = trial.chance("break", load.broken)
        key = await blob_key(trial.world, urn, chance.one_of(sorted(segments)))
        await spoil(store, key, _changes(key)[load.broken % len(_changes(key))])
        load.broken += 1
        broken.append(urn)
    return broken


def _changes(label: str) -> Sequence[Change]:
    """Return the ways in which a copy is lost."""
    return lambda _: None, flipped(len(label)), replaced(label), lambda data: data[: len(data) // 2]


CASE = Case(
    name="repair-under-load",
    edge_case="Copies are lost in one store, and another one is away for a while, and repair makes"
    " them again while clients go on.",
    fault="Blobs of one store of three are taken away, changed and cut; the store keeps nothing of"
    " what repair puts there, once; another store is out of reach while repair is at work.",
    load="Clients that upload and read; objects of which a copy is being made are erased.",
    passes_when="Every read is right, what the store did not keep does not count as made, and in"
    " the end every store has each segment of each object right.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=RepairUnderLoad,
    bytes_min=bytes_at_least,
    expected_s=20.0,
    stores=3,
    quorum=2,
    run=run,
)
