"""What the cases of damage at rest have in common: objects are stored, damaged, read, put right."""

import asyncio
import hashlib
import itertools
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

from crypto import LEAF_PLAINTEXT_SIZE, CryptoError, open_file
from storage_gateway.catalog.copies import BAD
from storage_gateway.errors import BlobCorrupt, GatewayError
from storage_gateway.repair import Repair, RepairReport

from .bodies import Body
from .load import BROKEN, Answer, Customer
from .record import OK
from .tampering import copies_of
from .trial import LoadSpent, Trial

OBJECTS_MAX = 24
"""Each is damaged and put back in each store, which is synced every time."""
NOTED_S_MAX = 10.0
OTHER_BYTES = "other bytes"
COMPLETE_S_MAX = 60.0
SEALED_BYTES_MAX = 32 << 20
"""Larger ones are not fetched as sealed files: these are kept whole."""

Stored = dict[str, Body]
"""Objects that clients stored, by their URNs."""
Damage = Callable[[Sequence[str], int, AsyncExitStack], Awaitable[None]]
"""Damages objects (their URNs) in the store of that number until the stack is closed."""


def each(damage: Callable[[str, int, AsyncExitStack], Awaitable[None]]) -> Damage:
    """Return what damages objects one by one."""

    async def damage_all(urns: Sequence[str], store: int, opened: AsyncExitStack) -> None:
        for urn in urns:
            await damage(urn, store, opened)

    return damage_all


async def read_under_damage(
    trial: Trial, damage: Damage, *, refused: type[GatewayError] = BlobCorrupt, alike: int = 1
) -> None:
    """Store objects, so many of one size each time, and do with them what `judge_damage` does."""
    member = await trial.member("stress")
    async with trial.world.gateway() as gateway:
        customer = trial.customer(gateway, member)
        stored = await store_objects(trial, customer, alike=alike)
        await judge_damage(trial, customer, stored, damage, refused=refused)


async def judge_damage(
    trial: Trial,
    customer: Customer,
    stored: Stored,
    damage: Damage,
    *,
    refused: type[GatewayError] = BlobCorrupt,
) -> None:
    """Damage objects in the first of the run's stores, and read; then in all of them.

    Requires that every read is right as long as one copy is, that bad copies that were read are
    noted in the catalog, that a read of nothing but bad copies is refused as the damage that it
    is, and that all is right again once the damage is undone.
    """
    trial.begin_faults()
    async with AsyncExitStack() as opened:
        await damage(list(stored), 0, opened)
        criterion = "what one store has right is read right"
        right = await require_right(trial, customer, stored, criterion)
        first = {trial.world.stores[0].name}
        await require_noted(trial, list(stored), first, within_s=NOTED_S_MAX if right else 0)
        for store in range(1, len(trial.world.stores)):
            await damage(list(stored), store, opened)
        criterion = "what no store has right is refused"
        await require_refused(trial, customer, stored, refused, criterion)
    await require_right(trial, customer, stored, "all is read again once the damage is undone")


async def store_objects(trial: Trial, customer: Customer, *, alike: int = 1) -> Stored:
    """Return as many objects as clients can store in the time there is, so many of one size each
    time.
    """
    stored: Stored = {}
    unstored: list[str] = []
    sizes = itertools.cycle(trial.parameters.sizes)

    async def client(_number: int) -> None:
        if len(stored) >= OBJECTS_MAX:
            raise LoadSpent
        size = next(sizes)
        for body in [trial.body(size) for _ in range(alike)]:
            task_id = trial.next_task()
            answer = await trial.deliver(customer, task_id, body)
            if answer.urn:
                stored[answer.urn] = body
            else:
                unstored.append(f"{task_id} ended in {answer.outcome}")

    await trial.crowd(client)
    trial.require_all("every body is stored", unstored)
    await complete(trial)
    return stored


