"""The names this project mints, and the network's names that it reads.

Pure text handling: whether an object of that name exists, and who may open it, is decided
elsewhere. Never guesses: a name in another spelling than the one it was minted in is refused.
"""

from base64 import b32encode
from dataclasses import dataclass
from typing import Final

from urn.cid import CID, CIDError
from urn.syntax import URN, URNError, parse

# The (NID, version) pairs under which an object id is one of ours. We mint under the first and read
# under each, so to rename our names is to put another pair first: every gateway already reads it,
# and what was minted before stays readable. Why these two: docs/names.md.
ACCEPTED: Final = (("blob", "v4"), ("blob", "sg1"))

OBJECT_ID_LENGTH: Final = 32
OBJECT_ID_SIZE: Final = 20

_BASE32: Final = frozenset("abcdefghijklmnopqrstuvwxyz234567")
_MINTED: Final = ":".join(("urn", *ACCEPTED[0], ""))
_PIN: Final = "cid="
_FOREIGN_NID: Final = "blob"
_FOREIGN_PROTOCOL: Final = "s3"
_FOREIGN_FIELDS: Final = {
    "v1": ("provider", "bucket", "file name"),
    "v2": ("provider", "bucket", "file name"),
    "v3": ("provider", "backend index", "bucket", "file name"),
}


class NameFormatError(URNError):
    """A URN that is not a name we mint or read: `reason` says what was expected at `position`.

    `position` is the 0-based index of the first fault; of a field or component that is wrong as a
    whole it is the beginning.
    """

    def __str__(self) -> str:
        return f"not a known kind of name at position {self.position}: {self.reason}"


