"""What a process does by itself: settling, clearing away, mending, reading through, collecting,
sweeping, completing.
"""

from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any

from crypto import CopySealer, recovery_identity

from .backends import Member
from .catalog import Catalog
from .collect import Collect, CollectReport
from .config import Config
from .custody import recipient_of_copies
from .errors import InvalidField, NotFound
from .high_water import HighWater
from .kept_versions import KeptVersions
from .leftovers import Leftovers, LeftoversReport
from .old_copies import OldCopies
from .outbox import Outbox, OutboxReport
from .parts import Parts
from .rebuild import Rebuild, RebuildReport
from .rebuild_pass import RebuildPass
from .records import Wanted
from .recovery import Recovery, RecoveryReport
from .repair import Repair, RepairReport
from .roots import Roots
from .scrub import Scrub, ScrubReport
from .settle import Settler
from .sweep import EraseExpired, Sweep, SweepReport

PASSES = ("recovery", "repair", "scrub", "gc", "sweep", "leftovers", "copies", "rebuild")
CONFIRMED = ("gc", "sweep")
PassReport = (
    RecoveryReport
    | RepairReport
    | ScrubReport
    | CollectReport
    | SweepReport
    | LeftoversReport
    | OutboxReport
    | RebuildReport
)


class NoSuchPass(NotFound):
    """No pass has that name."""

    code = "no_such_pass"
    title = "No such pass"
    remedy = "Name one of those in the detail."


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """The passes of one gateway process."""

    recovery: Recovery
    repair: Repair
    scrub: Scrub
    collect: Collect
    sweep: Sweep
    leftovers: Leftovers
    roots: Roots
    outbox: Outbox
    high_water: HighWater
    rebuild: RebuildPass | None
    """None where the identity that opens copies is kept elsewhere."""

    async def run_pass(self, name: str, within_s: float, confirm: int = 0) -> PassReport:
        """Run one pass by hand, for so long at most, but for recovery, which runs to its end.
        ``confirm`` is for those that stop where much would go at once: that so much may, payloads
        of a store for gc, objects for sweep.

        Raises:
            NoSuchPass, InvalidField
            CatalogUnavailable

        """
        if confirm and name not in CONFIRMED:
            raise InvalidField("only gc and sweep wait for a word", field="confirm")
        runs: Mapping[str, Callable[[], Awaitable[PassReport]]] = {
            "recovery": self.recovery.run_once,
            "repair": partial(self.repair.run_once, within_s=within_s, at_once=True),
            "scrub": partial(self.scrub.run_once, within_s=within_s),
            "gc": partial(self.collect.run_once, within_s=within_s, confirm=confirm),
            "sweep": partial(self.sweep.run_once, within_s=within_s, confirm=confirm),
            "leftovers": partial(self.leftovers.run_once, within_s=within_s),
            "copies": partial(self.outbox.run_once, within_s=within_s, at_once=True),
            "rebuild": partial(self._run_rebuild, within_s),
        }
        if name not in runs:
            raise NoSuchPass(f"there are: {', '.join(PASSES)}")
        return await runs[name]()

    async def _run_rebuild(self, within_s: float) -> RebuildReport:
        if self.rebuild is None:
            raise InvalidField(
                "recovery_recipient is set, so this process cannot open the copies: stop the"
                " gateways and run storage-gateway catalog rebuild --recovery-identity FILE",
                field="pass",
            )
        return await self.rebuild.run_once(within_s=within_s)

    def loops(self, config: Config) -> Iterator[Coroutine[Any, Any, None]]:
        """Yield what runs them, each until it is cancelled."""
        yield self.recovery.run_forever(config.recovery_interval_s)
        yield self.repair.run_forever(config.repair_interval_s)
        yield self.scrub.run_forever(config.scrub_interval_s)
        yield self.collect.run_forever()
        yield self.sweep.run_forever()
        yield self.leftovers.run_forever()
        yield self.roots.run_forever(config.recovery_interval_s)
        yield self.outbox.run_forever(config.recovery_interval_s)
        yield self.high_water.run_forever()


def _members_of(parts: Parts) -> Sequence[Member]:
    if parts.replicas is not None:
        return parts.replicas.members
    return parts.members or (Member(parts.store, domain=parts.store.name),)


