"""What the gateway knows about sessions and objects, as frozen records. Pure."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

from crypto import Context, Secret
from retention import FOREVER, Policy

USER = "user"
ROUTER = "router"
MINER = "miner"

ROUTER_CUSTODY = "router"
"""Of a session: the gateway is the router, and seals and opens."""
BLIND = "blind"
"""Of a session: its parties seal and open, and the gateway has no identity that opens anything."""

INPUT = "input"
OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class Party:
    """One who may open objects of a session, at one key version."""

    role: str
    miner: str | None
    version: int
    recipient: str

    def as_json(self) -> dict[str, str | int]:
        """Return the form that manifests carry."""
        members: dict[str, str | int] = {"role": self.role}
        if self.miner is not None:
            members["miner"] = self.miner
        return members | {"version": self.version, "recipient": self.recipient}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a session wants of the stores; what it leaves open is as the deployment has it."""

    backends: tuple[str, ...] | None = None
    """The stores that its payloads go to."""
    write_quorum: int | None = None
    """Failure domains that must have a payload before it counts as stored."""


ALL_OPEN = Wanted()


@dataclass(frozen=True, slots=True)
class Session:
    """A session, its parties, what it wants of the stores, and the terms of what comes later."""

    session_id: str
    custody: str
    key_class: str
    created_ms: int
    parties: tuple[Party, ...]
    wanted: Wanted = ALL_OPEN
    policy: Policy = FOREVER
    held: bool = False
    """Nothing in it is erased: a hold is on it as a whole."""

    def party(self, role: str, miner: str | None = None) -> Party | None:
        """Return the party in that role, if there is one."""
        return next((p for p in self.parties if p.role == role and p.miner == miner), None)

    def recipients_of(self, direction: str, miner: str | None) -> tuple[Party, ...]:
        """Return who may open an object: an output is never for the other miners."""
        return tuple(
            p for p in self.parties if p.role != MINER or direction == INPUT or p.miner == miner
        )

    def at_present(self, wrapped_for: Sequence[Party]) -> tuple[Party, ...]:
        """Return the same parties at their active key versions, in their order.

        Who has none any more has no place; who came later has none either.
        """
        active = {(party.role, party.miner): party for party in self.parties}
        places = [(party.role, party.miner) for party in wrapped_for]
        return tuple(active[place] for place in places if place in active)


@dataclass(frozen=True, slots=True)
class Slot:
    """Where in a session an object belongs; at most one object lives in a slot."""

    session_id: str
    task_id: str
    direction: str
    miner: str | None

    def context(self, object_id: str, payload_id: str, key_class: str) -> Context:
        """Return what the context stanza of an object in this slot is made over."""
        return Context(
            object_id=object_id,
            payload_id=payload_id,
            session_id=self.session_id,
            task_id=self.task_id,
            direction=self.direction,
            miner=self.miner,
            key_class=key_class,
        )


class ObjectState(enum.StrEnum):
    """What became of an object after its commit."""

    COMMITTED = "committed"
    ERASING = "erasing"
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The record behind a URN.

    ``size`` counts plaintext bytes, ``payload_size`` the sealed chunks, ``sealed_size`` the whole
    age file (head and payload). ``head`` is None once the object is erased; ``sequence`` is the
    order of commits within the session, from 1; ``backends`` are the stores that the session wants
    its payloads in, None where that is left to the deployment; ``custody`` is the session's.
    ``expires_ms`` is when the longest claim on it ends, None for never; once ``expired_ms`` is set
    it is not read any more, and can be had back until ``erase_after_ms``.
    """

    object_id: str
    payload_id: str
    slot: Slot
    state: ObjectState
    generation: int
    key_class: str
    cid: str
    size: int
    payload_size: int
    sealed_size: int
    wrapped_for: tuple[Party, ...]
    file_key_print: bytes = field(repr=False)
    head: bytes | None = field(repr=False)
    sequence: int
    created_ms: int
    backends: tuple[str, ...] | None = None
    custody: str = ROUTER_CUSTODY
    expires_ms: int | None = None
    expired_ms: int | None = None
    erase_after_ms: int | None = None

    def context(self) -> Context:
        """Return what the head's context stanza must be made over."""
        return self.slot.context(self.object_id, self.payload_id, self.key_class)


@dataclass(frozen=True, slots=True)
class Segment:
    """One stored piece of a payload: ``size`` sealed bytes, and what its leaves are checked by.

    ``leaf_digests`` are their SHA-256, which the CID is made of; ``leaf_tags`` their tags under
    ``tag_key``, which every read compares. ``stores`` are those that made it durable, as told on
    its way in.
    """

    index: int
    size: int
    leaf_digests: tuple[bytes, ...]
    tag_key: Secret
    leaf_tags: tuple[bytes, ...]
    stores: tuple[str, ...] = ()


class TokenKind(enum.StrEnum):
    """Whom a bearer token stands for."""

    OPERATOR = "operator"
    USER = "user"
    MINER = "miner"
    ROUTER = "router"
    """The router of a session of blind custody; elsewhere that is the gateway."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request, as its token says."""

    kind: TokenKind
    session_id: str | None
    miner: str | None

    def in_session(self, session_id: str) -> bool:
        """Tell whether the token belongs to that session (the operator's belongs to all)."""
        return self.kind is TokenKind.OPERATOR or self.session_id == session_id
