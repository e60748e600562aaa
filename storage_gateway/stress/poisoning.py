"""Damaging heads in a run's catalog, below its gateways, and putting the right ones back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, update

from crypto import NONCE_SIZE
from storage_gateway.catalog.objects import load_manifest
from storage_gateway.catalog.tables import objects
from storage_gateway.chance import Chance
from storage_gateway.records import Manifest

from .tampering import flipped, object_id_of
from .world import World


@dataclass(frozen=True, slots=True)
class Poisoned:
    """Objects with a wrong head, by their URNs."""

    right: dict[str, bytes]
    wrong: dict[str, bytes]

    async def left(self, world: World) -> set[str]:
        """Return the URNs of those whose wrong head lies there still."""
        now = await world.catalog.inner.read(
            lambda c: {urn: load_manifest(c, object_id_of(urn)).head for urn in self.wrong}
        )
        return {urn for urn, head in now.items() if head == self.wrong[urn]}

    async def put_back(self, world: World) -> None:
        """Put the right heads in the place of the wrong ones that lie there still."""
        left = await self.left(world)
        heads = {urn: head for urn, head in self.right.items() if urn in left}
        await world.catalog.inner.run(lambda c: _put(c, heads))


async def poison(world: World, urns: Sequence[str], *, active: str, chance: Chance) -> Poisoned:
    """Have wrong heads lie where those of objects were, of all that are not wrapped for the
    recipient ``active`` yet, in one transaction: of three, one of which a bit turns over, one that
    is cut, and one that is another object's.
    """

    def unit(connection: Connection) -> Poisoned:
        there = {urn: load_manifest(connection, object_id_of(urn)) for urn in urns}
        right = {u: each.head or b"" for u, each in there.items() if not _is_for(each, active)}
        made = Poisoned(right, _wrong(right, chance))
        _put(connection, made.wrong)
        return made

    return await world.catalog.inner.run(unit)


def _is_for(manifest: Manifest, recipient: str) -> bool:
    return any(party.recipient == recipient for party in manifest.wrapped_for)


def _wrong(right: Mapping[str, bytes], chance: Chance) -> dict[str, bytes]:
    heads = list(right.values())
    wrong: dict[str, bytes] = {}
    for number, (urn, head) in enumerate(right.items()):
        # Not in the nonce: no head shows that it has another one, its payload does.
        at = chance.below(len(head) - NONCE_SIZE)
        damages = flipped(at)(head), head[:at], heads[(number + 1) % len(heads)]
        wrong[urn] = damages[number % len(damages)] or b""
    return wrong


def _put(connection: Connection, heads: Mapping[str, bytes]) -> None:
    for urn, head in heads.items():
        here = objects.c.object_id == object_id_of(urn)
        connection.execute(update(objects).where(here).values(head=head))
