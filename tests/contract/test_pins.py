"""Goal: what is written down of a node's pins is found by key and by folder, in every database, and
goes with its payload.
"""

import pytest

from storage_gateway.backends.pins import Pin
from storage_gateway.catalog import Catalog
from storage_gateway.catalog.work import Grave, bury_again, close_grave, list_graves
from storage_gateway.pins import CatalogPins, pins_in
from urn import CID, Codec

pytestmark = pytest.mark.both_databases

FOLDER = "deployment/main/payloads/one/"
LEAVES = (bytes(32), b"\xff" * 32)


def pin(key: str, leaves: tuple[bytes, ...] = LEAVES) -> Pin:
    return Pin(key, CID(Codec.DAG_PB, bytes(32)), 1 << 40, leaves)


async def keys(pins: CatalogPins, prefix: str) -> list[str]:
    return [found.key async for found in pins.below(prefix)]


async def test_a_pin_is_found_as_it_was_written(catalog: Catalog) -> None:
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
    pins = CatalogPins(catalog, "node")
    inside = [f"{FOLDER}{name}" for name in ("0", "1", "10", "dag", "\U0001f5c0")]
    beside = ["deployment/main/payloads/one", "deployment/main/payloads/one0/0", "z"]
    for key in (*inside, *beside):
        await pins.intend(pin(key))
    await CatalogPins(catalog, "another").intend(pin(f"{FOLDER}2"))

    assert inside == await keys(pins, FOLDER)
    assert sorted([*inside, *beside]) == await keys(pins, "")


async def test_it_goes_with_the_payload(catalog: Catalog) -> None:
    pins = CatalogPins(catalog, "node")
    other = "deployment/main/payloads/other/0"
    for key in (f"{FOLDER}0", f"{FOLDER}1", other):
        await pins.intend(pin(key))
    await catalog.run(lambda c: bury_again(c, "one", "object"))
    graves: list[Grave] = await catalog.read(lambda c: list_graves(c, "", 10))
    assert await catalog.run(lambda c: close_grave(c, graves[0], ["node"]))

    assert [other] == await keys(pins, "")
