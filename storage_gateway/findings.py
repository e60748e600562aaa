"""What a check finds that is not as it should be, and what can be done about it."""

from dataclasses import dataclass

RESTORE = "restore the store's files from a backup; the catalog is right"
CONFIGURE = "configure the backend again, or restore the catalog from a backup"
RESTORE_CATALOG = "restore the catalog from a backup"
ERASE_AGAIN = "erase the object again, or start the gateway and let recovery finish"
MOVE_AWAY = "is the catalog an older one than the store? If you are sure not, move it away"
CLEAR = "start the gateway, or call storage-gateway backends probe: either removes it"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be."""

    kind: str
    where: str
    detail: str
    remedy: str
