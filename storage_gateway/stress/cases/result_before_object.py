"""``result-before-object``: a result's name is known before, or in the moment, it can be read."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
from sqlalchemy import Connection, select

from storage_gateway.backends.faulty import StoreFaults
from storage_gateway.catalog.tables import intents
from storage_gateway.errors import NotFound
from storage_gateway.records import OUTPUT
from storage_gateway.stress.contract import Case, bytes_of_bodies
from storage_gateway.stress.load import Answer, Customer
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.record import OK
from storage_gateway.stress.trial import LoadSpent, Trial
from urn import mint

RESULTS_MAX = 64
HELD_AT = ("finish begins", "finish done")
"""The payload is not durable yet; it is, and the commit is next."""
HELD_S_MAX = 30.0
LOOK_PAUSE_S = 0.01


class ResultBeforeObject(Parameters, kw_only=True, frozen=True):
    """Parameters of ``result-before-object``."""

    sizes: Sizes = (4096, 1_500_000)
    slow_s: Annotated[
        float, msgspec.Meta(gt=0, le=30, description="The store takes up to so long for a segment")
    ] = 0.3


@dataclass(slots=True)
class _Watch:
    """A user who asks a second gateway for results all the time, also for those to come."""

    trial: Trial
    user: Customer
    early: int = 0
    """How often a name was asked for before there was anything to see."""
    wrong: list[str] = field(default_factory=list)
    _listed: set[str] = field(default_factory=set)

    async def look(self) -> None:
        """Ask for what is under way by its names, then for what is listed and was not before."""
        for urn in await _under_way(self.trial):
            answer = await self.user.fetch(urn, size=0)
            if answer.outcome == NotFound.code:
                self.early += 1
            else:
                self.judge(urn, answer)
        outcome, urns = await self.user.listed()
        if outcome != OK:
            self.wrong.append(f"a list came to {outcome}")
        for urn in urns:
            if urn not in self._listed:
                self._listed.add(urn)
                self.judge(urn, await self.user.fetch(urn, size=0))

    def judge(self, urn: str, answer: Answer) -> None:
        """Note what is wrong with the answer for an object that there is."""
        offered = self.trial.ledger.offered.values()
        if answer.outcome != OK:
            self.wrong.append(f"{urn} came to {answer.outcome}")
        elif answer.digest not in {body.digest for bodies in offered for body in bodies}:
            self.trial.verdict.broken(8, f"{urn} was read with other content than was ever sent")


async def run(trial: Trial, parameters: ResultBeforeObject) -> None:
    """Upload results through one gateway, and look for them through another."""
    member = await trial.member("stress")
    unstored: list[str] = []
    async with trial.world.gateway() as one, trial.world.gateway() as other:
        miner, user = trial.customer(one, member), trial.customer(other, member)
        watch = _Watch(trial, user)

        async def client(_number: int) -> None:
            if len(trial.ledger.acknowledged) >= RESULTS_MAX:
                raise LoadSpent
            body, task_id = trial.body(), trial.next_task()
            answer = await trial.deliver(miner, task_id, body, direction=OUTPUT)
            if answer.urn:
                await asyncio.gather(*(_ask(watch, who, answer.urn) for who in (user, miner)))
            else:
                unstored.append(f"{task_id} ended in {answer.outcome}")

        trial.begin_faults()
        for point in HELD_AT:
            await _look_while_held(trial, watch, client, point)
        trial.world.store.faults = StoreFaults(delay_s={"finish": parameters.slow_s})
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(_look_until(watch, over))
            try:
                await trial.crowd(client)
            finally:
                over.set()
        trial.world.store.heal()
    trial.notes["asked_before_commit"] = watch.early
    trial.require_all(
        "what is listed, or told, is there whole, through either gateway", watch.wrong
    )
    trial.require_all("every body is stored in the end", unstored)
    seen = {name: set(trial.record.outcomes[name]) for name in ("fetch", "list")}
    trial.verdict.require(
        "who asks too early is told that there is nothing, and nothing else",
        met=seen == {"fetch": {OK, NotFound.code}, "list": {OK}},
        evidence=f"{ {name: sorted(outcomes) for name, outcomes in seen.items()} }",
    )


async def _ask(watch: _Watch, customer: Customer, urn: str) -> None:
    """Require that who was told a name finds it, by itself and in the list."""
    body = watch.trial.ledger.acknowledged[urn][1]
    answer = await customer.fetch(urn, size=body.size)
    if answer.outcome != OK:
        watch.trial.verdict.broken(2, f"{urn} was answered, and reading it said {answer.outcome}")
    elif answer.digest != body.digest:
        watch.trial.verdict.broken(8, f"{urn} was read with other content than was sent for it")
    outcome, urns = await customer.listed()
    if outcome == OK and urn not in urns:
        watch.wrong.append(f"{urn} was answered, and is not listed")


async def _look_until(watch: _Watch, over: asyncio.Event) -> None:
    while not over.is_set():
        await watch.look()
        await asyncio.sleep(LOOK_PAUSE_S)


async def _look_while_held(
    trial: Trial, watch: _Watch, client: Callable[[int], Coroutine[Any, Any, None]], point: str
) -> None:
    """Hold an upload at a point before its commit until it was looked for."""
    there, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hold(reached: str) -> None:
        if reached == point:
            loop.call_soon_threadsafe(there.set)
            go.wait(HELD_S_MAX)

    early = watch.early
    trial.world.store.faults = StoreFaults(at_point=hold)
    async with asyncio.TaskGroup() as group:
        sent = group.create_task(client(0))
        sent.add_done_callback(lambda _sent: there.set())  # refused, it never gets there
        try:
            await there.wait()
            await watch.look()
        finally:
            trial.world.store.heal()
            go.set()
    asked = watch.early - early
    trial.verdict.require(
        "a result was looked for before its commit",
        met=asked == 1,
        evidence=f"held where {point!r}, {asked} names had nothing behind them yet",
    )


async def _under_way(trial: Trial) -> list[str]:
    """Return the URNs that uploads will have, without the catalog's faults."""

    def unit(connection: Connection) -> list[str]:
        return [mint(row.object_id).urn for row in connection.execute(select(intents.c.object_id))]

    return await trial.world.catalog.inner.read(unit)


CASE = Case(
    name="result-before-object",
    edge_case="A result's name is known somewhere else before the object can be read, or in the"
    " very moment that it can.",
    fault="A slow store; uploads that are held before their payload is durable, and before their"
    " commit.",
    load="A miner who uploads results through one gateway; a user who lists the session and asks"
    " for each name, of uploads under way too, through another one over the same parts.",
    passes_when="Before its commit there is nothing to see; from the 201 on the object is listed"
    " and whole through both gateways; nobody is told anything else.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=ResultBeforeObject,
    bytes_min=bytes_of_bodies(len(HELD_AT) + 1),
    expected_s=10.0,
    run=run,
)
