"""What is said about a store that was tried."""

from dataclasses import dataclass

from .s3_answers import Versioning

_UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeFinding:
    """Something about a store that is not as it should be."""

    kind: str
    detail: str
    remedy: str
    """A constant: strangers may see it."""
    refuses: bool = False
    """The store must not be used like this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreReport:
    """What was found out about a store; None for what was not asked or could not be told."""

    store: str
    findings: tuple[ProbeFinding, ...] = ()

    @property
    def is_answered(self) -> bool:
        """The store answered all that it was asked."""
        return all(finding.kind != _UNAVAILABLE for finding in self.findings)

    @property
    def refusals(self) -> tuple[ProbeFinding, ...]:
        """Why the store must not be used."""
        return tuple(finding for finding in self.findings if finding.refuses)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeReport(StoreReport):
    """What was found out about an S3 store."""

    reads_after_writes: bool | None = None
    range_reads: bool | None = None
    listing: bool | None = None
    deletes: bool | None = None
    versioning: Versioning | None = None
    object_lock: bool | None = None
    clock_ahead_s: float | None = None
    """Of the store's clock, to half a second; negative if it is behind ours."""
    preconditions: bool | None = None
    """A put that must not write over anything does not."""
    checksums: bool | None = None
    """A body that is not what its checksum says is refused."""
    put_mb_s: float | None = None
    """Megabytes a second, one object after the other; likewise below."""
    get_mb_s: float | None = None


def unavailable(detail: str) -> ProbeFinding:
    """Return what is found when a store does not answer as one."""
    return ProbeFinding(
        kind=_UNAVAILABLE,
        detail=detail,
        remedy="see to it, then try again: what comes after it was not tried",
        refuses=True,
    )


def clock_off(ahead_s: float) -> ProbeFinding:
    """Return what is found when a store's clock is so many seconds ahead, or behind."""
    where = "ahead of" if ahead_s > 0 else "behind"
    return ProbeFinding(
        kind="clock",
        detail=f"the store's clock is {abs(ahead_s):.0f} seconds {where} this machine's: it refuses"
        " signatures, or soon will",
        remedy="set the clocks, best by NTP",
        refuses=True,
    )


def not_told(kind: str, detail: str) -> ProbeFinding:
    """Return what is found when a store does not say what state its bucket is in."""
    return ProbeFinding(
        kind=kind,
        detail=f"cannot be told: the store {detail}",
        remedy="allow the access key s3:GetBucketVersioning, s3:ListBucketVersions and"
        " s3:GetBucketObjectLockConfiguration, or make sure that versioning and lock are off",
    )


def left_over(prefix: str) -> ProbeFinding:
    """Return what is found when the probe's own objects cannot be removed."""
    return ProbeFinding(
        kind="left-over",
        detail=f"what the probe wrote below {prefix} could not be removed",
        remedy="remove it by hand, with its versions",
    )


STALE_READS = ProbeFinding(
    kind="reads-after-writes",
    detail="what was written is not what is read right after it",
    remedy="ask the store itself, not a cache before it; it must be strongly consistent",
    refuses=True,
)
NO_RANGES = ProbeFinding(
    kind="range-reads",
    detail="a range of an object is not what is answered to a request for it",
    remedy="use a store with ranges, and no proxy before it that drops the Range header",
    refuses=True,
)
WRONG_LISTING = ProbeFinding(
    kind="listing",
    detail="a listing does not hold, once each, the objects that were just written",
    remedy="use a store with ListObjectsV2 that is strongly consistent and lists page by page",
    refuses=True,
)
NO_DELETES = ProbeFinding(
    kind="deletes",
    detail="what was deleted can still be read, or is still listed",
    remedy="use a bucket without rules of retention, and no cache before it",
    refuses=True,
)
VERSIONED = ProbeFinding(
    kind="versioning",
    detail="the bucket keeps versions: deleted bytes would stay in it",
    remedy="use a bucket that never had versioning: one where it is suspended keeps what it has",
    refuses=True,
)
WAS_VERSIONED = ProbeFinding(
    kind="versioning",
    detail="versioning is suspended: what was deleted before that may still be in the bucket",
    remedy="delete old versions, or use a bucket that never had versioning",
)
LOCKED = ProbeFinding(
    kind="object-lock",
    detail="the bucket has object lock: deleted bytes would stay in it",
    remedy="use a bucket that was made without object lock: it cannot be turned off",
    refuses=True,
)
NO_PRECONDITIONS = ProbeFinding(
    kind="preconditions",
    detail="a put that must not write over anything does",
    remedy="nothing is to be done: the gateway writes no key twice",
)
NO_CHECKSUMS = ProbeFinding(
    kind="checksums",
    detail="a body that is not what its Content-MD5 says is not refused",
    remedy="nothing is to be done: the gateway checks every byte that it reads",
)
