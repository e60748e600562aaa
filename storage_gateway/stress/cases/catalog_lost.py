"""``catalog-lost``: a catalog is gone, and comes back from the copies in the stores."""

from storage_gateway.stress.contract import Case, bytes_of_bodies
from storage_gateway.stress.erasing import erase_all
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
from storage_gateway.stress.run_stores import GONE
from storage_gateway.stress.trial import TINY_SIZE, Trial
from storage_gateway.stress.world import GatewayLike

ONE_ERASED_OF = 3
ALONE = 3
"""Objects whose copies one store alone has."""


class CatalogLost(Parameters, kw_only=True, frozen=True):
    """Parameters of ``catalog-lost``."""

    sizes: Sizes = (4096, 1_000_000)


async def run(trial: Trial, _parameters: CatalogLost) -> None:
    """Store, erase, lose the catalog, make it again, and look whether all is as it was."""
    stored = Stored()
    async with trial.world.gateway(**COPIED) as gateway:
        customer = trial.customer(gateway, await trial.member("stress"))
        await trial.member("empty")
        await bring_copies(trial, gateway)  # of the sessions: nobody waited for those
        urns = await store_some(trial, customer, stored)
        gone = urns[::ONE_ERASED_OF]
        await erase_all(trial, customer, gone, "what is erased is not read again")
        await _store_alone(trial, gateway, customer, stored)
    before = await facts(trial.world)
    trial.begin_faults()
    await lose_catalog(trial.world)
    # What lacks tombstones comes first: it must not have the last word.
    report = await rebuild(trial, named_stores(trial)[::-1])
    trial.verdict.require(
        "all that comes back is what was there",
        met=before == await facts(trial.world),
        evidence=f"of {len(before)} objects, of which {report.objects} and {report.tombstones}"
        " tombstones were put back",
    )
    trial.require_all(
        "rebuild finds nothing wrong", [f"{f.where}: {f.detail}" for f in report.findings]
    )
    async with trial.world.gateway(**COPIED) as gateway:
        await require_as_before(trial, gateway, stored)
        await bring_copies(trial, gateway)


async def _store_alone(
    trial: Trial, gateway: GatewayLike, customer: Customer, stored: Stored
) -> None:
    """Store and erase while one of the stores cannot be asked, where the quorum is there without:
    it lacks copies, and a tombstone in the place of one.
    """
    away = trial.world.stores[-1]
    if away in trial.world.decisive or away not in named_stores(trial):
        return
    await bring_copies(trial, gateway)
    await away.suffer(GONE)
    urns = []
    for _ in range(ALONE):
        task_id = trial.next_task()
        answer = await trial.deliver(customer, task_id, trial.body(TINY_SIZE))
        trial.require_all("every body is stored", [] if answer.urn else [answer.outcome])
        if answer.urn:
            stored.slots[answer.urn] = customer.member.session_id, task_id
            urns.append(answer.urn)
    left = [u for u in stored.slots if u not in trial.ledger.erased and u not in urns]
    await erase_all(trial, customer, left[:1], "what is erased is not read again")
    trial.notes["stored_in_part"] = len(urns)
    await away.heal()


CASE = Case(
    name="catalog-lost",
    edge_case="The catalog is gone, and nobody has a backup of it.",
    fault="While no gateway runs the run's catalog is exchanged for a new, empty one; before, one"
    " store of three was out of reach for a while, and lacks copies and tombstones.",
    load="Clients that upload, and erase some of it; all is read, and sent again, afterwards.",
    passes_when="Rebuild puts everything back from the stores: what was answered is read byte for"
    " byte, what was erased stays erased, and every slot is taken.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=CatalogLost,
    bytes_min=bytes_of_bodies(ONE_ERASED_OF),
    expected_s=12.0,
    stores=3,
    quorum=2,
    run=run,
)
