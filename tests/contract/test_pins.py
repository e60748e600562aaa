"""Goal: what is written down of a node's pins is found by key and by folder, in every database, and
goes with its payload.
"""

from functools import partial

import pytest

from storage_gateway.backends.pins import Pin
from storage_gateway.catalog import Catalog
from storage_gateway.catalog.work import (
    Grave,
    bury_again,
    close_grave,
    list_graves,
    record_marker,
    stores_in_use,
)
from storage_gateway.errors import BackendUnavailable
from storage_gateway.pins import CatalogPins, pins_in
from urn import CID, Codec

pytestmark = pytest.mark.both_databases

FOLDER = "deployment/main/payloads/one/"
LEAVES = (bytes(32), b"\xff" * 32)


def pin(key: str, leaves: tuple[bytes, ...] = LEAVES) -> Pin:
    return Pin(key, CID(Codec.DAG_PB, bytes(32)), 1 << 40, leaves)


async def named(catalog: Catalog) -> None:
    """Have something name the payloads: else no pin is taken."""
    for payload_id in ("one", "one0", "other"):
        await catalog.run(partial(bury_again, payload_id=payload_id, object_id=payload_id))


async def keys(pins: CatalogPins, prefix: str) -> list[str]:
    return [found.key async for found in pins.below(prefix)]


async def test_a_pin_is_found_as_it_was_written(catalog: Catalog) -> None:
    await named(catalog)
    pins = pins_in(catalog)("node")
    for each in (pin(f"{FOLDER}0"), pin(f"{FOLDER}1", ())):
        await pins.intend(each)
        await pins.intend(each)

        assert each == await pins.find(each.key)
    assert None is await pins.find(f"{FOLDER}2")
    assert None is await pins_in(catalog)("another").find(f"{FOLDER}0")


async def test_a_folder_is_all_that_is_below_it_and_no_more(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage_gateway.pins.PAGE", 2)
    await named(catalog)
    pins = CatalogPins(catalog, "node")
    inside = [f"{FOLDER}{name}" for name in ("0", "1", "10", "dag", "\U0001f5c0")]
    beside = ["deployment/main/payloads/one0/0", "deployment/other/payloads/one/0"]
    for key in (*inside, *beside):
        await pins.intend(pin(key))
    await CatalogPins(catalog, "another").intend(pin(f"{FOLDER}2"))

    assert inside == await keys(pins, FOLDER)
    assert sorted([*inside, *beside]) == await keys(pins, "")


async def test_it_goes_with_the_payload(catalog: Catalog) -> None:
    await named(catalog)
    pins = CatalogPins(catalog, "node")
    other = "deployment/main/payloads/other/0"
    for key in (f"{FOLDER}0", f"{FOLDER}1", other):
        await pins.intend(pin(key))
    graves: list[Grave] = await catalog.read(lambda c: list_graves(c, "", 10))
    (one,) = [grave for grave in graves if grave.payload_id == "one"]
    assert not await catalog.run(lambda c: close_grave(c, one, ["disk"])), "the node was not seen"
    assert await catalog.run(lambda c: close_grave(c, one, ["disk", "node"]))

    assert [other] == await keys(pins, "")
    with pytest.raises(BackendUnavailable, match="not to come to store node any more"):
        await pins.intend(pin(f"{FOLDER}1"))
    assert None is await pins.find(f"{FOLDER}1")


async def test_a_key_is_written_once(catalog: Catalog) -> None:
    await named(catalog)
    pins = CatalogPins(catalog, "node")
    await pins.intend(pin(f"{FOLDER}0"))
    another = Pin(f"{FOLDER}0", CID(Codec.DAG_PB, b"\xff" * 32), 1, LEAVES)

    with pytest.raises(BackendUnavailable):
        await pins.intend(another)

    assert pin(f"{FOLDER}0") == await pins.find(f"{FOLDER}0")


async def test_a_store_that_pins_were_asked_of_is_in_use(catalog: Catalog) -> None:
    await named(catalog)
    for store in ("node", "disk"):
        await catalog.run(partial(record_marker, backend=store))
    await CatalogPins(catalog, "node").intend(pin(f"{FOLDER}0"))

    assert ["node"] == await catalog.read(stores_in_use)
