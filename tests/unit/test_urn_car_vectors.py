"""Goal: we make the blocks and archives of tests/vectors/car.json, and read them as they are meant.

Method: known answers, made with npm packages that share nothing with us (tests/vectors/README.md).
"""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from tests.unit.urn_samples import wrapped_file
from tests.vectors import make_cars
from urn import (
    CID,
    CARReader,
    DirectoryNode,
    Entry,
    FileNode,
    car_header,
    car_section,
    encode_directory,
    parse_node,
)

VECTORS: Final[dict[str, Any]] = json.loads(
    Path(make_cars.__file__).with_name("car.json").read_text("utf-8")
)


@pytest.mark.parametrize("vector", VECTORS["files"], ids=lambda v: f"{v['size']}-{v['leaf_size']}")
def test_an_archive_holds_the_blocks_that_we_make_and_has_the_bytes_that_we_write(
    vector: dict[str, Any],
) -> None:
    data, car = make_cars.content(vector["size"]), bytes.fromhex(vector["car"])
    link, made = wrapped_file("payload", data, vector["leaf_size"], vector["links_max"])
    reader = CARReader()
    held = list(reader.feed(car))
    reader.finish()

    assert vector["root"] == str(link.cid)
    assert (link.cid,) == reader.roots
    assert made == dict(held)
    assert len(made) == len(held)
    sections = (car_section(cid, len(block)) + block for cid, block in held)
    assert car == car_header([link.cid]) + b"".join(sections)


@pytest.mark.parametrize("vector", VECTORS["files"], ids=lambda v: f"{v['size']}-{v['leaf_size']}")
def test_the_content_is_found_by_a_walk_down_from_the_root(vector: dict[str, Any]) -> None:
    held = dict(CARReader().feed(bytes.fromhex(vector["car"])))
    root = parse_node(held[CID.parse(vector["root"])])
    assert isinstance(root, DirectoryNode)
    ((name, cid, _),) = root.entries

    def content(cid: CID) -> bytes:
        if cid.codec == 0x55:
            return held[cid]
        node = parse_node(held[cid])
        assert isinstance(node, FileNode)
        return b"".join(content(link.cid) for link in node.links)

    assert ("payload", make_cars.content(vector["size"])) == (name, content(cid))


@pytest.mark.parametrize("vector", VECTORS["directories"], ids=lambda v: str(len(v["entries"])))
def test_a_directory_has_the_block_that_others_give_it(vector: dict[str, Any]) -> None:
    entries = [Entry(name, CID.parse(cid), size) for name, cid, size in vector["entries"]]
    link, block = encode_directory(entries)
    node = parse_node(block)

    assert vector["block"] == block.hex()
    assert isinstance(node, DirectoryNode)
    assert (link, sorted(entries, key=lambda entry: entry.name.encode())) == (
        node.link,
        list(node.entries),
    )
