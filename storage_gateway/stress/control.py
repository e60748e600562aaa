"""The control group: a share of the same load, through the serving gateway.

It shows what the run costs the others, and gives its figures something to be compared with. Its
objects lie in a session of the serving catalog and are erased when the run is cleared away.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

import aiohttp

from .bodies import Body
from .load import Customer, Member
from .record import OK, Record, spread
from .verdict import Verdict

logger = logging.getLogger(__name__)

OBJECTS_MAX = 100
"""Of one run: each leaves a tombstone in the serving catalog until late writes are past."""
CLIENTS_SHARE = 5
"""One client of the control group for so many of the run, and at least one."""
BODY_BYTES_MAX = 16 << 20
PAUSE_S_MIN = 0.02
NOT_OUR_DOING = frozenset({"busy", "commit_pending", "draining", "storage_full"})
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
        self._sizes: list[int] = []
        self._comparable = True
        self._sent = 0
        self._read = 0
        self._wrong: list[str] = []
        self._enough = asyncio.Event()

    async def run(self, sizes: Sequence[int], clients: int, duration_s: float) -> None:
        """Upload and read back until told that it is enough, or there is as much as may be."""
        count = max(1, clients // CLIENTS_SHARE)
        pause_s = max(PAUSE_S_MIN, duration_s * count / OBJECTS_MAX)
        self._sizes = [size for size in sizes if size <= BODY_BYTES_MAX] or [BODY_BYTES_MAX]
        self._comparable = self._sizes == list(sizes)

        async def client() -> None:
            while self._sent < OBJECTS_MAX and not self._enough.is_set():
                number, self._sent = self._sent, self._sent + 1
                await self._once(number, self._sizes[number % len(self._sizes)])
                await self._pause(pause_s)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(count):
                    group.create_task(client())
        except* Exception as errors:
            kinds = {type(error).__name__ for error in errors.exceptions}
            self._wrong.append(f"the control group itself failed: {', '.join(sorted(kinds))}")
            logger.exception("control group failed")

    def end(self) -> None:
        """Begin nothing any more. What is under way goes on to its answer: an upload that nobody
        waits for could be stored when everything else of the run was cleared away.
        """
        self._enough.set()

    async def _pause(self, pause_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._enough.wait()

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
        else:
            self._read += 1

    def _refused(self, what: str, outcome: str) -> None:
        if outcome not in NOT_OUR_DOING:
            self._wrong.append(f"{what} came to {outcome}")

    def judge(self, verdict: Verdict) -> None:
        """Require that the serving gateway was as it always is; that was seen once at least."""
        seen = f"{self._read} of {self._sent} uploads through it were taken and read back"
        verdict.require(
            "the serving gateway is unharmed",
            met=self._read > 0 and not self._wrong,
            evidence="; ".join(self._wrong) or seen,
        )

    def as_json(self) -> dict[str, Any]:
        """Return what its requests came to, and the sizes of its bodies."""
        return self.record.as_json() | {"sizes": self._sizes}

    def overhead(self, record: Record) -> dict[str, float] | None:
        """Return the run's median latencies as multiples of the control group's.

        None where its bodies have other sizes: large ones are left out.
        """
        if not self._comparable:
            return None
        ratios = {}
        for operation, seconds in self.record.latencies.items():
            ours, theirs = spread(record.latencies.get(operation, [])), spread(seconds)
            if ours and theirs and theirs["p50"]:
                ratios[operation] = round(ours["p50"] / theirs["p50"], 3)
        return ratios
