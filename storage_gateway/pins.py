"""What content-addressed stores keep under a key, written down in the catalog."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from functools import partial

from urn import CID

from .backends.pins import Pin, Pins
from .catalog import Catalog
from .catalog.pins import PinRow, find_pin, keys_of_roots, list_pins, record_pin
from .errors import BackendUnavailable

DIGEST_SIZE = 32
PAGE = 200

PinsOf = Callable[[str], Pins]
"""Returns the pins of the store of that name."""


def pins_in(catalog: Catalog) -> PinsOf:
    """Return the pins of each store that are written down in a catalog."""
    return partial(CatalogPins, catalog)


class CatalogPins:
    """The pins of one store; see `Pins`. A key's payload is the folder that it lies in."""

    def __init__(self, catalog: Catalog, backend: str) -> None:
        """``backend`` is the store's name."""
        self._catalog = catalog
        self._backend = backend

    async def intend(self, pin: Pin) -> None:
        """Write a pin down, durably; see the protocol.

        Raises:
            CatalogUnavailable, StorageFull
            BackendUnavailable: nothing names the payload any more, or the key is of something else.

        """
        payload_id = pin.key.rpartition("/")[0].rpartition("/")[2]
        row = PinRow(pin.key, str(pin.root), pin.size, b"".join(pin.leaves))
        if not await self._catalog.run(lambda c: record_pin(c, self._backend, payload_id, row)):
            raise BackendUnavailable(f"{pin.key} is not to come to store {self._backend} any more")

    async def find(self, key: str) -> Pin | None:
        """Return what was intended for a key; see the protocol."""
        row = await self._catalog.read(lambda c: find_pin(c, self._backend, key))
        return None if row is None else _pin_of(row)

    async def known(self, roots: Collection[str]) -> Mapping[str, str]:
        """Return the keys of the roots that are written down; see the protocol."""
        return await self._catalog.read(partial(keys_of_roots, backend=self._backend, roots=roots))

    async def below(self, prefix: str) -> AsyncIterator[Pin]:
        """Yield all whose keys start with a prefix; see the protocol."""
        after = ""
        while rows := await self._catalog.read(
            partial(list_pins, backend=self._backend, prefix=prefix, after=after, limit=PAGE)
        ):
            for row in rows:
                yield _pin_of(row)
            after = rows[-1].key


def _pin_of(row: PinRow) -> Pin:
    digests = row.leaf_digests
    leaves = tuple(digests[at : at + DIGEST_SIZE] for at in range(0, len(digests), DIGEST_SIZE))
    return Pin(row.key, CID.parse(row.root), row.size, leaves)
