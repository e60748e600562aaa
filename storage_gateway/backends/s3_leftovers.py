"""What a bucket has beside the objects: uploads in parts that nobody finished, old versions, and
marks that something was deleted. Listed a page at a time, and removed one by one.

What is removed is named by its own id, never by a key alone: that would hide what is there.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from .s3_answers import (
    MalformedAnswer,
    Mark,
    ObjectVersion,
    Unfinished,
    Versioning,
    error_code,
    fault_of,
    read_unfinished_page,
    read_version_page,
    read_versioning,
)
from .s3_client import Answer, Request, S3Client
from .scratch import NOT_KNOWN, NOT_TOLD

LIST_BYTES_MAX = 8 << 20
"""Of one page of a listing."""
VERSIONS_MAX = 10_000
"""Of one key that are looked at; the others are the next round's."""

NULL = "null"
"""The id of what is written where versions are not kept any more."""

_NOT_DONE = NOT_KNOWN | {HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN}
_GONE = frozenset({HTTPStatus.NOT_FOUND})


class NotToldError(Exception):
    """The store does not know the question, or does not answer it to us; the text says which."""


@dataclass(slots=True)
class KeptKey:
    """All that a bucket keeps under one key."""

    key: str
    versions: list[ObjectVersion] = field(default_factory=list)
    is_whole: bool = True
    """No version was left out."""

    def add(self, version: ObjectVersion) -> None:
        """Add one, unless there are too many."""
        if len(self.versions) < VERSIONS_MAX or version.is_latest:
            self.versions.append(version)
        else:
            self.is_whole = False

    @property
    def latest(self) -> ObjectVersion | None:
        """What is read where no version is named; None if the store did not say which."""
        found = [version for version in self.versions if version.is_latest]
        return found[0] if len(found) == 1 else None

    @property
    def others(self) -> list[ObjectVersion]:
        """All but the latest, the older ones first."""
        return [version for version in reversed(self.versions) if not version.is_latest]


class BucketLeftovers:
    """Asks one bucket, only while it is known to be this deployment's."""

    def __init__(
        self,
        client: S3Client,
        check_marker: Callable[[], Awaitable[None]],
        *,
        page_max: int | None = None,
    ) -> None:
        """``check_marker`` raises BackendUnavailable where the bucket is not ours; ``page_max`` is
        how much a page may have, if not what the store finds right.
        """
        self._client = client
        self._check_marker = check_marker
        self.page_max = page_max

    async def keeps_versions(self) -> bool:
        """Tell whether there can be versions: also where the bucket kept them once.

        Raises:
            BackendUnavailable

        """
        try:
            answer = await self._ask({"versioning": ""})
            return read_versioning(answer.body) is not Versioning.OFF
        except (NotToldError, MalformedAnswer):
            return True  # what it keeps says it

    async def unfinished(self, prefix: str) -> AsyncGenerator[Unfinished]:
        """Yield the uploads in parts that were begun below a prefix; who asks removes them.

        Raises:
            NotToldError, BackendUnavailable

        """
        seen: set[Unfinished] = set()
        after: Mark = ("", "")
        while True:
            marks = _marks(after, "upload-id-marker")
            query = {"uploads": "", "prefix": prefix, **self._most("max-uploads"), **marks}
            answer = await self._ask(query)
            try:
                page = read_unfinished_page(answer.body)
            except MalformedAnswer as error:
                raise NotToldError(str(error)) from None
            unseen = [upload for upload in page.uploads if upload not in seen]
            for upload in unseen:
                seen.add(upload)
                yield upload
            if page.after is None:
                return
            # The same page again, as long as others take the place of those that went: not every
            # store says where the next one begins as S3 does.
            if not unseen:
                if page.after == after:
                    return
                after = page.after

    async def kept(self, prefix: str, after_key: str) -> AsyncGenerator[KeptKey]:
        """Yield what is kept under each key below a prefix and behind a key, in their order.

        What was yielded may be removed while this goes on.

        Raises:
            NotToldError, BackendUnavailable

        """
        after: Mark | None = (after_key, "")
        # The last key of a page may go on in the next one, which is asked for behind it: nothing of
        # it is let go before.
        open_key: KeptKey | None = None
        while after is not None:
            marks = _marks(after, "version-id-marker")
            query = {"versions": "", "prefix": prefix, **self._most("max-keys"), **marks}
            answer = await self._ask(query)
            try:
                page = read_version_page(answer.body)
            except MalformedAnswer as error:
                raise NotToldError(str(error)) from None
            # Some list versions first, then marks: what belongs to a key is not always together.
            for version in sorted(page.versions, key=lambda version: version.key):
                if open_key is not None and open_key.key != version.key:
                    yield open_key
                    open_key = None
                open_key = open_key or KeptKey(version.key)
                open_key.add(version)
            after = self._next(after, page.after)
        if open_key is not None:
            yield open_key

    async def give_up(self, upload: Unfinished) -> bool:
        """Remove an upload in parts; False when the store does not.

        Raises:
            BackendUnavailable

        """
        return await self._remove(upload.key, {"uploadId": upload.upload_id})

    async def remove(self, version: ObjectVersion) -> bool:
        """Remove a version, or a mark of deletion; False when the store does not: it is locked, or
        we have no right.

        Raises:
            BackendUnavailable

        """
        is_gone = await self._remove(version.key, {"versionId": version.version})
        if is_gone and version.is_marker and version.version == NULL:
            return not await self._is_there(version)
        return is_gone

    async def _is_there(self, version: ObjectVersion) -> bool:
        """Look again: of a bucket that keeps versions no more some do not remove such a mark, and
        say that they did.
        """
        query = {"versions": "", "prefix": version.key, "max-keys": "10"}
        try:
            found = read_version_page((await self._ask(query)).body).versions
        except (NotToldError, MalformedAnswer):
            return True
        return any((v.key, v.version) == (version.key, NULL) for v in found)

    async def _remove(self, key: str, query: Mapping[str, str]) -> bool:
        await self._check_marker()
        request = Request(method="DELETE", key=key, query=query, answers=_NOT_DONE | _GONE)
        answer = await self._client.call(request)
        return answer.status not in _NOT_DONE

    async def _ask(self, query: Mapping[str, str]) -> Answer:
        await self._check_marker()
        asked = {**query, "encoding-type": "url"} if "prefix" in query else query
        answers = NOT_KNOWN | NOT_TOLD
        request = Request(
            method="GET", query=asked, answers=answers, answer_bytes_max=LIST_BYTES_MAX
        )
        answer = await self._client.call(request)
        if answer.status in answers:
            raise NotToldError(fault_of(answer.status, error_code(answer.body)).text)
        return answer

    def _most(self, name: str) -> Mapping[str, str]:
        return {} if self.page_max is None else {name: str(self.page_max)}

    def _next(self, before: Mark, after: Mark | None) -> Mark | None:
        """Return where to go on; a listing that does not get on would never end."""
        if after == before:
            raise NotToldError("answered the same page of a listing again")
        return after


def _marks(after: Mark, second: str) -> Mapping[str, str]:
    key, of_key = after
    marks = {"key-marker": key} if key else {}
    return marks | ({second: of_key} if of_key else {})
