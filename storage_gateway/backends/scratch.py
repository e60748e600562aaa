"""Objects for a moment: a folder of a bucket that is removed again with all that came into it, by
who made it or, if that one was killed, by others later.
"""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime
from http import HTTPStatus

from storage_gateway.errors import BackendUnavailable, StorageFull
from storage_gateway.ids import new_random_id

from .contract import BlobInfo
from .s3_answers import MalformedAnswer, ObjectVersion, Versioning, read_page, read_versions
from .s3_client import Answer, Request, S3Client

PROBE_S_MAX = 300.0
"""How long one may be at work in such a folder."""
CLOCK_OFF_S_MAX = 300.0
"""How far a store's clock may be off ours. Servers refuse signatures that are older or newer than
they allow: 5 to 15 minutes.
"""
CLEARING_S = 20.0
"""How long removing all of it may take."""
ABANDONED_S = PROBE_S_MAX + CLEARING_S + 2 * CLOCK_OFF_S_MAX
"""After it nobody is at work in a folder any more, by the clock of whoever looks."""
LISTED_AT_ONCE = 100
PAGES_MAX = 20
"""Of a listing: a store whose listings have no end must not keep us."""

NOT_KNOWN = frozenset({HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED})
"""What a store says that has not heard of what it is asked for."""
NOT_TOLD = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})
"""What it may say to who has no right to ask."""

_NO_HEADERS: Mapping[str, str] = {}


def probes_prefix(deployment_id: str) -> str:
    """Return the prefix of all that probes write."""
    return f"{deployment_id}/probe/"


def probe_prefix(deployment_id: str, now: datetime) -> str:
    """Return the prefix of what a probe writes that begins now; no other has the same."""
    return f"{probes_prefix(deployment_id)}{now.timestamp():.0f}-{new_random_id()}/"


def abandoned(names: Iterable[str], now: datetime) -> dict[str, list[str]]:
    """Return what probes that were killed left, by their folders; of names below `probes_prefix`.

    What a probe may be at work on is left out.
    """
    left: dict[str, list[str]] = {}
    for name in names:
        folder, _, rest = name.partition("/")
        began_s = folder.partition("-")[0]
        if not began_s.isdecimal() or now.timestamp() - int(began_s) >= ABANDONED_S:
            left.setdefault(folder, []).append(rest)
    return left


async def clear_abandoned(client: S3Client, deployment_id: str, now: datetime) -> bool:
    """Remove what probes that were killed left; return whether no probe has anything there.

    Raises nothing.
    """
    everything = Scratch(client, probes_prefix(deployment_id))
    try:
        blobs = await everything.list("", page_max=LISTED_AT_ONCE)
    except (BackendUnavailable, StorageFull, MalformedAnswer):
        return False
    if blobs is None:
        return False
    names = [blob.key.removeprefix(everything.prefix) for blob in blobs]
    left = abandoned(names, now)
    cleared = [
        await Scratch(client, f"{everything.prefix}{folder}/", written).clear(None)
        for folder, written in left.items()
    ]
    return all(cleared) and len(names) == sum(map(len, left.values()))


class Scratch:
    """Objects below ``prefix``, which ends in ``/``.

    Methods raise BackendUnavailable and StorageFull as the client does.
    """

    def __init__(self, client: S3Client, prefix: str, written: Iterable[str] = ()) -> None:
        """``written`` are the names that are there already."""
        self.prefix = prefix
        self._client = client
        self._written = set(written)

    async def put(
        self,
        name: str,
        body: bytes,
        *,
        headers: Mapping[str, str] = _NO_HEADERS,
        answers: frozenset[int] = frozenset(),
    ) -> Answer:
        """Write an object. One that was only asked for counts as written: it may have been."""
        self._written.add(name)
        key = self.prefix + name
        return await self._client.call(
            Request(method="PUT", key=key, body=body, headers=headers, answers=answers)
        )

    async def get(
        self, name: str, size: int, *, byte_range: tuple[int, int] | None = None
    ) -> Answer:
        """Read an object, or a range of it; ``size`` is how many bytes may come."""
        key = self.prefix + name
        return await self._client.call(
            Request(method="GET", key=key, byte_range=byte_range, answer_bytes_max=size)
        )

    async def delete(self, name: str) -> None:
        """Remove an object; a bucket that keeps versions keeps it as an old one."""
        await self._client.call(Request(method="DELETE", key=self.prefix + name))

    async def list(self, folder: str, *, page_max: int) -> list[BlobInfo] | None:
        """Return what is in a folder, by pages of so many; None if the pages have no end.

        Raises:
            MalformedAnswer: the answer is no listing.

        """
        query = {
            "list-type": "2",
            "encoding-type": "url",
            "prefix": self.prefix + folder,
            "max-keys": str(page_max),
        }
        found: list[BlobInfo] = []
        for _ in range(PAGES_MAX):
            page = read_page((await self._client.call(Request(method="GET", query=query))).body)
            found += page.blobs
            if page.token is None:
                return found
            query["continuation-token"] = page.token
        return None

    async def versions(self) -> tuple[ObjectVersion, ...] | None:
        """Return all that the bucket keeps; None if the store cannot tell, or not us."""
        query = {"versions": "", "encoding-type": "url", "prefix": self.prefix}
        answer = await self._client.call(
            Request(method="GET", query=query, answers=NOT_KNOWN | NOT_TOLD)
        )
        try:
            return read_versions(answer.body)
        except MalformedAnswer:
            return None

    async def clear(self, versioning: Versioning | None) -> bool:
        """Remove all that was written, with what the bucket keeps of it.

        Returns whether all is gone, as far as can be told. Raises nothing.
        """
        try:
            async with asyncio.timeout(CLEARING_S):
                await asyncio.gather(*(self.delete(name) for name in self._written))
                if versioning is Versioning.OFF or not self._written:
                    return True
                kept = await self.versions()
                if kept is None:
                    return versioning is None
                await asyncio.gather(*(self._remove(version) for version in kept))
        except (TimeoutError, BackendUnavailable, StorageFull):
            return False
        return True

    async def _remove(self, version: ObjectVersion) -> None:
        query = {"versionId": version.version}
        await self._client.call(Request(method="DELETE", key=version.key, query=query))
