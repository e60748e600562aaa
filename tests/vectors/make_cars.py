"""Writes car.json: directories, nodes and archives from implementations that are not ours.

Run as `python -m tests.vectors.make_cars`. Knows what to ask for, and makes no block itself.
Deterministic; `tests/interop/test_car_npm.py` compares its output with the file.
"""

import base64
import json
from collections.abc import Iterator, Sequence
from hashlib import sha256, shake_256
from pathlib import Path
from typing import Any

from tests.interop.node_modules import run_node

SEED = "storage-gateway/car-vectors-v1"

# (size, leaf size, links a node): no node, one, two levels with a group of one, three levels.
FILES = ((0, 4, 3), (1, 4, 3), (4, 4, 3), (5, 4, 3), (40, 4, 3), (1000, 16, 174), (2800, 16, 174))
NAMES = ((), ("payload",), ("b", "a", "ab", "B", "\uffff", "\U00010000", " ", "%2F", "a\n"))
SIZES = (0, 1, 127, 128, 2**32, 2**53 - 1)


def content(size: int) -> bytes:
    """Return the first bytes of the one stream that all files are cut from."""
    return shake_256(SEED.encode("ascii")).digest(size)


def ask(asked: Sequence[dict[str, Any]]) -> list[Any]:
    """Ask the implementations; what each question means stands in tests/interop/node/car.mjs."""
    answers: list[Any] = json.loads(run_node("car.mjs", json.dumps({"ask": asked}).encode()))[
        "answers"
    ]
    assert len(asked) == len(answers)
    return answers


def wrapped(size: int, leaf_size: int, links_max: int) -> dict[str, Any]:
    """Ask for the blocks of a directory with one file in it."""
    limits = {"leaf_size": leaf_size, "links_max": links_max}
    return {"do": "wrapped", "name": "payload", "content": content(size).hex(), **limits}


def archive(blocks: list[list[str]]) -> dict[str, Any]:
    """Ask for the archive of what a `wrapped` was answered: its root, each block once, by CID."""
    held = sorted(dict(blocks).items())
    return {"do": "write", "roots": [blocks[-1][0]], "blocks": held}


def render() -> str:
    """Return the text of car.json."""
    directories = [_entries(names) for names in NAMES]
    answers = ask(
        [*(wrapped(*file) for file in FILES)]
        + [{"do": "directory", "entries": entries} for entries in directories]
    )
    trees = answers[: len(FILES)]
    archives = ask([archive(blocks) for blocks in trees])
    files = [
        {"size": size, "leaf_size": leaf, "links_max": links, "root": blocks[-1][0], "car": car}
        for (size, leaf, links), blocks, car in zip(FILES, trees, archives, strict=True)
    ]
    nodes = [
        {"entries": entries, "block": block}
        for entries, block in zip(directories, answers[len(FILES) :], strict=True)
    ]
    return (
        f'{{\n  "seed": {json.dumps(SEED)},\n'
        f'  "files": [\n{_lines(files)}\n  ],\n  "directories": [\n{_lines(nodes)}\n  ]\n}}\n'
    )


def _entries(names: Sequence[str]) -> list[list[Any]]:
    return [[name, _cid(name), SIZES[index % len(SIZES)]] for index, name in enumerate(names)]


def _cid(name: str) -> str:
    binary = b"\x01\x55\x12\x20" + sha256(name.encode("utf-8")).digest()
    return "b" + base64.b32encode(binary).decode("ascii").rstrip("=").lower()


def _lines(entries: Sequence[dict[str, Any]]) -> str:
    lines: Iterator[str] = (json.dumps(entry, separators=(",", ":")) for entry in entries)
    return ",\n".join(f"    {line}" for line in lines)


if __name__ == "__main__":
    Path(__file__).with_name("car.json").write_text(render(), "utf-8")
