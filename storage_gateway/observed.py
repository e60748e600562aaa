"""Which parts of a gateway are asked how they are when somebody reads its metrics."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict

from .backends import Member
from .backends.ipfs import IPFSStore
from .backends.ipfs_gateway import IPFSGateway
from .backends.s3 import S3Store
from .collect import Collect, CollectReport
from .keyring import KeysState
from .leftovers import Leftovers, LeftoversReport
from .memory import Budget
from .metrics import Labels, Metrics
from .outbox import OutboxReport
from .recovery import RecoveryReport
from .repair import RepairReport
from .scrub import ScrubReport
from .sweep import Sweep, SweepReport
from .upkeep import Upkeep


def observe_gateway(
    metrics: Metrics,
    *,
    members: Sequence[Member],
    gateways: Sequence[IPFSGateway],
    memory: Mapping[str, Budget],
    upkeep: Upkeep,
    keys: Callable[[], KeysState],
    log_kept_by: Callable[[], Collection[str]],
) -> None:
    """Have ``metrics`` ask these parts; ``memory`` are the budgets by what they are for."""
    metrics.gauge(
        "store_ready",
        "1: it was seen to be this deployment's since the start",
        ("store",),
        lambda: [((member.name,), float(member.ready)) for member in members],
    )
    metrics.gauge(
        "store_resting",
        "1: it failed too often lately to be asked, unless no other is left",
        ("store", "operation"),
        lambda: _resting(members, gateways),
    )
    metrics.gauge(
        "store_lagging",
        "Blobs that a quorum has and it is still taking",
        ("store",),
        lambda: [((member.name,), member.lagging) for member in members],
    )
    metrics.counter(
        "store_hedged",
        "Reads of it that took so long that another store was asked as well",
        ("store",),
        lambda: [((member.name,), member.hedged) for member in members],
    )
    _observe_buckets(metrics, [m.bare for m in members if isinstance(m.bare, S3Store)])
    _observe_nodes(metrics, [m.bare for m in members if isinstance(m.bare, IPFSStore)])
    metrics.gauge(
        "memory_bytes",
        "What transfers hold of their budgets",
        ("budget",),
        lambda: [((name,), budget.taken) for name, budget in memory.items()],
    )
    _observe_log(metrics, log_kept_by)
    _observe_keys(metrics, keys)
    _observe_passes(metrics, upkeep)
    _observe_collect(metrics, upkeep.collect)
    _observe_sweep(metrics, upkeep.sweep)
    _observe_leftovers(metrics, upkeep.leftovers)
    metrics.counter(
        "roots_brought",
        "Roots of payloads of several segments that came to IPFS nodes",
        (),
        lambda: [((), upkeep.roots.brought)],
    )


def _observe_log(metrics: Metrics, log_kept_by: Callable[[], Collection[str]]) -> None:
    metrics.gauge(
        "catalog_log_kept",
        "1: because of that the database's log may hold what was erased, for longer",
        ("because",),
        lambda: [((reason,), 1) for reason in log_kept_by()],
    )


def _observe_keys(metrics: Metrics, keys: Callable[[], KeysState]) -> None:
    metrics.gauge(
        "key_provider_up",
        "1: it answered when it was last asked",
        ("provider",),
        lambda: [(((state := keys()).provider,), float(state.up))],
    )
    metrics.gauge(
        "key_provider_answer_age_seconds",
        "How old its last answer is",
        ("provider",),
        lambda: [((s.provider,), s.age_s) for s in (keys(),) if s.age_s is not None],
    )


def _observe_passes(metrics: Metrics, upkeep: Upkeep) -> None:
    recovery, repair, scrub = upkeep.recovery, upkeep.repair, upkeep.scrub
    outbox = upkeep.outbox
    metrics.counter(
        "recovery_passes",
        "Recovery passes that came to their end",
        (),
        lambda: [((), recovery.passes)],
    )
    metrics.gauge(
        "recovery_newest_timestamp_seconds",
        "When the newest of them began, by the catalog's clock",
        (),
        lambda: [] if recovery.newest_ms is None else [((), recovery.newest_ms / 1000)],
    )
    metrics.gauge(
        "recovery_newest",
        "What the newest of them found and did",
        ("what",),
        lambda: _told(recovery.newest),
    )
    metrics.gauge(
        "repair_newest",
        "What the newest repair pass of this process did",
        ("what",),
        lambda: _told(repair.newest),
    )
    metrics.gauge(
        "copies_newest",
        "What the newest pass of this process over manifest copies did",
        ("what",),
        lambda: _told(outbox.newest),
    )
    metrics.gauge(
        "copies_due",
        "Manifest copies that were still to come to a store when that was looked at last",
        (),
        lambda: [] if outbox.due is None else [((), outbox.due[0])],
    )
    metrics.gauge(
        "copies_due_oldest_seconds",
        "For how long the oldest of them had been to come",
        (),
        lambda: [] if outbox.due is None else [((), outbox.due[1])],
    )
    metrics.gauge(
        "catalog_behind",
        "1: the stores have seen a later state of the catalog; run catalog rebuild",
        (),
        lambda: [((), float(upkeep.high_water.is_behind))],
    )
    metrics.gauge(
        "scrub_newest",
        "What the newest scrub pass of this process did",
        ("what",),
        lambda: _told(scrub.newest),
    )
    metrics.gauge(
        "scrub_round_ended_timestamp_seconds",
        "When all copies had been read the last time, by the catalog's clock",
        (),
        lambda: [] if scrub.round_ended_ms is None else [((), scrub.round_ended_ms / 1000)],
    )


def _observe_leftovers(metrics: Metrics, leftovers: Leftovers) -> None:
    metrics.gauge(
        "leftovers_newest",
        "What the newest pass over leftovers of buckets of this process did",
        ("what",),
        lambda: _told(leftovers.newest),
    )
    metrics.gauge(
        "leftovers_round_ended_timestamp_seconds",
        "When all buckets had been looked through the last time, by the catalog's clock",
        (),
        lambda: [] if (ms := leftovers.round_ended_ms) is None else [((), ms / 1000)],
    )
    metrics.counter(
        "bucket_leftovers",
        "Old versions and unfinished uploads of buckets that were found, removed, or not removed",
        ("store", "kind", "outcome"),
        leftovers.counts.items,
    )


def _observe_collect(metrics: Metrics, collect: Collect) -> None:
    metrics.gauge(
        "gc_newest",
        "What the newest collecting pass of this process did",
        ("what",),
        lambda: _told(collect.newest),
    )
    metrics.gauge(
        "gc_round_ended_timestamp_seconds",
        "When all stores had been looked through the last time, by the catalog's clock",
        (),
        lambda: [] if collect.round_ended_ms is None else [((), collect.round_ended_ms / 1000)],
    )
    metrics.gauge(
        "gc_braked",
        "Payloads that would have been deleted, and are too many to go without a word",
        ("store",),
        lambda: [((store,), count) for store, count in collect.braked.items()],
    )
    metrics.gauge(
        "orphan_payloads",
        "Payloads in a store that nothing names",
        ("store",),
        lambda: [((store,), found.payloads) for store, found in collect.orphans.items()],
    )
    metrics.gauge(
        "orphan_bytes",
        "How much that is",
        ("store",),
        lambda: [((store,), found.bytes) for store, found in collect.orphans.items()],
    )


def _observe_sweep(metrics: Metrics, sweep: Sweep) -> None:
    metrics.gauge(
        "sweep_newest",
        "What the newest sweep of this process did",
        ("what",),
        lambda: _told(sweep.newest),
    )
    metrics.gauge(
        "sweep_round_ended_timestamp_seconds",
        "When all that was due had been gone through the last time, by the catalog's clock",
        (),
        lambda: [] if sweep.round_ended_ms is None else [((), sweep.round_ended_ms / 1000)],
    )
    metrics.gauge(
        "sweep_due",
        "Objects that were due, and had not gone, when that was looked at last",
        ("action",),
        lambda: (
            []
            if sweep.due is None
            else [(("expire",), sweep.due[0].expire), (("erase",), sweep.due[0].erase)]
        ),
    )
    metrics.gauge(
        "sweep_due_oldest_seconds",
        "For how long the oldest of them had been due",
        (),
        lambda: [] if sweep.due is None else [((), sweep.due[1])],
    )
    metrics.counter(
        "swept",
        "Objects that sweeps of this process had expire, erased, or revived",
        ("what",),
        lambda: [((what,), count) for what, count in sweep.counts.items()],
    )


def _observe_buckets(metrics: Metrics, buckets: Sequence[S3Store]) -> None:
    metrics.counter(
        "bucket_calls",
        "Operations of S3 stores that were begun",
        ("store",),
        lambda: [((bucket.name,), bucket.calls) for bucket in buckets],
    )
    metrics.counter(
        "bucket_attempts",
        "Requests that were begun for them, each retry counted",
        ("store",),
        lambda: [((bucket.name,), bucket.attempts) for bucket in buckets],
    )


def _observe_nodes(metrics: Metrics, nodes: Sequence[IPFSStore]) -> None:
    metrics.gauge(
        "node_stored_bytes",
        "What an IPFS node said that it stores",
        ("store",),
        lambda: [((node.name,), s.used) for node in nodes if (s := node.storage) is not None],
    )
    metrics.gauge(
        "node_limit_bytes",
        "What it is set to store at most",
        ("store",),
        lambda: [
            ((node.name,), limit)
            for node in nodes
            if node.storage is not None and (limit := node.storage.limit) is not None
        ],
    )


def _resting(
    members: Sequence[Member], gateways: Sequence[IPFSGateway]
) -> Iterator[tuple[Labels, float]]:
    for member in members:
        breakers = {
            "read": member.reads,
            "write": member.writes,
            "delete": member.deletes,
            "list": member.lists,
        }
        for operation, breaker in breakers.items():
            yield (member.name, operation), float(not breaker.is_closed)
    for gateway in gateways:
        yield (gateway.name, "read"), float(not gateway.reads.is_closed)


def _told(
    report: RecoveryReport
    | RepairReport
    | ScrubReport
    | CollectReport
    | SweepReport
    | LeftoversReport
    | OutboxReport
    | None,
) -> Iterator[tuple[Labels, float]]:
    if report is not None:
        for what, count in asdict(report).items():
            yield (what,), count
