"""Goal: a Rust implementation packs a folder as we do, and reads the root of an archive of ours.

Method: aleph-cid writes archives of folders with files of random sizes; we read them and make their
blocks. It has one profile: leaves of 262,144 bytes, 174 links.
"""

from pathlib import Path
from random import Random

import aleph_cid
import pytest

from tests.unit.urn_samples import wrapped_file
from urn import CARReader, car_header, car_section

LEAF_SIZE = 262_144


@pytest.mark.parametrize("size", [0, 1, LEAF_SIZE, LEAF_SIZE + 1, 5_000_000])
def test_a_folder_of_theirs_holds_the_blocks_of_ours(size: int, seed: int, tmp_path: Path) -> None:
    data, folder, car = Random(seed).randbytes(size), tmp_path / "folder", tmp_path / "folder.car"
    folder.mkdir()
    (folder / "payload").write_bytes(data)
    link, made = wrapped_file("payload", data, LEAF_SIZE, 174)
    root = aleph_cid.write_folder_car(str(folder), str(car))
    reader = CARReader()
    held = dict(reader.feed(car.read_bytes()))
    reader.finish()

    assert str(link.cid) == root == aleph_cid.hash_folder(str(folder))
    assert (link.cid,) == reader.roots
    assert made == held


@pytest.mark.parametrize("data", [b"leaf", b"more than one leaf"])
def test_the_root_of_an_archive_of_ours_is_read_by_theirs(data: bytes, tmp_path: Path) -> None:
    link, made = wrapped_file("payload", data, 4, 3)
    sections = (car_section(cid, len(block)) + block for cid, block in made.items())
    (tmp_path / "car").write_bytes(car_header([link.cid]) + b"".join(sections))

    assert str(link.cid) == aleph_cid.read_carv1_root(str(tmp_path / "car"))
