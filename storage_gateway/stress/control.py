"""The control group: a share of the same load, through the serving gateway.

It shows what the run costs the others, and gives its figures something to be compared with. Its
objects lie in a session of the serving catalog and are erased when the run is cleared away.
"""

import asyncio
from collections.abc import Callable, Sequence

import aiohttp

from .bodies import Body
from .load import BROKEN, Customer, Member
from .record import OK, Record, spread
from .verdict import Verdict

OBJECTS_MAX = 100
"""Of one run: each leaves a tombstone in the serving catalog."""
CLIENTS_SHARE = 5
"""One client of the control group for so many of the run, and at least one."""
BODY_BYTES_MAX = 16 << 20
PAUSE_S_MIN = 0.02
NOT_OUR_DOING = frozenset({"busy", "draining", "storage_full"})
"""What a serving gateway with clients of its own may answer at any time."""


class ControlGroup:
    """Clients of the serving gateway, for as long as a run lasts."""

    def __init__(
        self, http: aiohttp.ClientSession, url: Callable[[], str], member: Member, *, seed: int
    ) -> None:
        """The member's session is one of the serving catalog."""
        self.record = Record()
        self._customer = Customer(http, url, member, self.record)
        self._seed = seed
        self._sent = 0
        self._wrong: list[str] = []

    async def run(self, sizes: Sequence[int], clients: int, duration_s: float) -> None:
        """Upload and read back until cancelled, or until there are as many as there may be."""
        count = max(1, clients // CLIENTS_SHARE)
        pause_s = max(PAUSE_S_MIN, duration_s * count / OBJECTS_MAX)
        small = [size for size in sizes if size <= BODY_BYTES_MAX] or [BODY_BYTES_MAX]

        async def client() -> None:
            while self._sent < OBJECTS_MAX:
                number, self._sent = self._sent, self._sent + 1
                await self._once(number, small[number % len(small)])
                await asyncio.sleep(pause_s)

        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(client())

    async def _once(self, number: int, size: int) -> None:
        body = Body(f"control/{self._seed}/{number}", size)
        stored = await self._customer.upload(f"c{number}", body)
        if stored.outcome != OK:
            self._refused("an upload", stored.outcome)
            return
        read = await self._customer.fetch(stored.urn, size=size)
        if read.outcome != OK:
            self._refused(f"reading {stored.urn}", read.outcome)
        elif read.digest != body.digest:
            self._wrong.append(f"{stored.urn} was read with other content than was sent")

    def _refused(self, what: str, outcome: str) -> None:
        if outcome not in NOT_OUR_DOING:
            self._wrong.append(f"{what} came to {outcome}")

    def judge(self, verdict: Verdict) -> None:
        """Require that the serving gateway was as it always is."""
        uploads = self.record.count("upload", OK)
        whole = f"{uploads} uploads through it, each read back"
        unharmed = not self._wrong and self.record.count("upload", BROKEN) == 0
        verdict.require(
            "the serving gateway is unharmed",
            met=unharmed,
            evidence="; ".join(self._wrong) or whole,
        )

    def overhead(self, record: Record) -> dict[str, float]:
        """Return the run's median latencies as multiples of the control group's."""
        ratios = {}
        for operation, seconds in self.record.latencies.items():
            ours, theirs = spread(record.latencies.get(operation, [])), spread(seconds)
            if ours and theirs and theirs["p50"]:
                ratios[operation] = round(ours["p50"] / theirs["p50"], 3)
        return ratios
