"""What a case works with while it runs: the world, clients, what was promised, time and budget."""

import asyncio
import inspect
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from storage_gateway.catalog.sessions import set_operator_token
from storage_gateway.chance import Chance
from storage_gateway.errors import SlotTaken
from storage_gateway.records import INPUT, TokenKind
from storage_gateway.tokens import new_token, token_digest

from .bodies import Body
from .children import Children
from .load import BROKEN, TIMED_OUT, Answer, Customer, Member, open_member
from .parameters import Parameters
from .record import OK, Record
from .verdict import Verdict
from .world import Reachable, World

ROUNDS_MIN = 3
PATIENCE_S = 30.0
"""How long a client tries again what is worth it."""
RETRY_PAUSE_S = 0.05
TINY_SIZE, TINY_BYTES = 1, 1000
"""Of a body that shows whether a store is written to, and of as many as that may take."""
WORTH_RETRYING = frozenset(
    {
        BROKEN,
        TIMED_OUT,
        "backend_unavailable",
        "body_incomplete",
        "busy",
        "catalog_unavailable",
        "commit_pending",
        "draining",
        "intent_lost",
        "slot_busy",
        "storage_full",
    }
)
"""What a client that wants its body stored tries again after, as the problems themselves say."""


class LoadSpent(Exception):
    """The bytes of the run are used up."""


@dataclass(slots=True)
class Ledger:
    """What was offered, and what was promised."""

    offered: dict[tuple[str, str, str], list[Body]] = field(default_factory=dict)
    """By session, task and direction: every body that was sent there, finished or not."""
    acknowledged: dict[str, tuple[Member, Body]] = field(default_factory=dict)
    """By URN that was answered."""
    erased: set[str] = field(default_factory=set)
    """What is promised no more: it was erased, or is over."""

    def offer(self, member: Member, task_id: str, direction: str, body: Body) -> None:
        """Note a body before its first byte is sent."""
        self.offered.setdefault((member.session_id, task_id, direction), []).append(body)


