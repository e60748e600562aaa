"""The names this project mints, and the network's names that it reads.

Pure text handling: whether an object of that name exists, and who may open it, is decided
elsewhere. Never guesses: a name in another spelling than the one it was minted in is refused.
"""

from base64 import b32encode
from dataclasses import dataclass
from typing import Final

from urn.cid import CID, CIDError
from urn.syntax import URN, URNError, parse

NID: Final = "blob"
# Ours: chosen by this project to follow the network's v1 to v3, as the NID was by the network;
# neither is registered with IANA.
VERSION: Final = "v4"

OBJECT_ID_LENGTH: Final = 32
OBJECT_ID_SIZE: Final = 20

_BASE32: Final = frozenset("abcdefghijklmnopqrstuvwxyz234567")
_NSS_POSITION: Final = len(f"urn:{NID}:")
_OBJECT_ID_POSITION: Final = len(f"urn:{NID}:{VERSION}:")
_PIN: Final = "cid="
_PIN_POSITION: Final = _OBJECT_ID_POSITION + OBJECT_ID_LENGTH + len(f"?={_PIN}")
_FOREIGN_PROTOCOL: Final = "s3"
_FOREIGN_FIELDS: Final = {
    "v1": ("provider", "bucket", "file name"),
    "v2": ("provider", "bucket", "file name"),
    "v3": ("provider", "backend index", "bucket", "file name"),
}


class NameFormatError(URNError):
    """A URN that is not a name we mint or read. `position` is the index of the first fault."""

    def __str__(self) -> str:
        return f"not a known kind of name at position {self.position}: {self.reason}"


@dataclass(frozen=True, slots=True)
class ObjectName:
    """`urn:blob:v4:<object-id>`, with the CID that pins its payload or without.

    `object_id` is 160 random bits: exactly 32 characters of a-z and 2-7. The name's identity is
    `urn`; a pin is not part of it (RFC 8141 section 2.3.2), though == compares pins too. Raises
    `NameFormatError`, with the position of the fault in the URN, for another spelling of either.
    """

    object_id: str
    cid: str | None = None

    def __post_init__(self) -> None:
        _check_object_id(self.object_id)
        if self.cid is not None:
            try:
                CID.parse(self.cid)
            except CIDError as error:
                position = _PIN_POSITION + error.position
                raise NameFormatError(f"bad pin: {error.reason}", position) from error

    def __str__(self) -> str:
        return self.urn if self.cid is None else self.urn_pinned

    @property
    def urn(self) -> str:
        """The bare name, short enough for a queue record: 44 characters."""
        return f"urn:{NID}:{VERSION}:{self.object_id}"

    @property
    def urn_pinned(self) -> str:
        """The name pinned to the payload's CID. Raises `ValueError` when there is no pin."""
        if self.cid is None:
            raise ValueError("this name has no pin; use .urn")
        return f"{self.urn}?={_PIN}{self.cid}"


@dataclass(frozen=True, slots=True)
class ForeignName:
    """A name in the network's own form, which says where a file lies in an S3-compatible store.

    `urn:blob:v1|v2:s3:<provider>:<bucket>:<file>` (no `backend_index`) or
    `urn:blob:v3:s3:<provider>:<backend-index>:<bucket>:<file>`. The fields are as written, but for
    the hex digits of percent-encodings, which are in upper case so that equivalent names are ==.
    Made by `parse_name` only, which checks it.
    """

    version: str
    provider: str
    backend_index: str | None
    bucket: str
    file_name: str

    def __str__(self) -> str:
        return self.urn

    @property
    def urn(self) -> str:
        """The name in its canonical spelling, fit to be looked up as a key."""
        fields = (self.version, _FOREIGN_PROTOCOL, self.provider, self.backend_index)
        present = [field for field in (*fields, self.bucket, self.file_name) if field is not None]
        return ":".join(("urn", NID, *present))


def mint(object_id: str, cid: str | None = None) -> ObjectName:
    """Name a new object; `object_id` is from `new_object_id`. Raises `NameFormatError`."""
    return ObjectName(object_id, cid)


