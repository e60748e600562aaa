"""``key-provider-down``: what keeps the router's identities hangs, errs, is away, comes back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from crypto import Identity
from storage_gateway.errors import KeyProviderUnavailable
from storage_gateway.key_provider import HeldKeys
from storage_gateway.keyring import Keyring
from storage_gateway.stress.bodies import Body
from storage_gateway.stress.contract import Case, bytes_of_bodies
from storage_gateway.stress.load import Answer, Customer
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.record import OK
from storage_gateway.stress.trial import Trial
from storage_gateway.stress.world import GatewayLike

WELL, HANGS, ERRS = "well", "hangs", "errs"
REFRESH_S, TIMEOUT_S = 0.1, 0.2
FRESH_S, TTL_S = 1.0, 2.5
BEGUN = 4
"""Objects that are there before it is away."""
SEEN_S_MAX = 30.0
START_S_MAX = 30.0
REFUSED = KeyProviderUnavailable.code


class KeyProviderDown(Parameters, kw_only=True, frozen=True):
    """Parameters of ``key-provider-down``."""

    sizes: Sizes = (4096, 70_000)


class FaultyProvider(HeldKeys):
    """The run's identities, in a place that can be away."""

    def __init__(self, identities: tuple[Identity, ...]) -> None:
        """Begin well."""
        super().__init__(identities)
        self.mode = WELL
        self.injected = 0

    async def load(self) -> tuple[Identity, ...]:
        """Return them, never, or an error, as the mode says."""
        if self.mode != WELL:
            self.injected += 1
        if self.mode == HANGS:
            await asyncio.Event().wait()
        if self.mode == ERRS:
            raise KeyProviderUnavailable("the key provider errs (injected)")
        return await super().load()


@dataclass(slots=True)
class _Run:
    trial: Trial
    provider: FaultyProvider
    stored: dict[str, Body] = field(default_factory=dict)
    unstored: list[str] = field(default_factory=list)
    sealed_reads: list[str] = field(default_factory=list)
    """Sealed reads that failed: none may."""
    wrong: list[str] = field(default_factory=list)
    """Answers that are not what the keyring's state allows."""
    refused: dict[str, int] = field(default_factory=dict)

    @asynccontextmanager
    async def gateway(self) -> AsyncIterator[tuple[GatewayLike, Keyring]]:
        """Run a gateway that has to ask the provider for its keys."""
        world = self.trial.world
        keyring = Keyring(
            self.provider,
            refresh_s=REFRESH_S,
            fresh_s=FRESH_S,
            ttl_s=TTL_S,
            timeout_s=TIMEOUT_S,
        )
        keyring.start()
        running = world.make_gateway(world.config, replace(world.parts, keyring=keyring))
        try:
            async with asyncio.timeout(START_S_MAX):
                await running.start()
            try:
                yield running, keyring
            finally:
                await running.stop()
        finally:
            await keyring.close()


async def run(trial: Trial, _parameters: KeyProviderDown) -> None:
    """Let the provider be away long enough for each step, with a start in the midst of it."""
    member = await trial.member("stress")
    seen = _Run(trial, FaultyProvider(trial.world.parts.keyring.opening()))
    async with seen.gateway() as (gateway, keyring):
        customer = trial.customer(gateway, member)
        await trial.eventually(lambda: keyring.state().seals, within_s=SEEN_S_MAX)
        for _ in range(BEGUN):
            await _store(seen, customer)
        trial.begin_faults()
        for mode in (HANGS, ERRS):
            seen.provider.mode = mode
            await _judge_decline(seen, customer, keyring)
            seen.provider.mode = WELL
            await _judge_recovery(seen, customer, keyring, mode)
        seen.provider.mode = HANGS
        await _judge_decline(seen, customer, keyring)
    async with seen.gateway() as (gateway, keyring):  # a restart, while it is away
        customer = trial.customer(gateway, member)
        await _judge_moment(seen, customer, keyring)
        refused = not keyring.state().seals and not keyring.state().opens
        seen.provider.mode = WELL
        await _judge_recovery(seen, customer, keyring, "restart")
        trial.end_faults()
    trial.verdict.require(
        "a gateway starts while the provider is away, and then neither seals nor opens",
        met=refused,
        evidence=f"refused in all: {seen.refused}",
    )
    trial.verdict.require(
        "the provider was away, and uploads and plaintext were refused for it",
        met=seen.provider.injected > 0 and min(seen.refused.values(), default=0) > 0,
        evidence=f"{seen.provider.injected} questions in vain; refused: {seen.refused}",
    )
    trial.require_all("sealed reads never fail", seen.sealed_reads)
    trial.require_all("who seals and opens is answered as the age of the keys allows", seen.wrong)
    trial.require_all("all is well again once the provider is back", seen.unstored)


