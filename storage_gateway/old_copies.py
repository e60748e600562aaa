"""Manifest copies that must go: those of an erased object that hold its head.

Whoever brings the tombstone removes them. One that was on its way meanwhile comes late, as a late
write of a payload does, and is looked for until none can come any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from .backends import KeyedStore
from .catalog import Catalog
from .catalog.objects import load_manifest
from .catalog.outbox import is_copied
from .errors import NotFound
from .kept_versions import Look
from .manifest_copies import OBJECT, folder_of, parse_copy_name

GENERATION_MAX = 10**9
"""More than any name says: what lies among an object's copies and has another name counts so."""


@dataclass(frozen=True, slots=True)
class Found:
    """The copies of one object: keys of those that are older than it is now, and whether a store
    has the newest; of objects that are not copied all have.
    """

    older: list[str]
    has_newest: bool


class OldCopies:
    """Those of one namespace, in all stores."""

    def __init__(self, catalog: Catalog, store: KeyedStore, *, prefix: str) -> None:
        """``prefix`` is the namespace's, ending in ``/``."""
        self._catalog = catalog
        self._store = store
        self._prefix = prefix

    async def has_newer(self, object_id: str) -> bool:
        """Tell whether a store has a copy of the object's manifest that is newer than it is here.

        Raises:
            BackendUnavailable, CatalogUnavailable

        """
        newest = 0
        async for blob in self._store.list(folder_of(self._prefix, OBJECT, object_id)):
            name = parse_copy_name(self._prefix, blob.key)
            newest = max(newest, GENERATION_MAX if name is None else name.generation)
        if not newest:
            return False
        # After the stores: a head that is wrapped anew meanwhile is newer in both.
        try:
            manifest = await self._catalog.read(partial(load_manifest, object_id=object_id))
        except NotFound:
            return True
        return newest > manifest.generation

    async def look(self, object_id: str) -> Found:
        """Look in every store for what there is of an object's copies.

        Raises:
            BackendUnavailable, CatalogUnavailable

        """
        manifest = await self._catalog.read(partial(load_manifest, object_id=object_id))
        older, has_newest = [], not is_copied(manifest.slot.session_id)
        async for blob in self._store.list(folder_of(self._prefix, OBJECT, object_id)):
            name = parse_copy_name(self._prefix, blob.key)
            if name is not None and name.generation < manifest.generation:
                older.append(blob.key)
            has_newest |= name is not None and name.generation == manifest.generation
        return Found(older, has_newest)

    async def remove_versions(self, object_id: str, look: Look) -> bool:
        """Remove old versions of the copies that are older than the object is now; tell whether
        none is left.

        Raises:
            BackendUnavailable, CatalogUnavailable

        """
        manifest = await self._catalog.read(partial(load_manifest, object_id=object_id))

        def is_older(key: str) -> bool:
            name = parse_copy_name(self._prefix, key)
            return name is not None and name.generation < manifest.generation

        return await look.remove(folder_of(self._prefix, OBJECT, object_id), is_older)

    async def remove(self, keys: Sequence[str]) -> None:
        """Remove copies from every store.

        Raises:
            BackendUnavailable

        """
        for key in keys:
            await self._store.delete(key)
