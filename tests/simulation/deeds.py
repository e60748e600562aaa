"""What the clients of a history did and were answered: all that the checks know of it."""

import enum
import math
from dataclasses import dataclass, field

from .deployment import Member

GONE = frozenset({"erasing", "erased"})


class Kind(enum.StrEnum):
    """What was asked for."""

    OPEN = "open"
    UPLOAD = "upload"
    SEALED_UPLOAD = "sealed upload"
    FETCH = "fetch"
    SEALED_FETCH = "sealed fetch"
    MANIFEST = "manifest"
    LIST = "list"
    ERASE = "erase"


@dataclass(frozen=True, slots=True, order=True)
class SlotKey:
    """A slot, as the clients name it; an input has no miner."""

    session_id: str
    task_id: str
    direction: str
    miner: str

    def __str__(self) -> str:
        miner = f" of {self.miner[-2:]}" if self.miner else ""
        return f"{self.session_id}/{self.task_id}/{self.direction}{miner}"


@dataclass(slots=True, eq=False)
class Deed:
    """One request and what came of it."""

    number: int
    kind: Kind
    member: Member
    began: float
    slot: SlotKey | None = None
    """Where an upload goes."""
    urn: str | None = None
    """What is asked about."""
    content: bytes = field(default=b"", repr=False)
    """The plaintext that is uploaded, or that was read."""
    after_heal: bool = False
    ended: float = math.inf
    status: int = 0
    """Of the answer; 0 when none came whole."""
    code: str = ""
    answered_urn: str | None = None
    answered_slot: SlotKey | None = None
    state: str = ""
    """Of the object, as the answer tells it."""
    listing: tuple[str, ...] = ()
    whole_listing: bool = False

    @property
    def is_upload(self) -> bool:
        """Whether it may have made an object."""
        return self.kind in (Kind.UPLOAD, Kind.SEALED_UPLOAD)

    @property
    def is_fetch(self) -> bool:
        """Whether it reads content."""
        return self.kind in (Kind.FETCH, Kind.SEALED_FETCH)

    @property
    def tells_gone(self) -> bool:
        """Whether the answer says that the object is erased."""
        erased = self.kind is Kind.ERASE and self.status in (200, 202)
        return erased or (self.is_fetch and self.status == 410) or self.state in GONE

    @property
    def unclear(self) -> bool:
        """Whether the caller cannot know if it took effect."""
        return self.status == 0 or self.status >= 500

    def __str__(self) -> str:
        about = self.slot or (self.urn or "")[-8:]
        size = f" {len(self.content)} bytes" if self.is_upload else ""
        return f"#{self.number} {self.kind} {about}{size}"

    def outcome(self) -> str:
        """Return the answer in words."""
        told = f" {self.answered_urn[-8:]}" if self.answered_urn else ""
        return f"{self.status or 'no answer'} {self.code}{told}".strip()
