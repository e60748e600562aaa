"""``swapped-header``: objects whose heads lie in each other's places in the catalog."""

import asyncio
import itertools
from dataclasses import dataclass

from crypto import Context, CryptoError, Identity, open_envelope, open_file, scan_head
from storage_gateway.errors import BlobCorrupt
from storage_gateway.stress.bodies import Body
from storage_gateway.stress.contract import Case, bytes_of_bodies
from storage_gateway.stress.damage import require_right
from storage_gateway.stress.load import Customer
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.record import OK
from storage_gateway.stress.tampering import heads_swapped, manifest_of
from storage_gateway.stress.trial import LoadSpent, Trial
from storage_gateway.stress.world import GatewayLike

PAIRS_MAX = 16
CHANGES_MIN = 4
"""Under load."""
PAUSE_S = 0.005
"""Between two of them."""


class SwappedHeader(Parameters, kw_only=True, frozen=True):
    """Parameters of ``swapped-header``."""

    sizes: Sizes = (4096, 70_000)


@dataclass(frozen=True, slots=True)
class _Held:
    customer: Customer
    urn: str
    body: Body


class _NotStored(Exception):
    pass


Pair = tuple[_Held, _Held]


async def run(trial: Trial, _parameters: SwappedHeader) -> None:
    """Let heads change places, then heads and payloads together; then again and again, under load.

    Every other pair is of two sessions.
    """
    async with trial.world.gateway() as gateway:
        pairs = await _stored_by_twos(trial, gateway)
        trial.begin_faults()
        await _judge_swapped(trial, pairs, with_payloads=False)
        await _judge_swapped(trial, pairs, with_payloads=True)
        await _read_while_they_change(trial, pairs)
        for held in itertools.chain.from_iterable(pairs):
            criterion = "all is read again once the heads are put back"
            await require_right(trial, held.customer, {held.urn: held.body}, criterion)


async def _stored_by_twos(trial: Trial, gateway: GatewayLike) -> list[Pair]:
    """Return as many pairs of objects of one size as clients can store in the time there is."""
    owner = trial.customer(gateway, await trial.member("stress"))
    neighbour = trial.customer(gateway, await trial.member("neighbour"))
    pairs: list[Pair] = []
    unstored: list[str] = []
    rounds = itertools.cycle(
        (size, who) for who in (owner, neighbour) for size in trial.parameters.sizes
    )

    async def store(customer: Customer, body: Body) -> _Held:
        task_id = trial.next_task()
        answer = await trial.deliver(customer, task_id, body)
        if not answer.urn:
            raise _NotStored(f"{task_id} ended in {answer.outcome}")
        return _Held(customer, answer.urn, body)

    async def client(_number: int) -> None:
        if len(pairs) >= PAIRS_MAX:
            raise LoadSpent
        size, partner = next(rounds)
        one, other = trial.body(size), trial.body(size)
        try:
            pairs.append((await store(owner, one), await store(partner, other)))
        except _NotStored as error:
            unstored.append(str(error))

    await trial.crowd(client)
    trial.require_all("every body is stored", unstored)
    return pairs


async def _judge_swapped(trial: Trial, pairs: list[Pair], *, with_payloads: bool) -> None:
    what = "heads and payloads" if with_payloads else "heads"
    answered: list[str] = []
    opened: list[str] = []
    urns = [(one.urn, other.urn) for one, other in pairs]
    async with heads_swapped(trial.world, urns, with_payloads=with_payloads):
        for held in itertools.chain.from_iterable(pairs):
            plain = await held.customer.fetch(held.urn, size=held.body.size)
            if plain.outcome == OK:
                trial.verdict.broken(8, f"{held.urn} was read with another object's head")
            if plain.outcome != BlobCorrupt.code:
                answered.append(f"{held.urn} came to {plain.outcome}, not {BlobCorrupt.code}")
            sealed = await held.customer.fetch(held.urn, size=held.body.size, sealed=True)
            # With payloads it is another object's whole file: its context alone tells.
            context = (await manifest_of(trial.world, held.urn)).context()
            wanted = context if with_payloads else None
            if sealed.outcome == OK and _opens(sealed.content, held.customer.member.user, wanted):
                opened.append(f"{held.urn} opens")
    trial.require_all(f"nothing is read in clear with {what} of other objects", answered)
    trial.require_all(f"no sealed file opens as its object with {what} of another one", opened)


def _opens(file: bytes, user: Identity, context: Context | None) -> bool:
    """Tell whether a sealed file opens: as that object's, or at all."""
    try:
        if context is None:
            open_file(file, [user])
        else:
            length = scan_head(file) or 0
            open_envelope(file[:length], file[length:], [user], context=context)
    except CryptoError:
        return False
    return True


async def _read_while_they_change(trial: Trial, pairs: list[Pair]) -> None:
    """Read while places change: each read comes before a change or after it, never between."""
    urns = [(one.urn, other.urn) for one, other in pairs]
    held = list(itertools.chain.from_iterable(pairs))
    picks, ended, changes, met = trial.chance("reads"), asyncio.Event(), 0, 0
    unexpected: list[str] = []

    async def change() -> None:
        nonlocal changes
        for with_payloads in itertools.cycle((False, True)):
            async with heads_swapped(trial.world, urns, with_payloads=with_payloads):
                changes += 1
                await asyncio.sleep(PAUSE_S)
            if ended.is_set():
                return
            await asyncio.sleep(PAUSE_S)

    async def client(_number: int) -> None:
        nonlocal met
        one = held[picks.below(len(held))]
        answer = await one.customer.fetch(one.urn, size=one.body.size)
        is_right = answer.outcome == OK and answer.digest == one.body.digest
        met += not is_right
        if answer.outcome == OK and not is_right:
            trial.verdict.broken(8, f"{one.urn} was read with another object's content")
        if answer.outcome not in (OK, BlobCorrupt.code):
            unexpected.append(f"{one.urn} came to {answer.outcome}")

    changing = asyncio.create_task(change())
    try:
        while (changes < CHANGES_MIN or not met) and not changing.done():
            await trial.crowd(client)
    finally:
        ended.set()
        await changing
    trial.notes["changes_under_load"] = changes
    trial.require_all("while they change, reads are right or refused as damage", unexpected)
    trial.verdict.require(
        "heads were read in each other's places while they changed",
        met=met > 0,
        evidence=f"{met} reads in {changes} changes",
    )


CASE = Case(
    name="swapped-header",
    edge_case="The catalog has the heads of two objects in each other's places: each head is"
    " genuine, and another object's.",
    fault="Heads of two objects, of one session and of two, change places in the run's catalog;"
    " then heads and payloads together; then again and again while clients read.",
    load="Clients that read, in clear and as sealed files.",
    passes_when="Nobody gets another object's content: in clear it is refused as damage; a sealed"
    " file does not open, or not as the object that its context names. Put back, all is right.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=SwappedHeader,
    bytes_min=bytes_of_bodies(2),
    expected_s=10.0,
    run=run,
)
