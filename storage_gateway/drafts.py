"""What an upload is before it is an object: names and parties, a payload, at last a manifest."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Connection

from crypto import (
    Context,
    Recipient,
    opened_size,
    parse_recipient,
)
from urn import CID, DAGBuilder

from .backends import KeyedStore
from .catalog import Unit
from .errors import NoKeyOfClass
from .late import Late
from .leaves import Part
from .memory import Account
from .placing import Produce
from .records import ROUTER, ROUTER_CUSTODY, Manifest, ObjectState, Party, Slot, Wanted


def do_nothing(_connection: Connection) -> None:
    """Do nothing besides, in a transaction."""


class MadeHead(Protocol):
    """A head, made here or elsewhere, and what its file key is told from others by."""

    @property
    def head(self) -> bytes:
        """Header and nonce."""

    @property
    def file_key_print(self) -> bytes:
        """32 bytes."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What is fixed before the first byte of a payload: names, parties, context."""

    object_id: str
    payload_id: str
    slot: Slot
    key_class: str
    parties: tuple[Party, ...]
    wanted: Wanted
    store: KeyedStore
    """What is wanted."""
    custody: str = ROUTER_CUSTODY
    on_commit: Unit[None] = do_nothing
    """To be done in the transaction that commits it, before that."""
    replaces: Manifest | None = None
    """What it takes the place of: the object has its slot, and another payload."""
    grace_s: float = 0.0
    """How long that payload may be read then."""
    lifetime_s: int | None = None
    """How long it is to live, from its commit; None: as the terms of its session say."""

    @property
    def router(self) -> str:
        """The recipient of the router's version that it is sealed to."""
        for party in self.parties:
            if party.role == ROUTER:
                return party.recipient
        raise NoKeyOfClass(f"the router has no {self.key_class} key", parties=[ROUTER])

    def context(self) -> Context:
        """Return what its head's context stanza is made over."""
        return self.slot.context(self.object_id, self.payload_id, self.key_class)


@dataclass(frozen=True, slots=True)
class Payload:
    """What a payload is made of: parts of a body, what turns them into sealed bytes, the head that
    they belong to, made when it is first asked for; the memory; and who is told when it is late.
    """

    parts: AsyncGenerator[Part]
    produce: Callable[[Part], Produce]
    head: Callable[[], MadeHead]
    memory: Account
    late: Late | None


def recipients_of(parties: tuple[Party, ...]) -> list[Recipient]:
    """Return the public keys of parties."""
    return [parse_recipient(party.recipient) for party in parties]


def manifest_of(
    draft: Draft,
    head: MadeHead,
    leaves: list[tuple[bytes, int]],
    on_node: Callable[[tuple[CID, bytes]], None] = lambda _node: None,
) -> Manifest:
    """Return the manifest of a payload that is placed; its commit gives it sequence and time.

    ``on_node`` is told of each node above the leaves, the root last.
    """
    dag = DAGBuilder(on_node=lambda *node: on_node(node))
    for digest, size in leaves:
        dag.add_leaf(digest, size)
    payload_size = sum(size for _, size in leaves)
    return Manifest(
        object_id=draft.object_id,
        payload_id=draft.payload_id,
        slot=draft.slot,
        state=ObjectState.COMMITTED,
        generation=1,
        key_class=draft.key_class,
        cid=str(dag.finish()),
        size=opened_size(payload_size),
        payload_size=payload_size,
        sealed_size=len(head.head) + payload_size,
        wrapped_for=draft.parties,
        file_key_print=head.file_key_print,
        head=head.head,
        sequence=0,
        created_ms=0,
        backends=draft.wanted.backends,
        custody=draft.custody,
    )
