"""What a check finds that is not as it should be, and what can be done about it."""

from dataclasses import dataclass, field

RESTORE = "restore the store's files from a backup; the catalog is right"
MEND = (
    "run storage-gateway check --repair, or leave it to the gateway's own passes: other stores have"
    " all of it right"
)
RESTORE_OR_ERASE = (
    "restore the files of one of its stores from a backup, or erase the object: no other store is"
    " known to have it right"
)
TRIED_AGAIN = (
    "it is tried again by itself; if that goes on, see to the store, and to those it lies in"
)
SEE_TO_STORE = "see to the store, which does not let its copies be read, then check again"
CONFIGURE = "configure the backend again, or restore the catalog from a backup"
RESTORE_CATALOG = "restore the catalog from a backup"
ERASE_AGAIN = "erase the object again, or start the gateway and let recovery finish"
MOVE_AWAY = "is the catalog an older one than the store? If you are sure not, move it away"
COLLECT = (
    "is the catalog an older one than the store? Then restore the newer one. If you are sure not,"
    " leave it: the pass gc deletes it once it has seen it for gc_dwell_s"
)
SEE_OFF = "run catalog verify --repair, which has the newest copy put and the older ones removed"
REBUILD = "the catalog is older than the stores: run passes run rebuild, or catalog rebuild"
CLEAR = "start the gateway, or call storage-gateway backends probe: either removes it"


def remedy_of_copy(copies_left: int) -> str:
    """Return what is to be done about a copy that is wrong: what others have right mends it."""
    return MEND if copies_left else RESTORE_OR_ERASE


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be."""

    kind: str
    where: str
    detail: str
    remedy: str
    urn: str | None = None
    """The object that it is about, if it is about one."""
    copies_left: int | None = None
    """In how many stores the segment is right, the worst of them if it is about several; None if it
    is not about stored copies."""


@dataclass(slots=True)
class CheckReport:
    """What a check went through, and what it found."""

    objects: int = 0
    tombstones: int = 0
    bytes_verified: int = 0
    segments_pending: int = 0
    """Wanted in a store that did not take them in time, or where they are bad."""
    segments_bad: int = 0
    """Of these: those that a read found missing or corrupt, as the catalog says."""
    uploads_open: int = 0
    graves: int = 0
    findings: list[Finding] = field(default_factory=list)

    def find(
        self, kind: str, where: str, detail: str, remedy: str, *, copies_left: int | None = None
    ) -> None:
        """Note something that is not as it should be."""
        urn = where if where.startswith("urn:") else None
        self.findings.append(Finding(kind, where, detail, remedy, urn, copies_left))
