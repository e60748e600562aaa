"""``retry-storm``: stores that fail everything, and clients that do not give up."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from crypto import SEGMENT_SIZE
from storage_gateway.backends.health import FAILURES_MAX, RESTED_S
from storage_gateway.backends.replica_reads import MEASURED_EVERY
from storage_gateway.backends.s3 import S3Store
from storage_gateway.backends.s3_client import RETRIES_SAVED_MAX, RETRY_SHARE
from storage_gateway.read import LEAVES_IN_RUN
from storage_gateway.stress.contract import Case
from storage_gateway.stress.load import Customer
from storage_gateway.stress.parameters import Clients, Parameters, Sizes
from storage_gateway.stress.record import OK
from storage_gateway.stress.run_stores import GONE, RunStore
from storage_gateway.stress.trial import LoadSpent, Trial

RETRIES_MIN = 2
"""Of each client, on the average, before there is a quorum again."""
STORM_S_MAX = 20.0
"""Less than clients are patient."""
CALM_UPLOADS, CALM_SIZE = 5, 4096


class RetryStorm(Parameters, kw_only=True, frozen=True):
    """Parameters of ``retry-storm``."""

    clients: Clients = 32
    sizes: Sizes = (4096, 70_000)


def bytes_of_all(parameters: RetryStorm) -> int:
    """Return what the bodies make that each client sends at least, sent and read back."""
    return 2 * parameters.clients * (FAILURES_MAX + 2) * max(parameters.sizes)


async def run(trial: Trial, _parameters: RetryStorm) -> None:
    """Let one of three stores fail under load; then so many that all clients send again."""
    member = await trial.member("stress")
    unstored: list[str] = []
    first, *others = trial.world.decisive
    buckets = [
        _Bucket(each.store) for each in trial.world.stores if isinstance(each.store, S3Store)
    ]
    async with trial.world.gateway() as gateway:
        customer = trial.customer(gateway, member)

        async def client(_number: int = 0) -> None:
            await trial.round_trip(customer, unstored)

        storm = [trial.body() for _ in range(trial.parameters.clients)]
        trial.begin_faults()
        await first.suffer(GONE)
        await _left_alone(trial, first, client)
        with_one = dict(trial.record.outcomes["upload"])
        for each in others:
            await each.suffer(GONE)
        asked, sent = _writes_asked(others[0]), trial.record.count("upload")
        retries = trial.record.retries + RETRIES_MIN * len(storm)
        sending = [
            asyncio.create_task(trial.deliver(customer, trial.next_task(), body)) for body in storm
        ]
        stormy = await trial.eventually(
            lambda: trial.record.retries >= retries, within_s=STORM_S_MAX
        )
        asked, sent = _writes_asked(others[0]) - asked, trial.record.count("upload") - sent
        await trial.world.heal()
        answers = await asyncio.gather(*sending)
        unstored += [f"in the storm: {a.outcome}" for a in answers if not a.urn]
        await _calm(trial, customer)
    trial.require_all("every body is stored in the end", unstored)
    segments = max(1, -(-max(trial.parameters.sizes) // SEGMENT_SIZE))
    trial.verdict.require(
        "in a storm of retries no upload asks a store more than once",
        met=stormy and 0 < asked <= segments * (sent + len(storm)),
        evidence=f"{asked} writes in {sent} uploads, and up to {len(storm)} under way",
    )
    trial.verdict.require(
        "one store that fails makes no upload fail",
        met=set(with_one) == {OK},
        evidence=f"uploads while one failed: {with_one}",
    )
    trial.require_all("a bucket is asked again for a share of the calls", _beyond_share(buckets))


async def _left_alone(
    trial: Trial, failing: RunStore, client: Callable[[int], Awaitable[None]]
) -> None:
    """Put load on; require that the store that fails is hardly asked once that is known."""
    began = time.monotonic()
    for _ in range(FAILURES_MAX):
        await asyncio.gather(*(client(n) for n in range(trial.parameters.clients)))
    writes, reads, all_reads = _writes_asked(failing), *_reads_asked(trial, failing)
    uploads = trial.record.count("upload")
    await trial.crowd(client)
    uploads = trial.record.count("upload") - uploads
    writes = _writes_asked(failing) - writes
    reads, all_reads = (
        now - then
        for now, then in zip(_reads_asked(trial, failing), (reads, all_reads), strict=True)
    )
    probes = 1 + int((time.monotonic() - began) / RESTED_S)
    trial.verdict.require(
        "a store that fails is left alone",
        met=writes <= probes
        and reads <= probes * LEAVES_IN_RUN + all_reads * LEAVES_IN_RUN / MEASURED_EVERY
        and uploads > 2 * probes,
        evidence=f"{writes} writes and {reads} reads of it in {uploads} uploads, each read back;"
        f" {probes} times it had rested",
    )
    happened = _writes_asked(failing) + failing.faulty.asked["read"]
    trial.verdict.require(
        "a store failed", met=happened >= FAILURES_MAX, evidence=f"{happened} calls of it"
    )


def _reads_asked(trial: Trial, store: RunStore) -> tuple[int, int]:
    """Return how many reads it was asked for, and all stores: one whose reads were never waited
    for to their end counts as slow, and is measured again now and then.
    """
    asked = {each.name: each.faulty.asked["read"] for each in trial.world.stores}
    return asked[store.name], sum(asked.values())


def _writes_asked(store: RunStore) -> int:
    """Return how many segments it was given: what is refused is not finished, but of a bucket."""
    return store.faulty.asked["write" if store.proxy is None else "finish"]


async def _calm(trial: Trial, customer: Customer) -> None:
    """Require that what is sent now is taken at once."""
    refused = []
    for _ in range(CALM_UPLOADS):
        try:
            body, task_id = trial.body(CALM_SIZE), trial.next_task()
        except LoadSpent:
            break
        trial.ledger.offer(customer.member, task_id, "input", body)
        answer = await customer.upload(task_id, body)
        if answer.outcome == OK:
            trial.acknowledge(customer.member, answer.urn, body)
        else:
            refused.append(f"{task_id} came to {answer.outcome}")
    trial.require_all("when all stores are well each upload is taken at once", refused)


class _Bucket:
    """A bucket, and what it was asked for before."""

    def __init__(self, store: S3Store) -> None:
        self.store = store
        self.calls, self.attempts = store.calls, store.attempts


def _beyond_share(buckets: list[_Bucket]) -> list[str]:
    wrong = []
    for bucket in buckets:
        calls = bucket.store.calls - bucket.calls
        attempts = bucket.store.attempts - bucket.attempts
        if attempts > calls + RETRIES_SAVED_MAX + RETRY_SHARE * calls:
            wrong.append(f"{attempts} requests for {calls} calls of {bucket.store.name}")
    return wrong


CASE = Case(
    name="retry-storm",
    edge_case="Stores fail everything, and many clients send again and again.",
    fault="One of three stores fails everything; then two do, so that there is no quorum.",
    load="Many clients that upload and read back, and send again what was refused; some uploads"
    " afterwards.",
    passes_when="One failing store is asked now and then only, and not noticed; in the storm no"
    " upload asks a store more than once, and a bucket is asked again for a share of the calls;"
    " afterwards all is stored, and what is sent is taken at once.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=RetryStorm,
    bytes_min=bytes_of_all,
    expected_s=20.0,
    stores=3,
    quorum=2,
    run=run,
)