@dataclass(frozen=True, slots=True)
class ObjectName:
    """`urn:blob:v4:<object-id>`, with the CID that pins its payload or without.

    `object_id` is 160 random bits: exactly 32 characters of a-z and 2-7. The name's identity is
    `urn`; a pin is not part of it (RFC 8141 section 2.3.2), though == compares pins too. Written
    under the first of `ACCEPTED` whatever it was read under. Raises `NameFormatError`, with the
    position of the fault in the URN, for another spelling of either.
    """

    object_id: str
    cid: str | None = None

    def __post_init__(self) -> None:
        position = len(_MINTED)
        _check_object_id(self.object_id, position)
        if self.cid is not None:
            _check_pin(self.cid, position + OBJECT_ID_LENGTH + len(f"?={_PIN}"))

    def __str__(self) -> str:
        return self.urn if self.cid is None else self.urn_pinned

    @property
    def urn(self) -> str:
        """The bare name, short enough for a queue record: 44 characters."""
        return _MINTED + self.object_id

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
    Raises `URNError` or `NameFormatError` for fields that would not be read again as they are, with
    the position of the fault in the URN that they would make.
    """

    version: str
    provider: str
    backend_index: str | None
    bucket: str
    file_name: str

    def __post_init__(self) -> None:
        if self.version not in _FOREIGN_FIELDS:
            reason = f"expected a version that is one of {', '.join(_FOREIGN_FIELDS)}"
            raise NameFormatError(reason, len(f"urn:{_FOREIGN_NID}:"))
        position = len(f"urn:{_FOREIGN_NID}:{self.version}:{_FOREIGN_PROTOCOL}:")
        for field in self._fields:
            if ":" in field:
                reason = "':' is not allowed in a field; write %3A"
                raise NameFormatError(reason, position + field.index(":"))
            position += len(field) + len(":")
        urn = parse(self.urn)
        _foreign_fields(urn)
        for index, (written, canonical) in enumerate(zip(self.urn, urn.canonical, strict=True)):
            if written != canonical:
                reason = f"expected {canonical!a}: percent-encodings are in upper case"
                raise NameFormatError(reason, index)

    def __str__(self) -> str:
        return self.urn

    @property
    def urn(self) -> str:
        """The name in its canonical spelling, fit to be looked up as a key."""
        return ":".join(("urn", _FOREIGN_NID, self.version, _FOREIGN_PROTOCOL, *self._fields))

    @property
    def _fields(self) -> list[str]:
        fields = (self.provider, self.backend_index, self.bucket, self.file_name)
        return [field for field in fields if field is not None]


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
    """Read a name: ours, under any prefix of `ACCEPTED`, or one of the network's.

    Raises `URNError` when the text is not a URN, `NameFormatError` when it is one of another kind,
    and nothing else for any text. The scheme and NID may be in any case (RFC 8141), everything
    after them may not.
    """
    urn = parse(text)
    nid = urn.nid.lower()
    version = urn.nss.partition(":")[0]
    if (nid, version) in ACCEPTED:
        return _object_name(urn, version)
    if nid == _FOREIGN_NID and version in _FOREIGN_FIELDS:
        return _foreign_name(urn)
    raise _unknown_prefix(urn)


def _unknown_prefix(urn: URN) -> NameFormatError:
    known = [*((_FOREIGN_NID, version) for version in _FOREIGN_FIELDS), *ACCEPTED]
    versions = [version for nid, version in known if nid == urn.nid.lower()]
    if not versions:
        nids = " or ".join(f"'{nid}'" for nid in dict.fromkeys(nid for nid, _ in known))
        return NameFormatError(f"expected the namespace {nids}", len("urn:"))
    reason = f"expected a version that is one of {', '.join(versions)}"
    return NameFormatError(reason, _nss_position(urn))


def _object_name(urn: URN, version: str) -> ObjectName:
    if urn.nss == version:
        end = _nss_position(urn) + len(version)
        raise NameFormatError(f"expected ':' and an object id after '{version}'", end)
    object_id = urn.nss.removeprefix(f"{version}:")
    _check_object_id(object_id, _nss_position(urn) + len(f"{version}:"))
    _refuse_components(urn, but_q=True)
    if urn.q is None:
        return ObjectName(object_id)
    position = _nss_position(urn) + len(f"{urn.nss}?=")
    if not urn.q.startswith(_PIN):
        raise NameFormatError(f"expected '{_PIN}<cid>' as the q-component", position)
    pin = urn.q.removeprefix(_PIN)
    # Here too and not only in the constructor, which knows the positions of a minted name alone.
    _check_pin(pin, position + len(_PIN))
    return ObjectName(object_id, pin)


def _foreign_name(urn: URN) -> ForeignName:
    fields = _foreign_fields(urn)
    provider, *index, bucket, file_name = fields
    version = urn.nss.partition(":")[0]
    return ForeignName(version, provider, index[0] if index else None, bucket, file_name)


def _foreign_fields(urn: URN) -> list[str]:
    """The fields after the protocol, canonical; `urn` begins with a known version."""
    version, *fields = urn.nss.split(":")
    names = ("protocol", *_FOREIGN_FIELDS[version])
    position = _nss_position(urn) + len(f"{version}:")
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
    return urn.canonical.split(":")[-len(names) + 1 :]


def _check_object_id(object_id: str, position: int) -> None:
    if not _BASE32.issuperset(object_id[:OBJECT_ID_LENGTH]):
        index = next(i for i, c in enumerate(object_id) if c not in _BASE32)
        reason = f"expected a-z or 2-7 in the object id, found {object_id[index]!a}"
        raise NameFormatError(reason, position + index)
    if len(object_id) != OBJECT_ID_LENGTH:
        reason = f"expected an object id of {OBJECT_ID_LENGTH} characters, got {len(object_id)}"
        raise NameFormatError(reason, position + min(len(object_id), OBJECT_ID_LENGTH))


def _check_pin(cid: str, position: int) -> None:
    try:
        CID.parse(cid)
    except CIDError as error:
        raise NameFormatError(f"bad pin: {error.reason}", position + error.position) from error


def _refuse_components(urn: URN, *, but_q: bool) -> None:
    position = _nss_position(urn) + len(urn.nss)
    if urn.r is not None:
        raise NameFormatError("this name takes no r-component ('?+...')", position)
    if urn.q is not None:
        if not but_q:
            raise NameFormatError("this name takes no q-component ('?=...')", position)
        position += len(f"?={urn.q}")
    if urn.f is not None:
        raise NameFormatError("this name takes no f-component ('#...')", position)


def _nss_position(urn: URN) -> int:
    return len(f"urn:{urn.nid}:")
