"""What a machine of keys is held against: versions, and heads that are wrapped for them."""

from dataclasses import dataclass, field

from crypto import X25519Identity
from storage_gateway.catalog.objects import (
    Ownership,
)
from storage_gateway.catalog.registry import ROUTER_ITSELF, Holder
from storage_gateway.key_states import Dwell
from storage_gateway.records import (
    MINER,
    USER,
    Party,
    Slot,
)

SESSION, INSTANCE = "101", "machine"
MINERS = tuple(f"0x{digit * 40}" for digit in "ab")
PARTIES = (
    ROUTER_ITSELF,
    Holder(SESSION, USER, None),
    *(Holder(SESSION, MINER, miner) for miner in MINERS),
)
DWELL = Dwell(retiring_s=100, disabled_s=1000)
FOLLOWS = {("retiring", "disabled"), ("disabled", "retiring"), ("disabled", "destroyed")}


@dataclass(slots=True)
class Key:
    """A version in the model."""

    identity: X25519Identity = field(repr=False)
    state: str
    since_s: float

    @property
    def recipient(self) -> str:
        return str(self.identity.recipient())


@dataclass(slots=True)
class Head:
    """An object, or an upload under way, in the model: the versions that it is wrapped for."""

    owner: Ownership
    slot: Slot
    parties: tuple[Party, ...]
    state: str = "open"

    def is_for(self, holder: Holder, version: int) -> bool:
        if self.state not in ("open", "committed"):
            return False
        places = ((party.role, party.miner, party.version) for party in self.parties)
        return (holder.role, holder.miner, version) in places