async def complete(trial: Trial) -> None:
    """Have what a store took a little too late for its commit counted as there, as repair does.

    Requires that nothing is left that is not in every store that it is wanted in.
    """
    world = trial.world
    await world.wait_late()
    threads = ThreadPoolExecutor(1)
    repair = Repair(
        catalog=world.catalog.inner,
        store=world.parts.replicas,
        threads=threads,
        payloads=world.parts.payloads,
        spool=world.folder,
        settled_s=0.0,
    )
    passes: list[RepairReport] = []

    async def has_ended() -> bool:
        passes.append(await repair.run_once())
        return passes[-1].ended

    try:
        met = await trial.eventually(has_ended, within_s=COMPLETE_S_MAX)
    finally:
        threads.shutdown(wait=False)
    undone = sum(each.failed + each.lost + each.waiting for each in passes)
    trial.verdict.require(
        "every store has what it is to have before anything is damaged",
        met=met and not undone,
        evidence=f"repair, in {len(passes)} passes, left {undone} copies undone",
    )


async def require_right(
    trial: Trial, customer: Customer, stored: Mapping[str, Body], criterion: str
) -> bool:
    """Require that each object is read right, in clear and as a sealed file; tell whether.

    Other bytes than were sent for it break invariant 8, too.
    """
    wrong: list[str] = []
    for urn, body in stored.items():
        came_to = await _came_to(customer, urn, body)
        if came_to == OTHER_BYTES:
            trial.verdict.broken(8, f"{urn} was read with other content than was sent for it")
        if came_to != OK:
            wrong.append(f"{urn} came to {came_to}")
    trial.require_all(criterion, wrong)
    return not wrong


async def _came_to(customer: Customer, urn: str, body: Body) -> str:
    plain = await customer.fetch(urn, size=body.size)
    if plain.outcome != OK:
        return plain.outcome
    if plain.digest != body.digest:
        return OTHER_BYTES
    if body.size > SEALED_BYTES_MAX:
        return OK
    sealed = await customer.fetch(urn, size=body.size, sealed=True)
    if sealed.outcome != OK:
        return f"{sealed.outcome} as a sealed file"
    return await asyncio.to_thread(_opened, sealed, customer, body)


def _opened(sealed: Answer, customer: Customer, body: Body) -> str:
    try:
        plaintext = open_file(sealed.content, [customer.member.user])
    except CryptoError:
        return "a sealed file that does not open"
    return OK if hashlib.sha256(plaintext).digest() == body.digest else OTHER_BYTES


async def require_noted(
    trial: Trial, urns: Sequence[str], ill: Collection[str], *, within_s: float = NOTED_S_MAX
) -> None:
    """Require that reads noted bad copies in the stores of these names, and in no other: not of
    all objects, since reads go where the answer is quick.
    """

    async def noted() -> list[set[str]]:
        found = [set(await copies_of(trial.world, urn, BAD)) for urn in urns]
        return [names for names in found if names]

    await trial.eventually(noted, within_s=within_s)
    found = await noted()
    names = set[str]().union(*found)
    trial.verdict.require(
        "bad copies are noted, and no other ones",
        met=bool(names) and names <= set(ill),
        evidence=f"of {len(found)} of {len(urns)} objects in {sorted(names)}, bad in {sorted(ill)}",
    )


async def require_refused(
    trial: Trial,
    customer: Customer,
    stored: Mapping[str, Body],
    expected: type[GatewayError],
    criterion: str,
) -> None:
    """Require that no object is answered, in either form, and that each is refused as it should
    be, or breaks off where a part of it could be sent.
    """
    wrong: list[str] = []
    for urn, body in stored.items():
        for sealed in (False, True) if body.size <= SEALED_BYTES_MAX else (False,):
            answer = await customer.fetch(urn, size=body.size, sealed=sealed)
            if answer.outcome == OK:
                trial.verdict.broken(8, f"{urn} was answered whole although nothing of it is right")
            # The first leaf is checked before anything is sent.
            may_break_off = answer.outcome == BROKEN and body.size > LEAF_PLAINTEXT_SIZE
            if answer.outcome != expected.code and not may_break_off:
                wrong.append(f"{urn} came to {answer.outcome}, not {expected.code}")
    trial.require_all(criterion, wrong)
