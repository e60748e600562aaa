"""What the cases of retention have in common: a session under terms, who claims what is in it, and
sweeps by hand.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from storage_gateway.catalog import now_ms
from storage_gateway.retention_settings import PolicySettings

from .bodies import Body
from .load import Answer, Customer
from .record import OK
from .tampering import manifest_of
from .trial import Trial
from .world import Reachable

POLICY = "stress"
ORDER = {"who": "a stress run", "why": "to see whether it counts"}
SWEEPS = "/v1/admin/passes/sweep"
SWEEP_S, SWEPT_S_MAX = 30.0, 60.0
DUE_S_MAX = 30.0
SHORT_S = 1
"""The shortest lifetime there is."""


class ClaimRefused(Exception):
    """A claim, or a sweep, that the case cannot go on without was refused."""


def terms(*, default_s: int, grace_s: int) -> dict[str, Any]:
    """Return settings of gateways whose sessions may take these terms."""
    policy = PolicySettings(name=POLICY, default_s=default_s, grace_s=grace_s)
    return {"retention_policies": (policy,)}


@dataclass(slots=True)
class Claimant:
    """A session of the run, its user, and the operator."""

    trial: Trial
    customer: Customer
    operator_token: str = field(repr=False)

    def at(self, gateway: Reachable) -> "Claimant":
        """Return the same at another gateway."""
        customer = self.trial.customer(gateway, self.customer.member)
        return Claimant(self.trial, customer, self.operator_token)

    @property
    def session(self) -> str:
        """The path of the session."""
        return f"/v1/sessions/{self.customer.member.session_id}"

    async def take_terms(self) -> None:
        """Have the session take the terms of `terms`, for what is stored later."""
        await self._done("PUT", f"{self.session}/retention", {"policy": POLICY})

    async def keep_for(self, urn: str, lifetime_s: int) -> None:
        """Give an object a lifetime from its commit."""
        await self._done("PUT", f"/v1/objects/{urn}/retention", {"lifetime_s": lifetime_s})

    async def renew(self, urn: str, for_s: int) -> Answer:
        """Want an object to stay so long from now, as the session's user."""
        token = self.customer.member.user_token
        path = f"/v1/objects/{urn}/lease"
        return await self.customer.ask("renew", "PUT", path, token, {"for_s": for_s})

    async def hold(self, scope: str) -> Answer:
        """Hold what is at a path, as the operator."""
        return await self._ask("hold", "POST", f"{scope}/holds", ORDER)

    async def release(self, scope: str, hold_id: str) -> Answer:
        """Release a hold on what is at a path."""
        return await self._ask("release", "POST", f"{scope}/holds/{hold_id}/release", ORDER)

    async def sweep(self, *, confirm: int = 0) -> "Counter[str]":
        """Have a gateway sweep to the end, as an operator does; return what it did.

        Raises:
            ClaimRefused: it did not.

        """
        did: Counter[str] = Counter()

        async def has_ended() -> bool:
            wish = {"seconds": SWEEP_S, "confirm": confirm}
            report = await self._done("POST", SWEEPS, wish)
            did.update({name: int(value) for name, value in report.items() if name != "pass"})
            return did["ended"] > 0  # else another one is at it

        if not await self.trial.eventually(has_ended, within_s=SWEPT_S_MAX):
            raise ClaimRefused(f"no sweep came to its end: {did}")
        return did

    async def sweep_until(self, urns: Iterable[str]) -> bool:
        """Sweep until objects have expired that are about to be due; False: they have not."""
        waiting = set(urns)

        async def have_expired() -> bool:
            await self.sweep()
            for urn in list(waiting):
                if (await manifest_of(self.trial.world, urn)).expired_ms is not None:
                    waiting.remove(urn)
            return not waiting

        return await self.trial.eventually(have_expired, within_s=DUE_S_MAX)

    async def require_over(self, urns: Sequence[str]) -> None:
        """Wait until lifetimes that are short have ended; nothing need have expired yet."""
        catalog = self.trial.world.catalog.inner

        async def are_over() -> bool:
            now = await catalog.read(now_ms)
            ends = [(await manifest_of(self.trial.world, urn)).expires_ms for urn in urns]
            return all(end is not None and end <= now for end in ends)

        met = await self.trial.eventually(are_over, within_s=DUE_S_MAX)
        self.trial.verdict.require("lifetimes end", met=met, evidence=f"{len(urns)} objects")

    async def store(self, unstored: list[str], body: Body | None = None) -> str:
        """Store a body, a fresh one if none is given; return its URN, or note its lack."""
        return await self.trial.round_trip(self.customer, unstored, body)

    async def outcomes(self, urn: str) -> set[str]:
        """Return what reading an object in clear, and as the sealed file, comes to."""
        body = self.trial.ledger.acknowledged[urn][1]
        plain = await self.customer.fetch(urn, size=body.size)
        sealed = await self.customer.fetch(urn, size=body.size, sealed=True)
        if plain.outcome == OK and plain.digest != body.digest:
            self.trial.verdict.broken(8, f"{urn} was read with other content than was sent for it")
        return {plain.outcome, sealed.outcome}

    async def require(self, urns: Iterable[str], outcome: str, criterion: str) -> None:
        """Require that reading each of some objects comes to that."""
        found = {urn: await self.outcomes(urn) for urn in urns}
        wrong = [f"{urn} came to {came}" for urn, came in found.items() if came != {outcome}]
        self.trial.require_all(criterion, wrong)

    async def _ask(
        self, operation: str, method: str, path: str, wish: dict[str, Any] | None
    ) -> Answer:
        return await self.customer.ask(operation, method, path, self.operator_token, wish)

    async def _done(self, method: str, path: str, wish: dict[str, Any]) -> dict[str, Any]:
        answer = await self._ask("retention", method, path, wish)
        if answer.outcome != OK:
            raise ClaimRefused(f"{method} {path} came to {answer.outcome}")
        return answer.document


async def open_claimant(
    trial: Trial, gateway: Reachable, operator_token: str, name: str = "stress"
) -> Claimant:
    """Open a session of the run that takes the terms of its gateways; see `terms`."""
    member = await trial.member(name)
    claimant = Claimant(trial, trial.customer(gateway, member), operator_token)
    await claimant.take_terms()
    return claimant
