"""What the cases of a catalog that is lost, or put back, have in common.

The run's gateways keep the catalog that they have open: what it holds is exchanged, all tables in
one transaction, on either database alike, while none of them runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from crypto import CopySealer, Identity, recovery_identity
from storage_gateway.backend_settings import IPFSBackend
from storage_gateway.catalog.tables import metadata, objects, outbox
from storage_gateway.catalog.work import load_deployment, record_marker
from storage_gateway.errors import Erased, SlotTaken
from storage_gateway.rebuild import Rebuild, RebuildReport
from storage_gateway.rebuild_pass import COUNTS

from .load import MINER, Customer, Member
from .record import OK
from .run_parts import register_keyring
from .run_stores import RunStore
from .trial import Trial
from .world import GatewayLike, Reachable, World

COPIED: Mapping[str, Any] = {"header_copies": 2, "recovery_recipient": None}
"""Settings of gateways that answer when a store has the manifest, and whose copies a run opens."""
COPIES_S_MAX = 30.0
ROWS = 500

Kept = dict[str, list[dict[str, Any]]]
"""What a catalog held, by table."""
Facts = dict[str, tuple[object, ...]]
"""What must be as it was, by object."""


@dataclass(slots=True)
class Stored:
    """What clients stored, by URN: the slot of each object."""

    slots: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Session and task."""


def named_stores(trial: Trial) -> list[RunStore]:
    """Return the stores that may hold copies: of a node nothing can be deleted."""
    return [s for s in trial.world.stores if not isinstance(s.backend, IPFSBackend)]


def opening(world: World) -> tuple[CopySealer, Identity]:
    """Return what makes the copies of the run, and what opens them."""
    identity = world.parts.copies_identity
    return CopySealer(identity, world.parts.deployment_id), recovery_identity(identity)


async def store_some(trial: Trial, customer: Customer, stored: Stored) -> list[str]:
    """Have clients store bodies as long as there is time; return their URNs."""
    unstored: list[str] = []
    urns: list[str] = []

    async def client(_number: int) -> None:
        task_id = trial.next_task()
        answer = await trial.deliver(customer, task_id, trial.body())
        if answer.urn:
            stored.slots[answer.urn] = customer.member.session_id, task_id
            urns.append(answer.urn)
        else:
            unstored.append(f"{task_id} ended in {answer.outcome}")

    await trial.crowd(client)
    trial.require_all("every body is stored", unstored)
    return urns


async def bring_copies(trial: Trial, gateway: GatewayLike) -> None:
    """Have every copy that is to come brought, as an operator does who runs the pass by hand."""

    async def are_brought() -> bool:
        await gateway.upkeep.outbox.run_once(at_once=True)
        count = select(func.count()).select_from(outbox)
        return await trial.world.catalog.inner.read(lambda c: c.execute(count).scalar_one()) == 0

    met = await trial.eventually(are_brought, within_s=COPIES_S_MAX)
    evidence = f"within {COPIES_S_MAX:g} s"
    trial.verdict.require("copies come to every store", met=met, evidence=evidence)


async def keep_catalog(world: World) -> Kept:
    """Return all that the catalog holds at one moment."""

    def unit(connection: Connection) -> Kept:
        return {
            table.name: [dict(row) for row in connection.execute(select(table)).mappings()]
            for table in metadata.sorted_tables
        }

    return await world.catalog.inner.read(unit)


async def put_back(world: World, kept: Kept) -> None:
    """Have the catalog hold what it held before, and nothing else."""

    def unit(connection: Connection) -> None:
        _empty(connection)
        for table in metadata.sorted_tables:
            rows = kept[table.name]
            for first in range(0, len(rows), ROWS):
                connection.execute(insert(table), rows[first : first + ROWS])

    await world.catalog.inner.run(unit)


async def lose_catalog(world: World) -> None:
    """Have a new catalog in the place of the run's, as the command makes one that rebuilds."""
    parts = world.parts

    def unit(connection: Connection) -> None:
        _empty(connection)
        load_deployment(connection, parts.deployment_id)
        for each in world.stores:
            record_marker(connection, each.name)
        register_keyring(connection, parts.keyring)

    await world.catalog.inner.run(unit)


def _empty(connection: Connection) -> None:
    for table in reversed(metadata.sorted_tables):
        connection.execute(delete(table))


async def rebuild(
    trial: Trial, named: Sequence[RunStore], *, accept_refused: bool = False
) -> RebuildReport:
    """Make the run's catalog whole from these stores, in that order, and issue tokens, which no
    copy holds.
    """
    world = trial.world
    sealer, recovery = opening(world)
    report = await Rebuild(
        catalog=world.catalog.inner,
        stores=[each.store for each in named],
        nodes=[each.name for each in world.stores if each not in named],
        sealer=sealer,
        recovery=recovery,
        prefix=world.prefix,
        accept_refused=accept_refused,
    ).run()
    trial.notes["rebuilt"] = {name: getattr(report, name) for name in COUNTS}
    trial.verdict.require(
        "rebuild reads every store to its end",
        met=bool(report.stores) and not report.unreachable,
        evidence=f"read {report.stores}, not {report.unreachable}",
    )
    for session_id, member in list(trial.members.items()):
        trial.members[session_id] = await _with_tokens(world, member)
    for urn, (member, body) in list(trial.ledger.acknowledged.items()):
        trial.ledger.acknowledged[urn] = trial.members[member.session_id], body
    return report


async def _with_tokens(world: World, member: Member) -> Member:
    return replace(
        member,
        user_token=await world.sessions.reissue(member.session_id, None),
        miner_token=await world.sessions.reissue(member.session_id, MINER),
    )


async def facts(world: World) -> Facts:
    """Return what the catalog says of each object that a rebuild may not change."""
    columns = [
        objects.c[name]
        for name in ("object_id", "generation", "session_id", "task_id", "payload_id", "head")
    ]
    found = await world.catalog.inner.read(lambda c: c.execute(select(*columns)).all())
    return {row.object_id: tuple(row) for row in found}


async def require_as_before(trial: Trial, gateway: Reachable, stored: Stored) -> None:
    """Require that each object is read byte for byte, or is erased, and has its slot."""
    unread, back, free = list[str](), list[str](), list[str]()
    for urn, (member, body) in trial.ledger.acknowledged.items():
        customer = trial.customer(gateway, member)
        answer = await customer.fetch(urn, size=body.size)
        if urn in trial.ledger.erased:
            if answer.outcome != Erased.code:
                back.append(f"{urn} was erased, and reading it came to {answer.outcome}")
        elif answer.outcome != OK:
            unread.append(f"{urn} came to {answer.outcome}")
        elif answer.digest != body.digest:
            trial.verdict.broken(8, f"{urn} was read with other content than was sent for it")
        if urn not in stored.slots:
            continue
        again = await customer.upload(stored.slots[urn][1], body)
        if (again.outcome, again.urn) != (SlotTaken.code, urn):
            free.append(f"the slot of {urn}; sent again: {again.outcome} {again.urn}")
    trial.require_all("what was answered is read again", unread)
    trial.require_all("what was erased stays erased", back)
    trial.require_all("every slot is taken as before", free)
    erased = len(trial.ledger.erased)
    trial.verdict.require(
        "there is something to bring back, and something that must not come",
        met=0 < erased < len(trial.ledger.acknowledged),
        evidence=f"{len(trial.ledger.acknowledged)} objects, {erased} of them erased",
    )
