"""What S3 answers, read and judged. Pure.

Texts that a server wrote are never repeated: they may echo what was signed. Its codes are.
"""

import re
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from http import HTTPStatus
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET

from .contract import BlobInfo

NO_SUCH_KEY = "NoSuchKey"

_CODE = re.compile(rb"<Code>([A-Za-z0-9]{1,64})</Code>")
_CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,19})-(\d{1,19})|\*)/(\d{1,19})")


class FaultKind(Enum):
    """What a caller can do about it."""

    TRANSIENT = auto()
    """May succeed when it is tried again."""
    PERMANENT = auto()
    """Will not, before somebody changes something."""
    FULL = auto()
    """Will not, before there is room."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a request did not do what it was for."""

    kind: FaultKind
    text: str
    """Goes on after "store NAME"."""


@dataclass(frozen=True, slots=True)
class ContentRange:
    """What of a blob an answer holds; ``size`` is the whole blob's."""

    first: int
    end: int
    size: int


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing; ``token`` asks for the next one, None after the last."""

    blobs: tuple[BlobInfo, ...]
    token: str | None


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """What a bucket keeps under a key: bytes, or only that they were deleted."""

    key: str
    version: str
    is_marker: bool
    is_latest: bool = False
    """What is read where no version is named; of a mark of deletion: that nothing is there."""
    tag: str = ""
    """The same for the same bytes; empty where it is not told."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An upload in parts that was begun, and neither finished nor given up."""

    key: str
    upload_id: str


Mark = tuple[str, str]
"""Behind which key, and which version or upload of it, a listing goes on."""


@dataclass(frozen=True, slots=True)
class VersionPage:
    """A part of a listing of versions; ``after`` asks for the next one, None after the last."""

    versions: tuple[ObjectVersion, ...]
    after: Mark | None


@dataclass(frozen=True, slots=True)
class UnfinishedPage:
    """A part of a listing of uploads in parts, likewise."""

    uploads: tuple[Unfinished, ...]
    after: Mark | None


class Versioning(StrEnum):
    """What a bucket does with objects that are deleted or written over."""

    OFF = auto()
    SUSPENDED = auto()
    """Removes them, but still keeps what was removed before it was suspended."""
    ON = auto()
    """Keeps them."""


class MalformedAnswer(ValueError):
    """The answer is not what S3 answers; the text goes on after "store NAME"."""


_TRANSIENT_STATUSES = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.CONFLICT,  # an operation on the same name is under way, or was
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
# The last one: a body that is not the one that was signed; it was right when it left.
_TRANSIENT_CODES = frozenset({"RequestTimeout", "SlowDown", "XAmzContentSHA256Mismatch"})
# Of MinIO, Ceph and others: S3 itself has no end.
_FULL_CODES = frozenset(
    {
        "InsufficientStorage",
        "QuotaExceeded",
        "XMinioAdminBucketQuotaExceeded",
        "XMinioStorageFull",
    }
)
_MEANINGS = {
    "AccessDenied": "does not allow it: look at the rights of the access key",
    "AuthorizationHeaderMalformed": "expects another signature: is the region right?",
    "ExpiredToken": "takes the credentials for expired: renew them",
    "InvalidAccessKeyId": "does not know the access key",
    "InvalidToken": "does not know the session token",
    "NoSuchBucket": "has no such bucket",
    "PermanentRedirect": "keeps the bucket elsewhere: are endpoint and region right?",
    "RequestTimeTooSkewed": "has another time than this machine: set the clocks",
    "SignatureDoesNotMatch": "does not accept the signature: is the secret key right?",
}


def error_code(body: bytes) -> str:
    """Return the code of an error document; empty where there is none."""
    found = _CODE.search(body)
    return found[1].decode() if found else ""


def fault_of(status: int, code: str) -> Fault:
    """Judge an answer that is an error."""
    if status == HTTPStatus.INSUFFICIENT_STORAGE or code in _FULL_CODES:
        return Fault(FaultKind.FULL, "is full")
    said = f"{status} {code}" if code else f"{status}"
    if code in _MEANINGS:
        return Fault(FaultKind.PERMANENT, f"{_MEANINGS[code]} (it answered {said})")
    transient = status in _TRANSIENT_STATUSES or code in _TRANSIENT_CODES
    kind = FaultKind.TRANSIENT if transient else FaultKind.PERMANENT
    return Fault(kind, f"answered {said}")


def read_content_range(text: str) -> ContentRange:
    """Read the header of a partial answer; that of a refusal holds no bytes, only the size.

    Raises:
        MalformedAnswer

    """
    found = _CONTENT_RANGE.fullmatch(text)
    if found is None:
        raise MalformedAnswer("did not say which range it answered")
    size = int(found[3])
    if found[1] is None:
        return ContentRange(size, size, size)
    return ContentRange(int(found[1]), int(found[2]) + 1, size)