@dataclass(slots=True)
class Trial:
    """One run of a case."""

    world: World
    parameters: Parameters
    verdict: Verdict
    http: aiohttp.ClientSession = field(repr=False)
    bytes_left: int
    seed: int
    children: Children
    record: Record = field(default_factory=Record)
    ledger: Ledger = field(default_factory=Ledger)
    members: dict[str, Member] = field(default_factory=dict)
    """The run's sessions, by their ids."""
    liars: set[str] = field(default_factory=set)
    """Stores that say that they keep what they do not: what is in them is not judged."""
    notes: dict[str, Any] = field(default_factory=dict)
    """What else the case has to say, for the report."""
    began: float = field(default_factory=time.monotonic)
    fault_began: float | None = None
    fault_ended: float | None = None
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    _tasks: "itertools.count[int]" = field(default_factory=itertools.count)

    def chance(self, *labels: str | int) -> Chance:
        """Return the row of draws of a label, decided by the run's seed."""
        return Chance(self.seed, *labels)

    def goes_on(self) -> bool:
        """Tell whether there is time left."""
        return time.monotonic() - self.began < self.parameters.duration_s

    def body(self, size: int | None = None) -> Body:
        """Return a fresh body of the given size, or of the next of the sizes.

        Raises:
            LoadSpent: the run's bytes are used up.

        """
        number = next(self._numbers)
        sizes = self.parameters.sizes
        size = sizes[number % len(sizes)] if size is None else size
        # Each body is written and read back.
        if self.bytes_left < 2 * size:
            raise LoadSpent
        self.bytes_left -= 2 * size
        return Body(f"{self.seed}/{number}", size)

    def next_task(self) -> str:
        """Return the id of a task that nothing was sent for yet."""
        return f"t{next(self._tasks)}"

    async def member(self, name: str) -> Member:
        """Open a session of the run."""
        self.members[name] = await open_member(self.world.sessions, name)
        return self.members[name]

    async def operator(self) -> str:
        """Give the run an operator; return the token, which is nowhere else."""
        token = new_token(TokenKind.OPERATOR)
        digest = token_digest(token)
        await self.world.catalog.inner.run(lambda c: set_operator_token(c, digest))
        return token

    def customer(self, gateway: Reachable, member: Member) -> Customer:
        """Return a member's clients at a gateway."""
        return Customer(self.http, lambda: gateway.url, member, self.record)

    async def crowd(self, client: Callable[[int], Awaitable[None]], count: int = 0) -> None:
        """Run clients, each over and over, until time or budget are used up; each does a few
        rounds in any case, on a machine however slow.
        """

        async def again(number: int) -> None:
            try:
                for rounds in itertools.count():
                    if rounds >= ROUNDS_MIN and not self.goes_on():
                        return
                    await client(number)
            except LoadSpent:
                pass

        async with asyncio.TaskGroup() as group:
            for number in range(count or self.parameters.clients):
                group.create_task(again(number))

    async def deliver(
        self,
        customer: Customer,
        task_id: str,
        body: Body,
        *,
        direction: str = INPUT,
        sealed: bytes | None = None,
        timeout_s: float | None = None,
    ) -> Answer:
        """Upload until it is stored, as a patient client would; the last answer. ``sealed`` is as
        for `Customer.upload`, ``timeout_s`` is for each attempt.

        A retry that is told the slot is taken has its URN from that answer: only this client ever
        sends to the slot, so the object must be its own.
        """
        self.ledger.offer(customer.member, task_id, direction, body)
        answer = await self._patiently(
            lambda: customer.upload(
                task_id, body, direction=direction, sealed=sealed, timeout_s=timeout_s
            )
        )
        if answer.outcome == OK or (answer.outcome == SlotTaken.code and answer.urn):
            self.acknowledge(customer.member, answer.urn, body)
        return answer

    async def _patiently(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        began = time.monotonic()
        answer = await ask()
        while answer.outcome in WORTH_RETRYING and time.monotonic() - began < PATIENCE_S:
            self.record.retries += 1
            await asyncio.sleep(RETRY_PAUSE_S)
            answer = await ask()
        return answer

    def acknowledge(self, member: Member, urn: str, body: Body) -> None:
        """Note that the gateway has promised to keep a body under a URN."""
        known = self.ledger.acknowledged.get(urn)
        if known is not None and known[1] != body:
            self.verdict.broken(8, f"{urn} was answered for two bodies")
        self.ledger.acknowledged[urn] = (member, body)

    def judge_late(self, member: Member, task_id: str, body: Body, late: Answer) -> None:
        """Judge what was answered to an upload that another process had claimed before its commit:
        anything but a refusal breaks invariant 5.
        """
        if late.outcome == OK:
            self.verdict.broken(5, f"{late.urn} was committed by a process that had lost it")
            self.acknowledge(member, late.urn, body)
        else:
            self.verdict.holds(5, f"who had lost {task_id} answered {late.outcome}")

    async def read_back(self, customer: Customer, urn: str, body: Body) -> Answer:
        """Read what was just stored; wrong content is noted, a refusal only counted."""
        began = time.perf_counter()
        answer = await self._patiently(lambda: customer.fetch(urn, size=body.size))
        if answer.outcome == OK:
            if answer.digest == body.digest:
                self.record.readable_s.append(time.perf_counter() - began)
            else:
                self.verdict.broken(8, f"{urn} was read with other content than was sent for it")
        elif answer.outcome not in WORTH_RETRYING:
            self.verdict.broken(2, f"{urn} was answered, and reading it said {answer.outcome}")
        return answer

    async def round_trip(
        self, customer: Customer, unstored: list[str], body: Body | None = None
    ) -> str:
        """Deliver a body, a fresh one if none is given, and read it back; return its URN, or note
        that there is none.
        """
        body, task_id = body or self.body(), self.next_task()
        answer = await self.deliver(customer, task_id, body)
        if answer.urn:
            await self.read_back(customer, answer.urn, body)
        else:
            unstored.append(f"{task_id} ended in {answer.outcome}")
        return answer.urn

    async def store_until(
        self,
        customer: Customer,
        unstored: list[str],
        holds: Callable[[], object | Awaitable[object]],
        *,
        within_s: float,
    ) -> bool:
        """Store tiny bodies until something holds; False when it did not in that time.

        Raises:
            LoadSpent: the bytes of the run are used up.

        """

        async def held() -> object:
            await self.round_trip(customer, unstored, self.body(TINY_SIZE))
            found = holds()
            return await found if inspect.isawaitable(found) else found

        return await self.eventually(held, within_s=within_s)

    async def eventually(
        self, holds: Callable[[], object | Awaitable[object]], *, within_s: float
    ) -> bool:
        """Wait until something holds; False when it did not in that time."""
        until = time.monotonic() + within_s
        while True:
            found = holds()
            if inspect.isawaitable(found):
                found = await found
            if found or time.monotonic() > until:
                return bool(found)
            await asyncio.sleep(RETRY_PAUSE_S)

    def require_all(self, criterion: str, exceptions: list[str]) -> None:
        """Require that there were no exceptions to a criterion."""
        evidence = "; ".join(exceptions[:5]) if exceptions else "without exception"
        self.verdict.require(criterion, met=not exceptions, evidence=evidence)

    def begin_faults(self) -> None:
        """Note when things began to go wrong."""
        self.fault_began = time.monotonic()

    def end_faults(self) -> None:
        """Note when nothing goes wrong any more."""
        self.fault_ended = time.monotonic()
