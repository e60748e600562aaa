"""What the crash cases share: a load on a process of the run, a kill at a point, and the return."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, update

from storage_gateway.catalog.tables import passes
from storage_gateway.errors import BackendUnavailable

from .bodies import Body
from .children import Child
from .load import Member
from .orders import Order
from .record import OK
from .trial import Trial
from .world import Reachable

LEASES: dict[str, Any] = {"instance_lease_s": 1.5, "instance_renew_s": 0.4}
"""Short, so that what a dead process began is soon claimed."""
PREMATURE_S = 0.25
"""At the point nothing may be answered any more; an answer that is, all the same, gets this time
to be seen."""


@dataclass(slots=True)
class Crashes:
    """Rounds of load, crash and return, with one session."""

    trial: Trial
    member: Member
    count: int = 0
    unanswered: list[tuple[str, Body]] = field(default_factory=list)
    """What was under way at the crashes and is to be sent again."""
    found_committed: int = 0
    """What was sent again and turned out to be stored already."""
    recovered_s: list[float] = field(default_factory=list)
    """From each kill until the next gateway had taken what was sent again."""
    unstored: list[str] = field(default_factory=list)
    _killed_at: float | None = None

    async def crash(self, child: Child, points: Sequence[str]) -> None:
        """Put load on a process that is ready, and kill it at one of the points."""
        trial = self.trial
        chance = trial.chance("crash", self.count)
        clients = trial.parameters.clients
        await child.order(Order(at=chance.one_of(points), nth=1 + chance.below(clients)))
        load = asyncio.gather(*(self._one(child) for _ in range(clients)))
        try:
            await child.wait_at_point()
            await asyncio.sleep(PREMATURE_S)
        finally:
            await self.kill(child)
            await load

    async def kill(self, child: Child) -> None:
        """Kill a process, and count it."""
        if self.trial.fault_began is None:
            self.trial.begin_faults()
        self._killed_at = time.monotonic()
        await child.kill()
        self.count += 1

    async def _one(self, child: Child) -> None:
        trial = self.trial
        body, task_id = trial.body(), trial.next_task()
        trial.ledger.offer(self.member, task_id, "input", body)
        customer = trial.customer(child, self.member)
        answer = await customer.upload(task_id, body)
        # A store that was too slow once: else nobody might reach the point.
        while answer.outcome == BackendUnavailable.code and not child.is_dead():
            self.trial.record.retries += 1
            answer = await customer.upload(task_id, body)
        if answer.outcome == OK:
            trial.acknowledge(self.member, answer.urn, body)
        else:
            self.unanswered.append((task_id, body))

    async def send_again(self, gateway: Reachable) -> None:
        """Send everything again that got no answer; it must be stored now."""
        customer = self.trial.customer(gateway, self.member)
        again, self.unanswered = self.unanswered, []
        for task_id, body in again:
            self.trial.record.retries += 1
            answer = await self.trial.deliver(customer, task_id, body)
            self.found_committed += answer.outcome == "slot_taken"
            if answer.urn:
                await self.trial.read_back(customer, answer.urn, body)
            else:
                self.unstored.append(f"{task_id} ended in {answer.outcome}")
        if self._killed_at is not None:
            self.recovered_s.append(time.monotonic() - self._killed_at)
            self._killed_at = None

    def conclude(self) -> None:
        """Note what came of it."""
        trial = self.trial
        trial.notes["crashes"] = self.count
        trial.notes["found_committed"] = self.found_committed
        if self.recovered_s:
            trial.notes["recovered_s"] = round(max(self.recovered_s), 3)
        trial.require_all("every body is stored in the end", self.unstored)
        trial.verdict.require(
            "processes were killed at the point",
            met=self.count > 0,
            evidence=f"{self.count} processes",
        )


async def crash_rounds(trial: Trial, points: Sequence[str]) -> Crashes:
    """Crash at the points until the time is over; at the end a gateway of this process returns."""
    crashes = Crashes(trial, await trial.member("stress"))
    while crashes.count == 0 or trial.goes_on():
        async with trial.children.child(**LEASES) as child:
            await child.wait_ready()
            await crashes.send_again(child)
            await crashes.crash(child, points)
    async with trial.world.gateway(**LEASES) as gateway:
        await crashes.send_again(gateway)
    crashes.conclude()
    return crashes


async def let_turns_run_out(trial: Trial) -> None:
    """Let the lease end that a dead process has on a pass: that takes minutes."""

    def unit(connection: Connection) -> None:
        connection.execute(update(passes).values(lease_until_ms=0))

    await trial.world.catalog.inner.run(unit)
