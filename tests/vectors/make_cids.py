"""Writes cid.json: known answers from ipfs-unixfs-importer, an implementation that is not ours.

Run as `python -m tests.vectors.make_cids`. Knows which files and trees to ask for, and computes no
CID itself. Deterministic; `tests/interop/test_cid_npm.py` compares its output with the file.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.interop.node_modules import run_node

SEED = "storage-gateway/cid-vectors-v1"
BLOCK_SIZE = 65_536
LEAF_SIZE = 983_280
LINKS_MAX = 174


def file_cases() -> Iterator[dict[str, int]]:
    """Yield sizes around every border of the real profile, and of small ones that make trees."""
    full = LINKS_MAX * LEAF_SIZE
    for size in (0, 1, LEAF_SIZE - 1, LEAF_SIZE, LEAF_SIZE + 1, 2 * LEAF_SIZE):
        yield _file(LEAF_SIZE, LINKS_MAX, size)
    for size in (3 * LEAF_SIZE + 17, full, full + 1):
        yield _file(LEAF_SIZE, LINKS_MAX, size)
    for leaves in range(29):
        yield _file(4, 3, 4 * leaves)
    for size in (1, 3, 5, 11, 13, 35, 37, 107, 109, 323, 324, 325):
        yield _file(4, 3, size)
    for leaves in range(2, 18):
        yield _file(16, 2, 16 * leaves - 7)
    for leaves in (1, 2, 174, 175, 348, 349, 174 * 174, 174 * 174 + 1):
        yield _file(3, LINKS_MAX, 3 * leaves)


def tree_cases() -> Iterator[dict[str, int]]:
    """Yield numbers of leaves of the real profile, up to about 64 GiB."""
    for leaf_count, last_size in (
        (1, LEAF_SIZE),
        (2, 1),
        (174, LEAF_SIZE),
        (175, 1),
        (4370, 983_279),  # more than 2**32 bytes
        (30_276, LEAF_SIZE),
        (30_277, 1),  # 174 * 174 and one more
        (69_906, 654_321),
    ):
        yield {
            "leaf_size": LEAF_SIZE,
            "links_max": LINKS_MAX,
            "leaf_count": leaf_count,
            "last_size": last_size,
        }


def ask(by: str, files: list[dict[str, int]], trees: list[dict[str, int]]) -> dict[str, list[str]]:
    """Ask the implementation `by` ("importer" or "ipld") for CIDs, in the order of the cases."""
    asked = {"by": by, "seed": SEED, "block_size": BLOCK_SIZE, "files": files, "trees": trees}
    answer: dict[str, list[str]] = json.loads(run_node("cids.mjs", json.dumps(asked).encode()))
    assert (len(files), len(trees)) == (len(answer["files"]), len(answer["trees"]))
    return answer


def render() -> str:
    """Return the text of cid.json."""
    files, trees = list(file_cases()), list(tree_cases())
    answer = ask("importer", files, trees)
    return (
        f'{{\n  "seed": {json.dumps(SEED)},\n  "block_size": {BLOCK_SIZE},\n'
        f'  "files": [\n{_lines(files, answer["files"])}\n  ],\n'
        f'  "trees": [\n{_lines(trees, answer["trees"])}\n  ]\n}}\n'
    )


def _file(leaf_size: int, links_max: int, size: int) -> dict[str, int]:
    return {"leaf_size": leaf_size, "links_max": links_max, "size": size}


def _lines(cases: list[dict[str, int]], cids: list[str]) -> str:
    entries: Iterator[dict[str, Any]] = (
        {**case, "cid": cid} for case, cid in zip(cases, cids, strict=True)
    )
    return ",\n".join(f"    {json.dumps(entry, separators=(',', ':'))}" for entry in entries)


if __name__ == "__main__":
    Path(__file__).with_name("cid.json").write_text(render(), "utf-8")
