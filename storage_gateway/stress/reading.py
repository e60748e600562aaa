"""What the cases of stores that do not answer reads have in common: objects, and who reads them."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from .bodies import Body
from .load import Customer, Member
from .record import OK
from .run_stores import DEADLINE_S
from .trial import LoadSpent, Trial
from .world import Reachable

LONG_SIZE = 12 * 983_040
"""Of a body of three runs of leaves: the last one is asked for when the first was sent."""
SLOW_SIZE = 3 * LONG_SIZE
"""Of a body that is not sent to its end into the buffers of a connection whose reader pauses."""
RECEIVED_MAX = 64 << 10
"""What the kernel takes for a reader that pauses: else it would take a body nearly whole."""
SPARE_S = 10.0
"""What a machine that is busy may add to all deadlines."""


def bytes_of_all(clients: int, sizes: Sequence[int]) -> int:
    """Return what a body of each size for each client makes, sent and read back twice."""
    return 4 * (clients * sum(sizes) + LONG_SIZE)


def deadline_s(trial: Trial, hang_s: float) -> float:
    """Return how long one read may take at most while each store is waited for in vain."""
    stores = trial.world.stores
    return SPARE_S + sum(DEADLINE_S if each.proxy is not None else hang_s for each in stores)


@asynccontextmanager
async def pausing(trial: Trial, gateway: Reachable, member: Member) -> AsyncIterator[Customer]:
    """Return a member's clients for whom nothing is sent ahead while they pause."""
    connector = aiohttp.TCPConnector(limit=0, socket_factory=_small_socket)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as http:
        yield Customer(http, lambda: gateway.url, member, trial.record)


def _small_socket(address: tuple[Any, ...]) -> socket.socket:
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED_MAX)
    return made


async def store_all(trial: Trial, customer: Customer, sizes: Sequence[int]) -> dict[str, Body]:
    """Store a body of each of the sizes, all at one time; return them by their URNs."""
    bodies = [trial.body(size) for size in sizes]
    answers = await asyncio.gather(
        *(trial.deliver(customer, trial.next_task(), body) for body in bodies)
    )
    trial.require_all("every body is stored", [a.outcome for a in answers if not a.urn])
    return {answer.urn: body for answer, body in zip(answers, bodies, strict=True) if answer.urn}


def readers(
    trial: Trial, customer: Customer, stored: dict[str, Body], wrong: list[str], *, within_s: float
) -> Callable[[int], Awaitable[None]]:
    """Return a client of `Trial.crowd` that reads one object after the other, each once, in time,
    and notes what did not come whole and right.
    """
    urns = list(stored)
    reads = 0

    async def client(_number: int) -> None:
        nonlocal reads
        urn = urns[reads % len(urns)]
        reads += 1
        body = stored[urn]
        if trial.bytes_left < body.size:
            raise LoadSpent
        trial.bytes_left -= body.size
        answer = await customer.fetch(urn, size=body.size, timeout_s=within_s)
        if answer.outcome != OK:
            wrong.append(f"{urn} came to {answer.outcome}")
        elif answer.digest != body.digest:
            trial.verdict.broken(8, f"{urn} was read with other content than was sent for it")

    return client
