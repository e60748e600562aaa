"""What an S3 store can do, found out by trying it.

What the gateway needs and the store lacks refuses the store; what it can do without is only said.
"""

import asyncio
import base64
import secrets
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from storage_gateway.errors import BackendUnavailable, StorageFull

from . import probe_report as found
from .contract import BlobInfo
from .probe_report import ProbeFinding, ProbeReport
from .s3_answers import (
    MalformedAnswer,
    Versioning,
    error_code,
    fault_of,
    read_content_range,
    read_object_lock,
    read_versioning,
)
from .s3_client import Answer, Request, S3Client
from .scratch import (
    CLOCK_OFF_S_MAX,
    NOT_KNOWN,
    NOT_TOLD,
    PROBE_S_MAX,
    Scratch,
    probe_prefix,
)

SMALL_SIZE = 4096
LISTED = 5
LISTED_AT_ONCE = 2
TIMED_SIZE = 1 << 20
TIMED_ROUNDS = 3

_Step = Callable[[], Awaitable[None]]

_NO_LOCK = "ObjectLockConfigurationNotFoundError"
_WRONG_DIGEST = frozenset({"BadDigest", "InvalidDigest"})


async def probe(
    client: S3Client,
    *,
    deployment_id: str,
    clock: Callable[[], datetime],
    everything: bool = True,
) -> ProbeReport:
    """Try a store; that it cannot be tried is a finding, too.

    All that is written lies below ``DEPLOYMENT/probe/`` and is removed, also when this is
    cancelled; only a process that is killed leaves some of it.

    Args:
        client: of the store's bucket.
        deployment_id: what the keys begin with.
        clock: tells the time in UTC, as the client's does.
        everything: ask also for what nothing depends on, and take times (some 6 MiB).

    """
    scratch = Scratch(client, probe_prefix(deployment_id, clock()))
    trial = _Trial(client, scratch, clock)
    try:
        await trial.run([*trial.needed, *trial.others] if everything else trial.needed)
    finally:
        if not await scratch.clear(trial.report.versioning):
            trial.find(found.left_over(scratch.prefix))
    return trial.report


async def look(
    client: S3Client, *, deployment_id: str, clock: Callable[[], datetime]
) -> ProbeReport:
    """Ask a store that is in use what may have changed meanwhile, by three requests.

    Writes nothing, and raises nothing: that it does not answer is a finding, too. For the arguments
    see `probe`.
    """
    trial = _Trial(client, Scratch(client, probe_prefix(deployment_id, clock())), clock)
    await trial.run(trial.changing)
    return trial.report


