"""The S3 store: one object a blob, in one bucket.

A store that answers may still be the wrong one: another bucket, or one that was emptied. So what it
says without proof (that a blob is not there, that a listing is whole, that something was kept or
removed) counts only while the deployment's marker was read from it a moment ago. What it says with
proof, a blob's bytes, is checked by whoever reads them.

A segment is one object, which waits in a spool until it is whole. Nothing depends on conditional
puts; that keys are never reused is what keeps a blob from being written over.
"""

import asyncio
import itertools
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Executor
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar

from storage_gateway.errors import BackendUnavailable, BlobCorrupt, BlobMissing
from storage_gateway.raising import fresh

from .contract import BlobInfo, Check, Range, check_key
from .probe import look, probe
from .probe_report import ProbeReport
from .s3_answers import ContentRange, MalformedAnswer, Page, read_content_range, read_page
from .s3_body import Content
from .s3_client import Answer, Request, S3Client, S3Settings
from .s3_leftovers import BucketLeftovers
from .scratch import clear_abandoned
from .spool import Spool
from .spooled import SpooledWriter, SpooledWriters

T = TypeVar("T")

MARKER_FRESH_S = 30.0
LIST_BYTES_MAX = 8 << 20
"""Of one page of a listing."""


class S3Store:
    """Blobs in a bucket. Methods are those of the contract."""

    def __init__(
        self,
        settings: S3Settings,
        *,
        marker: str,
        spool: Path,
        clock: Callable[[], datetime],
        tls: ssl.SSLContext | None = None,
        marker_fresh_s: float = MARKER_FRESH_S,
    ) -> None:
        """Made on the event loop that it is used on. ``marker`` is the key of the blob that shows
        that the bucket is the deployment's; ``spool`` a folder for segments on their way, which
        exists; ``clock`` tells the time in UTC.
        """
        self.name = settings.name
        self.settings = settings
        self._client = S3Client(settings, clock=clock, tls=tls)
        self._marker = marker
        self._clock = clock
        self._marker_fresh_s = marker_fresh_s
        self._marker_seen_s: float | None = None
        self._marker_read: asyncio.Task[None] | None = None
        self._writers = SpooledWriters(spool, store=self.name, send=self._send)
        self.leftovers = BucketLeftovers(self._client, self._check_marker)

    @property
    def names(self) -> tuple[str, ...]:
        """The store itself; see the contract."""
        return (self.name,)

    @property
    def calls(self) -> int:
        """How many operations of the bucket were begun so far."""
        return self._client.calls

    @property
    def attempts(self) -> int:
        """How many requests were begun for them, each retry counted."""
        return self._client.attempts

    def answered_within(self, seconds: float) -> bool:
        """Tell whether anything that was asked of it was answered in the last ``seconds``."""
        return time.monotonic() - self._client.answered_s <= seconds

    async def close(self) -> None:
        """Close all connections; what is under way is broken off."""
        if self._marker_read is not None:
            self._marker_read.cancel()
            await asyncio.wait([self._marker_read])
        await self._client.close()

    async def probe(self, deployment_id: str, *, everything: bool = True) -> ProbeReport:
        """Find out what the store can do, also without a marker; see `probe`."""
        report = await probe(
            self._client, deployment_id=deployment_id, clock=self._clock, everything=everything
        )
        if report.is_answered:
            await self.clear_abandoned(deployment_id)
        return report

    async def look(self, deployment_id: str) -> ProbeReport:
        """Ask what may have changed since it was probed; see `look` beside `probe`."""
        return await look(self._client, deployment_id=deployment_id, clock=self._clock)

    async def clear_abandoned(self, deployment_id: str) -> bool:
        """Remove what probes left that were killed; tell whether nothing is to be removed later."""
        return await clear_abandoned(self._client, deployment_id, self._clock())

    def create(self, key: str) -> SpooledWriter:
        """Begin a blob; see the contract."""
        return self._writers.create(key)

    async def _send(self, key: str, spool: Spool) -> None:
        await self.put(key, spool if spool.memory is None else spool.memory)

    async def put(self, key: str, data: Content) -> None:
        """Store a blob; see the contract."""
        check_key(key)
        # One deadline for both: a put that is late may not come later than it says.
        until_s = self._client.deadline()
        if key != self._marker and not self._is_marker_fresh():
            try:
                async with asyncio.timeout_at(until_s):
                    await self._check_marker()
            except TimeoutError:
                said = f"did not answer within {self.settings.deadline_s:g} seconds"
                raise self._client.unavailable(said) from None
        await self._client.call(Request(method="PUT", key=key, body=data), until_s=until_s)

    async def get(self, key: str, offset: int, size: int) -> bytes:
        """Return a range; see the contract."""
        check_key(key)
        if size == 0:
            return await self._get_nothing(key, offset)
        answer = await self._client.call(
            Request(method="GET", key=key, byte_range=(offset, size), answer_bytes_max=size)
        )
        if answer.status == HTTPStatus.NOT_FOUND:
            raise await self._missing(key)
        if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            found = ContentRange(offset, offset, (await self.stat(key)).size)
        else:
            found = self._range_of(answer)
        if found.size < offset + size:
            raise self._corrupt(key, found.size)
        if (found.first, found.end, len(answer.body)) != (offset, offset + size, size):
            raise self._client.unavailable("answered another range than it was asked for")
        return answer.body

    async def fetch(self, ranges: Sequence[Range], check: Check[T], threads: Executor) -> list[T]:
        """Return what is made of ranges; see the contract. Neighbours come by one request."""
        runs = [await self.get(run.key, run.offset, run.size) for run in _joined(ranges)]

        def work() -> list[T]:
            data = runs[0] if len(runs) == 1 else b"".join(runs)
            ends = itertools.accumulate(r.size for r in ranges)
            return [
                check(at, data[end - r.size : end])
                for at, (r, end) in enumerate(zip(ranges, ends, strict=True))
            ]

        return await asyncio.get_running_loop().run_in_executor(threads, work)

    async def _get_nothing(self, key: str, offset: int) -> bytes:
        # HTTP has no range of no bytes.
        found = await self.stat(key)
        if found.size < offset:
            raise self._corrupt(key, found.size)
        return b""

    async def stat(self, key: str) -> BlobInfo:
        """Return what is known of a blob; see the contract."""
        check_key(key)
        answer = await self._client.call(Request(method="GET", key=key, byte_range=(0, 1)))
        if answer.status == HTTPStatus.NOT_FOUND:
            raise await self._missing(key)
        if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return BlobInfo(key, 0)  # every other blob has a first byte
        return BlobInfo(key, self._range_of(answer).size)

    async def delete(self, key: str) -> None:
        """Remove a blob; see the contract."""
        check_key(key)
        await self._writers.abort(key)
        await self._check_marker()
        await self._client.call(Request(method="DELETE", key=key))

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[BlobInfo]:
        """Yield the blobs of a folder; see the contract."""
        query = {"prefix": prefix}
        if after.startswith(prefix) and after:  # MinIO and those like it refuse any other
            query["start-after"] = after
        while True:
            await self._check_marker()
            page = await self._page(query)
            for blob in page.blobs:
                if blob.key > after:
                    yield blob
            if page.token is None:
                return
            query["continuation-token"] = page.token

    async def holds_other(self, folder: str) -> bool:
        """Tell whether the bucket holds anything that is not in a folder; asks without the marker.

        Raises:
            BackendUnavailable

        """
        first = await self._page({"max-keys": "1"})
        # "0" follows "/": what comes after the folder, of all that comes after its beginning.
        after = await self._page({"max-keys": "1", "start-after": f"{folder}0"})
        found = [*first.blobs, *after.blobs]
        return not all(blob.key.startswith(f"{folder}/") for blob in found)

    async def folders(self) -> Sequence[str]:
        """Return the names of the uppermost folders; asks without the marker.

        Raises:
            BackendUnavailable

        """
        found: list[str] = []
        query = {"max-keys": "1"}
        while (page := await self._page(query)).blobs:
            folder = page.blobs[0].key.partition("/")[0]
            found.append(folder)
            query["start-after"] = f"{folder}0"  # "0" follows "/"
        return found

    async def _page(self, query: Mapping[str, str]) -> Page:
        asked = {"list-type": "2", "encoding-type": "url", **query}
        request = Request(method="GET", query=asked, answer_bytes_max=LIST_BYTES_MAX)
        answer = await self._client.call(request)
        try:
            return read_page(answer.body)
        except MalformedAnswer as error:
            raise self._client.unavailable(str(error)) from None

    async def _missing(self, key: str) -> BlobMissing:
        """Return what to raise for a blob that is not there, once the store is known as itself."""
        await self._check_marker()
        return BlobMissing(f"{key} is missing in store {self.name}")

    async def _check_marker(self) -> None:
        """Raise BackendUnavailable unless the marker was read a moment ago, or can be read now."""
        if self._is_marker_fresh():
            return
        if self._marker_read is None or self._marker_read.done():
            self._marker_read = asyncio.create_task(self._read_marker())
        try:
            await asyncio.shield(self._marker_read)
        except BackendUnavailable as error:
            raise fresh(error) from None  # it stays, and would hold whoever waited for it

    def _is_marker_fresh(self) -> bool:
        seen_s = self._marker_seen_s
        return seen_s is not None and time.monotonic() - seen_s <= self._marker_fresh_s

    async def _read_marker(self) -> None:
        asked_s = time.monotonic()
        answer = await self._client.call(Request(method="GET", key=self._marker))
        if answer.status != HTTPStatus.OK:
            raise self._client.unavailable(
                "lacks the marker of this deployment: it is another bucket, or was emptied"
            )
        self._marker_seen_s = asked_s

    def _range_of(self, answer: Answer) -> ContentRange:
        if answer.status == HTTPStatus.OK:
            return ContentRange(0, len(answer.body), len(answer.body))
        try:
            return read_content_range(answer.headers.get("Content-Range", ""))
        except MalformedAnswer as error:
            raise self._client.unavailable(str(error)) from None

    def _corrupt(self, key: str, size: int) -> BlobCorrupt:
        return BlobCorrupt(f"{key} in store {self.name} ends at byte {size}")


def _joined(ranges: Sequence[Range]) -> list[Range]:
    """Return ranges that hold the same bytes in the same order, as few as can be."""
    joined: list[Range] = []
    for r in ranges:
        last = joined[-1] if joined else None
        if last is not None and (last.key, last.offset + last.size) == (r.key, r.offset):
            joined[-1] = Range(last.key, last.offset, last.size + r.size)
        else:
            joined.append(r)
    return joined
