"""``forged-manifest-copy``: a store shows copies that the deployment never made, or not there."""

from collections.abc import Mapping
from dataclasses import dataclass

from crypto import CopySealer, Identity, X25519Identity
from storage_gateway.errors import BlobMissing
from storage_gateway.ids import new_random_id
from storage_gateway.manifest_copies import OBJECT, SESSION, CopyName
from storage_gateway.rebuild import RebuildReport
from storage_gateway.records import ObjectState
from storage_gateway.stress.contract import Case, bytes_of_bodies
from storage_gateway.stress.erasing import erase_all
from storage_gateway.stress.parameters import Parameters
from storage_gateway.stress.rebuilding import (
    COPIED,
    Stored,
    bring_copies,
    facts,
    lose_catalog,
    named_stores,
    opening,
    rebuild,
    require_as_before,
    store_some,
)
from storage_gateway.stress.run_stores import RunStore
from storage_gateway.stress.tampering import manifest_of, object_id_of, other_bytes
from storage_gateway.stress.trial import Trial
from storage_gateway.stress.world import GatewayLike

FORGED_MAX = 6
"""Objects of which copies are forged."""
NEWER = 9
"""Generations of forged copies: higher than any that there is."""
ERASED_S_MAX = 30.0


class ForgedManifestCopy(Parameters, kw_only=True, frozen=True):
    """Parameters of ``forged-manifest-copy``."""


@dataclass(frozen=True, slots=True)
class _Forger:
    """Who writes to a store, knows whom copies are sealed to, and has seen what is in them."""

    sealer: CopySealer
    recovery: Identity
    prefix: str

    def name(self, urn: str, generation: int) -> str:
        """Return the key of a copy."""
        return CopyName(OBJECT, object_id_of(urn), generation).below(self.prefix)

    def forged(self, urn: str, true: bytes, other: bytes) -> Mapping[str, bytes]:
        """Return what is made of a true copy, and of one of another object, by the keys."""
        content = self.sealer.open(self.name(urn, 1), true, self.recovery)
        recipient = self.recovery.recipient()
        stranger = CopySealer(X25519Identity.generate(), self.sealer.deployment)
        elsewhere = CopySealer(self.sealer.identity, new_random_id())
        keys = [self.name(urn, generation) for generation in range(NEWER, NEWER + 5)]
        newer = content.replace(b'"generation":1', b'"generation":%d' % NEWER)
        return {
            keys[0]: stranger.seal(keys[0], newer, recipient),
            keys[1]: elsewhere.seal(keys[1], content, recipient),
            keys[2]: true,
            keys[3]: other,
            keys[4]: other_bytes(keys[4], len(true)),
        }

    def session(self) -> Mapping[str, bytes]:
        """Return a copy of a session that nobody opened, by its key."""
        stranger = CopySealer(X25519Identity.generate(), self.sealer.deployment)
        key = CopyName(SESSION, stranger.hidden_name("forged"), 1).below(self.prefix)
        return {key: stranger.seal(key, b"{}", self.recovery.recipient())}


async def run(trial: Trial, _parameters: ForgedManifestCopy) -> None:
    """Plant copies in one store, lose the catalog, and make it again from all of them."""
    stored, ill = Stored(), named_stores(trial)[0]
    forger = _Forger(*opening(trial.world), trial.world.prefix)
    async with trial.world.gateway(**COPIED) as gateway:
        customer = trial.customer(gateway, await trial.member("stress"))
        urns = await store_some(trial, customer, stored)
        await bring_copies(trial, gateway)
        true = {urn: await _read(ill, forger.name(urn, 1)) for urn in urns}
        await erase_all(trial, customer, urns[:1], "what is erased is not read again")
        await _wait_erased(trial, gateway, urns[0])
    before = await facts(trial.world)
    trial.begin_faults()
    planted = dict(forger.session())
    chosen = urns[:FORGED_MAX]
    for urn, other in zip(chosen, [*chosen[1:], chosen[0]], strict=True):
        planted |= forger.forged(urn, true[urn], true[other])
    for key, data in planted.items():
        await ill.store.put(key, data)
    # And what it may have kept: a true copy of what was erased since, in its tombstone's place.
    await ill.store.delete(forger.name(urns[0], 2))
    await ill.store.put(forger.name(urns[0], 1), true[urns[0]])
    await lose_catalog(trial.world)
    _judge_report(trial, await rebuild(trial, named_stores(trial), accept_refused=True), planted)
    trial.verdict.require(
        "all that comes back is what was there",
        met=before == await facts(trial.world),
        evidence=f"of {len(before)} objects",
    )
    async with trial.world.gateway(**COPIED) as gateway:
        await require_as_before(trial, gateway, stored)
        await bring_copies(trial, gateway)
        await _wait_erased(trial, gateway, urns[0])
    await _require_head_gone(trial, forger, urns[0])
    for key in planted:  # as an operator does who was told of them
        await ill.store.delete(key)


async def _read(store: RunStore, key: str) -> bytes:
    return await store.store.get(key, 0, (await store.store.stat(key)).size)


async def _wait_erased(trial: Trial, gateway: GatewayLike, urn: str) -> None:
    """Wait until every store was seen without anything of an object."""

    async def state() -> ObjectState:
        return (await manifest_of(trial.world, urn)).state

    async def is_decided() -> bool:
        await gateway.upkeep.outbox.run_once(at_once=True)
        return await state() is not ObjectState.ERASING

    await trial.eventually(is_decided, within_s=ERASED_S_MAX)
    found = await state()
    trial.verdict.require(
        "what is erased comes to be so everywhere",
        met=found is ObjectState.ERASED,
        evidence=f"{found.value} within {ERASED_S_MAX:g} s",
    )


async def _require_head_gone(trial: Trial, forger: _Forger, urn: str) -> None:
    """Require that no store has the copy with the head of an erased object any more."""
    left = []
    for each in named_stores(trial):
        try:
            await each.store.stat(forger.name(urn, 1))
        except BlobMissing:
            continue
        left.append(each.name)
    trial.require_all("a copy of what was erased is removed again", left)


def _judge_report(trial: Trial, report: RebuildReport, planted: Mapping[str, bytes]) -> None:
    told = {finding.where.partition(" in store ")[0] for finding in report.findings}
    trial.verdict.require(
        "each forged copy is refused and told, and no other one",
        met=report.refused == len(planted) > 0 and told == set(planted),
        evidence=f"{len(planted)} planted, {report.refused} refused, {len(told)} told",
    )


CASE = Case(
    name="forged-manifest-copy",
    edge_case="A store shows manifest copies that the deployment never made, or not under that"
    " name, or that it had replaced.",
    fault="One store of two is given copies of higher generations: signed by a stranger, of another"
    " deployment, moved from an older generation and from another object, and bytes that are none;"
    " a session that nobody opened; and in the place of a tombstone what was there before it. Then"
    " the catalog is exchanged for an empty one.",
    load="Clients that upload, and erase; all is read, and sent again, afterwards.",
    passes_when="Rebuild refuses and tells each forged copy; what was answered is read byte for"
    " byte, what was erased stays erased, and its old copy is removed.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=ForgedManifestCopy,
    bytes_min=bytes_of_bodies(2),
    expected_s=10.0,
    stores=2,
    quorum=2,
    run=run,
)
