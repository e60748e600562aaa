"""What is told of damage: to who reads an object; with stores and keys, to the operator.

A reader learns the object's name, the segment, and in how many stores it may still be right; where
payloads lie is the operator's business, and in the log alone.
"""

import logging
from functools import partial

from urn import mint

from .backends import KeyedStore, Replicas
from .backends.last_resort import LastResort
from .catalog import Catalog
from .catalog.copies import stores_of
from .errors import BlobCorrupt, BlobMissing
from .findings import RESTORE_CATALOG, remedy_of_copy

logger = logging.getLogger(__name__)

Damage = BlobMissing | BlobCorrupt


async def damage_told(
    catalog: Catalog,
    damage: Damage,
    *,
    object_id: str,
    payload_id: str,
    segment: int,
    store: KeyedStore | LastResort,
) -> Damage:
    """Return what the reader is told of a segment that ``store`` cannot serve; log all of it.

    ``store`` is what was asked: of several stores each was. ``damage`` says what it found.

    Raises:
        CatalogUnavailable

    """
    placed = await catalog.read(partial(stores_of, payload_id=payload_id, segment=segment))
    asked = frozenset(store.names) if isinstance(store, Replicas | LastResort) else placed
    left, urn = len(placed - asked), mint(object_id).urn
    told = {"urn": urn, "segment": segment, "stores": sorted(placed & asked), "copies_left": left}
    told |= {"code": damage.code, "detail": damage.detail, "remedy": remedy_of_copy(left)}
    logger.error("no store that was asked has a segment right", extra=told)
    what = "is missing" if isinstance(damage, BlobMissing) else "is damaged"
    detail = f"segment {segment} of the payload {what} in every store that can be asked for it"
    return type(damage)(detail, urn=urn, segment=segment, copies_left=left)


def record_damage_told(object_id: str, detail: str) -> BlobCorrupt:
    """Return what the reader is told where it is the catalog that is damaged; log it."""
    urn = mint(object_id).urn
    told = {"urn": urn, "copies_left": 0, "detail": detail, "remedy": RESTORE_CATALOG}
    logger.error("what the catalog has of an object is damaged", extra=told)
    return BlobCorrupt(f"{detail}: the catalog is damaged", urn=urn, copies_left=0)