async def _store(seen: _Run, customer: Customer) -> None:
    body = seen.trial.body()
    answer = await seen.trial.deliver(customer, seen.trial.next_task(), body)
    if answer.urn:
        seen.stored[answer.urn] = body
    else:
        seen.unstored.append(f"an upload ended in {answer.outcome}")


async def _judge_decline(seen: _Run, customer: Customer, keyring: Keyring) -> None:
    """Ask for everything, again and again, until nothing is opened any more; and once after."""

    async def has_declined() -> bool:
        await _judge_moment(seen, customer, keyring)
        return not keyring.state().opens

    declined = await seen.trial.eventually(has_declined, within_s=SEEN_S_MAX)
    if not declined:
        seen.wrong.append(f"{seen.provider.mode}: the keys were never given up")
    await _judge_moment(seen, customer, keyring)


async def _judge_moment(seen: _Run, customer: Customer, keyring: Keyring) -> None:
    """Upload, read the plaintext and the sealed file; what changes meanwhile is not judged."""
    trial = seen.trial
    urn, body = next(iter(seen.stored.items()))
    before = keyring.state()
    task_id, new = trial.next_task(), trial.body()
    trial.ledger.offer(customer.member, task_id, "input", new)
    sent = await customer.upload(task_id, new)
    if sent.urn:
        trial.acknowledge(customer.member, sent.urn, new)
    opened = await customer.fetch(urn, size=body.size)
    after = keyring.state()
    if before.seals == after.seals:
        _judge(seen, "upload", sent, allowed=after.seals)
    if before.opens == after.opens:
        _judge(seen, "plaintext", opened, allowed=after.opens)
    sealed = await customer.fetch(urn, size=body.size, sealed=True)
    if sealed.outcome != OK:
        seen.sealed_reads.append(f"{seen.provider.mode}: {sealed.outcome}")


def _judge(seen: _Run, what: str, answer: Answer, *, allowed: bool) -> None:
    expected = OK if allowed else REFUSED
    if answer.outcome != expected:
        seen.wrong.append(f"{seen.provider.mode}: {what} {answer.outcome}, not {expected}")
    if answer.outcome == REFUSED:
        seen.refused[what] = seen.refused.get(what, 0) + 1


async def _judge_recovery(seen: _Run, customer: Customer, keyring: Keyring, after: str) -> None:
    if not await seen.trial.eventually(lambda: keyring.state().seals, within_s=SEEN_S_MAX):
        seen.unstored.append(f"the provider was not asked again after: {after}")
        return
    await _store(seen, customer)
    for urn, body in seen.stored.items():
        await seen.trial.read_back(customer, urn, body)


CASE = Case(
    name="key-provider-down",
    edge_case="What keeps the router's identities, a vault perhaps, hangs, errs, or is away for"
    " longer than its answers count, and a gateway is started meanwhile.",
    fault="Questions for the identities are never answered, then refused, then never answered"
    " again over a restart.",
    load="One client that uploads, reads plaintext and reads sealed files, over and over.",
    passes_when="Sealed reads never fail; nothing is sealed once the keys are not fresh, nothing"
    " opened once they are too old; a gateway starts all the same; all heals by itself.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=KeyProviderDown,
    bytes_min=bytes_of_bodies(BEGUN + 80),
    expected_s=14.0,
    run=run,
)