class _Trial:
    """One probe of one store."""

    def __init__(self, client: S3Client, scratch: Scratch, clock: Callable[[], datetime]) -> None:
        self.report = ProbeReport(store=client.settings.name)
        self._client = client
        self._scratch = scratch
        self._clock = clock
        self._small = secrets.token_bytes(SMALL_SIZE)

    def find(self, finding: ProbeFinding) -> None:
        """Add a finding."""
        self.report = replace(self.report, findings=(*self.report.findings, finding))

    @property
    def changing(self) -> Sequence[_Step]:
        """What who runs the store may change under us; asked without writing."""
        return (self._begin, self._ask_versioning, self._ask_object_lock)

    @property
    def needed(self) -> Sequence[_Step]:
        """What the gateway stands on."""
        return (
            *self.changing,
            self._try_reads_after_writes,
            self._try_ranges,
            self._try_listing,
            self._try_deletes,
        )

    @property
    def others(self) -> Sequence[_Step]:
        """What nothing depends on."""
        return (self._try_preconditions, self._try_checksums, self._take_times)

    async def run(self, steps: Sequence[_Step]) -> None:
        """Try one thing after the other; end where the store does not answer as a store."""
        try:
            async with asyncio.timeout(PROBE_S_MAX):
                for step in steps:
                    await step()
        except TimeoutError:
            self.find(found.unavailable(f"it took longer than {PROBE_S_MAX:g} seconds"))
        except (BackendUnavailable, StorageFull) as error:
            self.find(found.unavailable(str(error)))
        except MalformedAnswer as error:
            self.find(found.unavailable(str(self._client.unavailable(str(error)))))

    async def _begin(self) -> None:
        """Read what is not there, as some remember for a while that it is not; compare clocks."""
        key = f"{self._scratch.prefix}small"
        refused = frozenset({HTTPStatus.FORBIDDEN})  # its clock is wanted all the same
        before = self._clock()
        answer = await self._client.call(Request(method="GET", key=key, answers=refused))
        self._compare_clocks(before, self._clock(), answer.headers.get("Date", ""))
        if answer.status == HTTPStatus.FORBIDDEN:
            raise self._client.unavailable(_fault(answer))

    def _compare_clocks(self, before: datetime, after: datetime, said: str) -> None:
        try:
            theirs = parsedate_to_datetime(said).replace(tzinfo=UTC)  # RFC 9110: always GMT
        except ValueError:
            return
        # A header has whole seconds, cut off: half a second too few on average.
        ours = before + (after - before) / 2
        ahead_s = round((theirs - ours).total_seconds() + 0.5, 1)
        self.report = replace(self.report, clock_ahead_s=ahead_s)
        if abs(ahead_s) > CLOCK_OFF_S_MAX:
            self.find(found.clock_off(ahead_s))

    async def _ask(self, what: str) -> Answer:
        """Ask for a state of the bucket."""
        query, answers = {what: ""}, NOT_KNOWN | NOT_TOLD
        return await self._client.call(Request(method="GET", query=query, answers=answers))

    async def _ask_versioning(self) -> None:
        answer = await self._ask("versioning")
        if answer.status in NOT_KNOWN:
            self._set_versioning(Versioning.OFF)
        elif answer.status in NOT_TOLD:
            self.find(found.not_told("versioning", _fault(answer)))
        else:
            self._set_versioning(read_versioning(answer.body))

    def _set_versioning(self, versioning: Versioning) -> None:
        self.report = replace(self.report, versioning=versioning)
        if versioning is Versioning.ON:
            self.find(found.VERSIONED)
        elif versioning is Versioning.SUSPENDED:
            self.find(found.WAS_VERSIONED)

    async def _ask_object_lock(self) -> None:
        answer = await self._ask("object-lock")
        if answer.status in NOT_KNOWN or error_code(answer.body) == _NO_LOCK:
            self.report = replace(self.report, object_lock=False)
        elif answer.status in NOT_TOLD:
            self.find(found.not_told("object-lock", _fault(answer)))
        else:
            locked = read_object_lock(answer.body)
            self.report = replace(self.report, object_lock=locked)
            if locked:
                self.find(found.LOCKED)

    async def _try_reads_after_writes(self) -> None:
        await self._scratch.put("small", self._small)
        answer = await self._scratch.get("small", SMALL_SIZE)
        holds = (answer.status, answer.body) == (HTTPStatus.OK, self._small)
        self.report = replace(self.report, reads_after_writes=holds)
        if not holds:
            self.find(found.STALE_READS)

    async def _try_ranges(self) -> None:
        first, size = 1000, 100
        inside = await self._scratch.get("small", SMALL_SIZE, byte_range=(first, size))
        beyond = await self._scratch.get("small", SMALL_SIZE, byte_range=(SMALL_SIZE, size))
        holds = (
            inside.body == self._small[first : first + size]
            and _is_range(inside, first, first + size)
            and beyond.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
        )
        self.report = replace(self.report, range_reads=holds)
        if not holds:
            self.find(found.NO_RANGES)

    async def _try_listing(self) -> None:
        names = [f"list/{at}" for at in range(LISTED)]
        for name in names:
            await self._scratch.put(name, name.encode())
        expected = [BlobInfo(self._scratch.prefix + name, len(name)) for name in names]
        listed = await self._scratch.list("list/", page_max=LISTED_AT_ONCE) or []
        holds = expected == sorted(listed, key=lambda blob: blob.key)
        self.report = replace(self.report, listing=holds)
        if not holds:
            self.find(found.WRONG_LISTING)

    async def _try_deletes(self) -> None:
        name = "list/0"
        key = self._scratch.prefix + name
        await self._scratch.delete(name)
        await self._scratch.delete(name)  # as who is not sure does it
        answer = await self._scratch.get(name, SMALL_SIZE)
        listed = await self._scratch.list("list/", page_max=LISTED_AT_ONCE) or []
        gone = answer.status == HTTPStatus.NOT_FOUND and key not in {blob.key for blob in listed}
        self.report = replace(self.report, deletes=gone)
        if not gone:
            self.find(found.NO_DELETES)
        elif self.report.versioning is not Versioning.ON:
            # What counts is what is kept, whatever the state is called.
            kept = await self._scratch.versions() or ()
            if any(version.key == key and not version.is_marker for version in kept):
                self._set_versioning(Versioning.ON)

    async def _try_preconditions(self) -> None:
        answer = await self._scratch.put(
            "small",
            self._small,
            headers={"If-None-Match": "*"},
            answers=NOT_KNOWN | {HTTPStatus.BAD_REQUEST, HTTPStatus.PRECONDITION_FAILED},
        )
        honoured = answer.status == HTTPStatus.PRECONDITION_FAILED
        self.report = replace(self.report, preconditions=honoured)
        if not honoured:
            self.find(found.NO_PRECONDITIONS)

    async def _try_checksums(self) -> None:
        answer = await self._scratch.put(
            "checksum",
            self._small,
            headers={"Content-MD5": base64.b64encode(bytes(16)).decode()},  # RFC 1864
            answers=NOT_KNOWN | {HTTPStatus.BAD_REQUEST},
        )
        verified = error_code(answer.body) in _WRONG_DIGEST
        self.report = replace(self.report, checksums=verified)
        if not verified:
            self.find(found.NO_CHECKSUMS)

    async def _take_times(self) -> None:
        puts, gets = [], []
        for at in range(TIMED_ROUNDS):
            name, body = f"timed/{at}", secrets.token_bytes(TIMED_SIZE)
            began_s = time.perf_counter()
            await self._scratch.put(name, body)
            put_s = time.perf_counter()
            await self._scratch.get(name, TIMED_SIZE)
            gets.append(_mb_s(time.perf_counter() - put_s))
            puts.append(_mb_s(put_s - began_s))
        put_mb_s, get_mb_s = statistics.median(puts), statistics.median(gets)
        self.report = replace(self.report, put_mb_s=put_mb_s, get_mb_s=get_mb_s)


def _fault(answer: Answer) -> str:
    return fault_of(answer.status, error_code(answer.body)).text


def _is_range(answer: Answer, first: int, end: int) -> bool:
    try:
        said = read_content_range(answer.headers.get("Content-Range", ""))
    except MalformedAnswer:
        return False
    return (said.first, said.end, said.size) == (first, end, SMALL_SIZE)


def _mb_s(duration_s: float) -> float:
    return round(TIMED_SIZE / 1e6 / duration_s, 1)
