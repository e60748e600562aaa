"""``backend-lies``: a store says that it has what it has not, and the other way round."""

from storage_gateway.backends.faulty import StoreFaults
from storage_gateway.catalog.copies import BAD
from storage_gateway.stress.contract import Case, bytes_of_bodies
from storage_gateway.stress.damage import (
    NOTED_S_MAX,
    Stored,
    require_noted,
    require_right,
    store_objects,
)
from storage_gateway.stress.load import Customer
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.run_stores import Ailment
from storage_gateway.stress.tampering import copies_of
from storage_gateway.stress.trial import Trial

OBJECTS_MIN = 3
"""One to be denied, one to be changed, one to be forgotten."""
READABLE = "what was acknowledged is read right while a store lies"


class BackendLies(Parameters, kw_only=True, frozen=True):
    """Parameters of ``backend-lies``."""

    sizes: Sizes = (4096, 1_500_000)


def _other_bytes(_key: str, data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


HONEST = Ailment(calls=StoreFaults())
FORGETS = Ailment(calls=StoreFaults(forgets=True))
DENIES = Ailment(calls=StoreFaults(missing=1.0))
CHANGES = Ailment(calls=StoreFaults(spoil=_other_bytes))
SLOW = Ailment(calls=StoreFaults(delay_s={"read": 0.2}))
"""What the others are: reads go where the answer is quick, and that must be the liar."""


async def run(trial: Trial, _parameters: BackendLies) -> None:
    """Let the first of three stores lie in three ways; read what each lie is about."""
    member = await trial.member("stress")
    liar = trial.world.stores[0]
    trial.liars.add(liar.name)
    async with trial.world.gateway() as gateway:
        customer = trial.customer(gateway, member)
        spared = 2 * max(trial.parameters.sizes)
        trial.bytes_left -= spared
        honestly = list((await store_objects(trial, customer)).items())
        trial.bytes_left += spared
        trial.begin_faults()
        await liar.suffer(FORGETS)
        forgotten = await store_objects(trial, customer)
        half = len(honestly) // 2
        about = (
            (HONEST, forgotten),  # by now: it lacks what it said that it had stored
            (DENIES, dict(honestly[:half])),
            (CHANGES, dict(honestly[half:])),
        )
        for each in trial.world.stores[1:]:
            await each.suffer(SLOW)
        for lie, objects in about:
            await liar.suffer(lie)
            await _find_out(trial, customer, objects)
        await require_noted(trial, [*dict(honestly), *forgotten], trial.liars, within_s=0)
    told = trial.world.injected()
    wanted = [f"{liar.name}: {lie}" for lie in ("forgotten write", "missing read", "spoiled read")]
    trial.verdict.require(
        "the store lied in each way", met=all(told[lie] for lie in wanted), evidence=f"{dict(told)}"
    )


async def _find_out(trial: Trial, customer: Customer, objects: Stored) -> None:
    """Read until a copy that is not there, or not right, is noted: not each read asks the liar."""

    async def is_over() -> bool:
        right = await require_right(trial, customer, objects, READABLE)
        noted = [urn for urn in objects if await copies_of(trial.world, urn, BAD)]
        return not right or bool(noted)

    await trial.eventually(is_over, within_s=NOTED_S_MAX)
    await require_noted(trial, list(objects), trial.liars, within_s=0)


CASE = Case(
    name="backend-lies",
    edge_case="A store says that it has stored what it has not, that it has no such blob of what it"
    " has, and answers with other bytes.",
    fault="One store of three acknowledges writes and keeps nothing; then denies what it has; then"
    " changes what it answers.",
    load="Clients that upload; reads, in clear and as sealed files, of what each lie is about.",
    passes_when="Everything that was acknowledged is read right from the two others, and what reads"
    " find out is noted as a bad copy in that store, and in no other.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=BackendLies,
    bytes_min=bytes_of_bodies(OBJECTS_MIN),
    expected_s=12.0,
    stores=3,
    quorum=2,
    run=run,
)