def named_members(parts: Parts) -> Sequence[Member]:
    """Return the stores that have names of their own, and forget what is deleted: not nodes."""
    nodes = {node.name for node in parts.nodes}
    return [member for member in _members_of(parts) if member.name not in nodes]


def old_copies_of(parts: Parts) -> OldCopies | None:
    """Return the manifest copies of the stores; None: there are none that may hold any."""
    if not named_members(parts):
        return None
    return OldCopies(parts.catalog, parts.store, prefix=parts.prefix)


def _scrub_of(config: Config, parts: Parts, threads: Executor) -> Scrub:
    return Scrub(
        catalog=parts.catalog,
        members=_members_of(parts),
        threads=threads,
        payloads=parts.payloads,
        bytes_per_s=config.scrub_bytes_per_s,
        round_s=config.scrub_round_s,
    )


def _sweep_of(
    config: Config, catalog: Catalog, erase_expired: EraseExpired, high_water: HighWater
) -> Sweep:
    return Sweep(
        catalog=catalog,
        erase_expired=erase_expired,
        share=config.sweep_share,
        leap_s=config.sweep_leap_s,
        interval_s=config.sweep_interval_s,
        check_current=high_water.check,
    )


def _leftovers_of(config: Config, parts: Parts, threads: Executor) -> Leftovers:
    return Leftovers(
        catalog=parts.catalog,
        members=_members_of(parts),
        threads=threads,
        prefix=parts.prefix,
        deployment_id=parts.deployment_id,
        interval_s=config.leftovers_interval_s,
    )


def _rebuild_pass(config: Config, parts: Parts, sealer: CopySealer) -> RebuildPass | None:
    if config.recovery_recipient is not None:
        return None
    named = named_members(parts)

    def make() -> Rebuild:
        return Rebuild(
            catalog=parts.catalog,
            stores=[member.store for member in named],
            nodes=[node.name for node in parts.nodes],
            sealer=sealer,
            recovery=recovery_identity(parts.copies_identity),
            prefix=parts.prefix,
            away=[member.name for member in named if not member.ready],
        )

    return RebuildPass(parts.catalog, make)


def make_upkeep(
    config: Config,
    parts: Parts,
    settler: Settler,
    *,
    erase_expired: EraseExpired,
    threads: Executor,
    check_room: Callable[[Wanted], None],
    hold_lease: Callable[[], Awaitable[None]],
) -> Upkeep:
    """Put the passes together; nothing runs yet. ``erase_expired`` is that of `Erasure`;
    ``check_room`` raises StorageFull; ``hold_lease`` is `Instance.hold`.
    """
    catalog, payloads = parts.catalog, parts.payloads
    with_names = named_members(parts)
    sealer = CopySealer(parts.copies_identity, parts.deployment_id)
    high_water = HighWater(catalog, with_names, sealer=sealer, prefix=parts.prefix)
    return Upkeep(
        recovery=Recovery(
            catalog=catalog,
            store=parts.store,
            settler=settler,
            payloads=payloads,
            horizon_s=config.late_write_horizon_s,
            decide_within_s=config.decide_within_s,
            copies=old_copies_of(parts),
            versions=KeptVersions(_members_of(parts)),
        ),
        repair=Repair(
            catalog=catalog,
            store=parts.replicas,
            threads=threads,
            payloads=payloads,
            spool=config.data_dir,
            check_room=lambda store: check_room(Wanted((store,), 1)),
            settled_s=config.repair_settled_s,
        ),
        scrub=_scrub_of(config, parts, threads),
        collect=Collect(
            catalog=catalog,
            members=_members_of(parts),
            payloads=payloads,
            marker=parts.marker,
            dwell_s=config.gc_dwell_s,
            interval_s=config.gc_interval_s,
            check_current=high_water.check,
        ),
        sweep=_sweep_of(config, catalog, erase_expired, high_water),
        leftovers=_leftovers_of(config, parts, threads),
        roots=Roots(catalog, parts.nodes, payloads=payloads),
        outbox=Outbox(
            catalog=catalog,
            members=with_names,
            nodes=[node.name for node in parts.nodes],
            sealer=sealer,
            recipient=recipient_of_copies(config, parts.copies_identity),
            prefix=parts.prefix,
            threads=threads,
            domains=config.copies - 1,
            hold_lease=hold_lease,
            settled_s=config.instance_lease_s,
        ),
        high_water=high_water,
        rebuild=_rebuild_pass(config, parts, sealer),
    )