def new_object_id(random: bytes) -> str:
    """The object id that these 20 random bytes spell. Raises `ValueError` for another length.

    The bytes must come from a cryptographic source and be used once: a name is also hard to guess.
    """
    if len(random) != OBJECT_ID_SIZE:
        raise ValueError(f"expected {OBJECT_ID_SIZE} random bytes, got {len(random)}")
    return b32encode(random).decode("ascii").lower()


def parse_name(text: str) -> ObjectName | ForeignName:
    """Read a name: ours, or one of the network's.

    Raises `URNError` when the text is not a URN, `NameFormatError` when it is one of another kind.
    The scheme and NID may be in any case (RFC 8141), everything after them may not.
    """
    urn = parse(text)
    if urn.nid.lower() != NID:
        raise NameFormatError(f"expected the namespace '{NID}'", len("urn:"))
    version, *fields = urn.nss.split(":")
    if version == VERSION:
        return _object_name(urn, fields)
    if version in _FOREIGN_FIELDS:
        return _foreign_name(urn)
    known = ", ".join((*_FOREIGN_FIELDS, VERSION))
    raise NameFormatError(f"expected a version that is one of {known}", _NSS_POSITION)


def _object_name(urn: URN, fields: list[str]) -> ObjectName:
    if not fields:
        end = _NSS_POSITION + len(urn.nss)
        raise NameFormatError(f"expected ':' and an object id after '{VERSION}'", end)
    # Before the components, whose positions are right only after an id of the right length.
    _check_object_id(urn.nss[len(f"{VERSION}:") :])
    _refuse_components(urn, but_q=True)
    if urn.q is None:
        return ObjectName(fields[0])
    if not urn.q.startswith(_PIN):
        position = _PIN_POSITION - len(_PIN)
        raise NameFormatError(f"expected '{_PIN}<cid>' as the q-component", position)
    return ObjectName(fields[0], urn.q.removeprefix(_PIN))


def _foreign_name(urn: URN) -> ForeignName:
    version, *fields = urn.nss.split(":")
    names = ("protocol", *_FOREIGN_FIELDS[version])
    position = _NSS_POSITION + len(version) + len(":")
    for name, field in zip(names, fields, strict=False):
        if name == "protocol" and field != _FOREIGN_PROTOCOL:
            raise NameFormatError(f"expected the protocol '{_FOREIGN_PROTOCOL}'", position)
        if not field:
            raise NameFormatError(f"expected a {name}", position)
        if "/" in field and name != "file name":
            fault = position + field.index("/")
            raise NameFormatError(f"'/' is not allowed in the {name}", fault)
        position += len(field) + len(":")
    if len(fields) != len(names):
        shape = ":".join(f"<{name}>" for name in names[1:])
        reason = f"expected exactly {version}:{_FOREIGN_PROTOCOL}:{shape}"
        raise NameFormatError(reason, position - len(":"))
    _refuse_components(urn, but_q=False)
    _, _, _, _, provider, *index, bucket, file_name = urn.canonical.split(":")
    return ForeignName(version, provider, index[0] if index else None, bucket, file_name)


def _check_object_id(object_id: str) -> None:
    for index, character in enumerate(object_id[:OBJECT_ID_LENGTH]):
        if character not in _BASE32:
            reason = f"expected a-z or 2-7 in the object id, found {character!a}"
            raise NameFormatError(reason, _OBJECT_ID_POSITION + index)
    if len(object_id) != OBJECT_ID_LENGTH:
        reason = f"expected an object id of {OBJECT_ID_LENGTH} characters, got {len(object_id)}"
        position = _OBJECT_ID_POSITION + min(len(object_id), OBJECT_ID_LENGTH)
        raise NameFormatError(reason, position)


def _refuse_components(urn: URN, *, but_q: bool) -> None:
    position = _NSS_POSITION + len(urn.nss)
    if urn.r is not None:
        raise NameFormatError("this name takes no r-component ('?+...')", position)
    if urn.q is not None:
        if not but_q:
            raise NameFormatError("this name takes no q-component ('?=...')", position)
        position += len(f"?={urn.q}")
    if urn.f is not None:
        raise NameFormatError("this name takes no f-component ('#...')", position)