def read_page(body: bytes) -> Page:
    """Read an answer to ListObjectsV2 that was asked for with ``encoding-type=url``.

    Raises:
        MalformedAnswer

    """
    root = _document(body, "ListBucketResult", "a listing")
    blobs = tuple(_blob(entry) for entry in root.iterfind("{*}Contents"))
    if root.findtext("{*}IsTruncated") != "true":
        return Page(blobs, None)
    token = root.findtext("{*}NextContinuationToken")
    if not token:
        raise MalformedAnswer("broke a listing off")
    return Page(blobs, token)


def read_versioning(body: bytes) -> Versioning:
    """Read an answer to GetBucketVersioning.

    Raises:
        MalformedAnswer

    """
    root = _document(body, "VersioningConfiguration", "a state of versioning")
    states = {"Enabled": Versioning.ON, "Suspended": Versioning.SUSPENDED, None: Versioning.OFF}
    status = root.findtext("{*}Status") or None
    if status not in states:
        raise MalformedAnswer("answered a state of versioning that S3 does not have")
    return states[status]


def read_versions(body: bytes) -> tuple[ObjectVersion, ...]:
    """Read an answer to ListObjectVersions that was asked for with ``encoding-type=url``.

    Raises:
        MalformedAnswer

    """
    return read_version_page(body).versions


def read_version_page(body: bytes) -> VersionPage:
    """As `read_versions`, with where the next page begins.

    Raises:
        MalformedAnswer

    """
    root = _document(body, "ListVersionsResult", "a listing of versions")
    versions = tuple(
        _version(entry, is_marker=is_marker)
        for tag, is_marker in (("Version", False), ("DeleteMarker", True))
        for entry in root.iterfind(f"{{*}}{tag}")
    )
    return VersionPage(versions, _mark_of(root, "NextVersionIdMarker"))


def read_unfinished_page(body: bytes) -> UnfinishedPage:
    """Read an answer to ListMultipartUploads that was asked for with ``encoding-type=url``.

    Raises:
        MalformedAnswer

    """
    root = _document(body, "ListMultipartUploadsResult", "a listing of uploads in parts")
    uploads = tuple(_unfinished(entry) for entry in root.iterfind("{*}Upload"))
    return UnfinishedPage(uploads, _mark_of(root, "NextUploadIdMarker"))


def read_object_lock(body: bytes) -> bool:
    """Read an answer to GetObjectLockConfiguration; tell whether objects can be locked.

    Raises:
        MalformedAnswer

    """
    root = _document(body, "ObjectLockConfiguration", "a state of object lock")
    return root.findtext("{*}ObjectLockEnabled") == "Enabled"


def _document(body: bytes, tag: str, what: str) -> ET.Element:
    if b"<!DOCTYPE" in body:
        raise MalformedAnswer(f"answered {what} with definitions of its own")
    try:
        root = ET.fromstring(body)  # noqa: S314 - what makes it unsafe was refused above
    except ET.ParseError:
        raise MalformedAnswer(f"answered {what} that is not XML") from None
    if root.tag.rpartition("}")[2] != tag:
        raise MalformedAnswer(f"answered something else than {what}")
    return root


def _blob(entry: ET.Element) -> BlobInfo:
    key, size = entry.findtext("{*}Key"), entry.findtext("{*}Size")
    if not key or size is None or not size.isdecimal():
        raise MalformedAnswer("listed an object without a key or a size")
    return BlobInfo(unquote_plus(key), int(size))


def _version(entry: ET.Element, *, is_marker: bool) -> ObjectVersion:
    key, version = entry.findtext("{*}Key"), entry.findtext("{*}VersionId")
    if not key or not version:
        raise MalformedAnswer("listed a version without a key or an id")
    is_latest = entry.findtext("{*}IsLatest") == "true"
    tag = "" if is_marker else f"{entry.findtext('{*}ETag') or ''}/{entry.findtext('{*}Size')}"
    return ObjectVersion(
        unquote_plus(key), version, is_marker, is_latest, "" if tag.startswith("/") else tag
    )


def _unfinished(entry: ET.Element) -> Unfinished:
    key, upload_id = entry.findtext("{*}Key"), entry.findtext("{*}UploadId")
    if not key or not upload_id:
        raise MalformedAnswer("listed an upload in parts without a key or an id")
    return Unfinished(unquote_plus(key), upload_id)


def _mark_of(root: ET.Element, second: str) -> Mark | None:
    """Return where a listing goes on that was cut off; None where it was not."""
    if root.findtext("{*}IsTruncated") != "true":
        return None
    key, of_key = root.findtext("{*}NextKeyMarker") or "", root.findtext(f"{{*}}{second}") or ""
    if not (key or of_key):
        raise MalformedAnswer("broke a listing off")
    return unquote_plus(key), of_key
