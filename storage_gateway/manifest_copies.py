"""What a manifest copy says, and under which name it lies in a store. Pure.

From the copies a lost catalog is made again, so they hold all of a record that can be held: of an
object its head and how its leaves are checked, of a session its parties, of an erased object that
it was erased. What is claimed of an object changes more often than its manifest, and has copies of
its own. A copy is of one generation of its record and is never changed; the next generation has a
name of its own.
"""

import re
from dataclasses import dataclass

import msgspec

from crypto import CopySealer

OBJECT = "object"
SESSION = "session"
RETENTION = "retention"
FOLDERS = {OBJECT: "manifests", SESSION: "sessions", RETENTION: "retentions"}
COPY_BYTES_MAX = 64 << 20
"""Of the largest object it is a tenth of that."""
_NAME = re.compile(r"(manifests|sessions|retentions)/([a-z2-7]{32})/([1-9][0-9]{0,8})", re.ASCII)


class CopyUnreadable(ValueError):
    """The content of a copy is not what this version writes."""


class SegmentCopy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A segment of a payload: its size and what its leaves are checked by, one after the other."""

    size: int
    leaf_digests: bytes
    tag_key: bytes
    leaf_tags: bytes


class PartyCopy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom a head is wrapped for."""

    role: str
    miner: str | None
    version: int
    recipient: str


class TermsCopy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Terms of a policy, as somebody relied on them; None is for ever."""

    policy: str
    default_s: int | None
    longest_s: int | None
    grace_s: int
    mode: str


class LeaseCopy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A lease of an object."""

    holder: str
    until_ms: int
    renewed_ms: int


class HoldCopy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A hold, also one that was released."""

    hold_id: str
    who: str
    why: str
    since_ms: int
    released_ms: int | None
    released_by: str | None
    release_why: str | None


class ObjectCopy(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag=OBJECT
):
    """An object's manifest; of an erased one the tombstone: without head and segments.

    ``keep_until_ms`` is the end that its lifetime had at the commit. What has no end, and no terms,
    has the copy that it had before there were any.
    """

    object_id: str
    generation: int
    session_id: str
    task_id: str
    direction: str
    miner: str | None
    payload_id: str
    cid: str
    size: int
    payload_size: int
    sealed_size: int
    key_class: str
    wrapped_for: tuple[PartyCopy, ...]
    file_key_print: bytes
    sequence: int
    created_ms: int
    erased_ms: int | None
    head: bytes | None
    segments: tuple[SegmentCopy, ...]
    terms: TermsCopy | None = None
    keep_until_ms: int | None = None

    @property
    def kind(self) -> str:
        """What it is a copy of."""
        return OBJECT

    @property
    def record_id(self) -> str:
        """The id of the record."""
        return self.object_id


class MemberCopy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A party of a session."""

    role: str
    miner: str | None
    created_ms: int
    removed_ms: int | None = None


class KeyCopy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key version of a party."""

    role: str
    miner: str | None
    version: int
    recipient: str
    key_class: str
    state: str
    created_ms: int
    proven: bool = False
    changed_ms: int = 0


class SessionCopy(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag=SESSION
):
    """A session with its parties and their keys. Tokens are in no copy: they are issued again."""

    session_id: str
    generation: int
    custody: str
    key_class: str
    created_ms: int
    backends: tuple[str, ...] | None
    write_quorum: int | None
    parties: tuple[MemberCopy, ...]
    keys: tuple[KeyCopy, ...]
    terms: TermsCopy | None = None
    holds: tuple[HoldCopy, ...] = ()

    @property
    def kind(self) -> str:
        """What it is a copy of."""
        return SESSION

    @property
    def record_id(self) -> str:
        """The id of the record."""
        return self.session_id


class RetentionCopy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=RETENTION):
    """What is claimed of an object since its commit; of an erased one what is left of that."""

    object_id: str
    generation: int
    keep_until_ms: int | None
    leases: tuple[LeaseCopy, ...]
    holds: tuple[HoldCopy, ...]

    @property
    def kind(self) -> str:
        """What it is a copy of."""
        return RETENTION

    @property
    def record_id(self) -> str:
        """The id of the record."""
        return self.object_id


Copy = ObjectCopy | SessionCopy | RetentionCopy

_DECODER: msgspec.json.Decoder[Copy] = msgspec.json.Decoder(Copy)


def encode_copy(copy: Copy) -> bytes:
    """Return the content of a copy as JSON, the same bytes each time."""
    return msgspec.json.encode(copy)


def decode_copy(content: bytes) -> Copy:
    """Return what the content says. To be called only of what was signed.

    Raises:
        CopyUnreadable: a version of the program that this one does not know wrote it.

    """
    try:
        return _DECODER.decode(content)
    except msgspec.MsgspecError as error:
        raise CopyUnreadable(str(error)) from None


@dataclass(frozen=True, slots=True)
class CopyName:
    """The name of a copy: ``name`` stands for the record, as stores see it."""

    kind: str
    name: str
    generation: int

    def below(self, prefix: str) -> str:
        """Return the key in a store, under a namespace's prefix, which ends in ``/``."""
        return f"{folder_of(prefix, self.kind, self.name)}{self.generation}"


def name_of(copy: Copy, sealer: CopySealer) -> CopyName:
    """Return the name of a copy: a session's hides its id, which whoever opened it chose."""
    name = sealer.hidden_name(copy.record_id) if copy.kind == SESSION else copy.record_id
    return CopyName(copy.kind, name, copy.generation)


def folder_of(prefix: str, kind: str, name: str) -> str:
    """Return the prefix of all generations of one record."""
    return f"{prefix}{FOLDERS[kind]}/{name}/"


def parse_copy_name(prefix: str, key: str) -> CopyName | None:
    """Return what a key under a namespace's prefix names; None: it is no copy's."""
    found = _NAME.fullmatch(key.removeprefix(prefix)) if key.startswith(prefix) else None
    if found is None:
        return None
    kind = next(kind for kind, folder in FOLDERS.items() if folder == found[1])
    return CopyName(kind, found[2], int(found[3]))
