"""Goal: docs/format.md tells the truth.
Method: its table of limits is compared with the constants, its example is read and opened.
"""

from __future__ import annotations

import re
from pathlib import Path

import crypto
from crypto import Context, Meta, open_envelope, open_head, parse_identities, sealed_size

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "format.md").read_text(encoding="utf-8")


def block(name: str) -> str:
    """The one fenced block of that name."""
    (found,) = re.findall(rf"^```{name}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_table_of_limits() -> None:
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (\d+) \|", TEXT, re.MULTILINE))
    constants = {
        name: str(value)
        for name, value in vars(crypto).items()
        if name.isupper() and isinstance(value, int)
    }

    assert constants == rows


def test_the_example() -> None:
    fields = block("context").split()
    context = Context(*fields)
    canonical = bytes.fromhex(block("canonical"))
    head = block("header").encode("ascii") + bytes.fromhex(block("nonce"))
    payload = bytes.fromhex(block("payload"))
    identities = parse_identities(block("identity"))
    opened = open_head(head, identities)

    assert canonical == context.canonical()
    assert b"hello\n" == open_envelope(head, payload, identities, context=context)
    assert Meta("text/plain", "hello.txt") == opened.meta()
    assert f"`{opened.file_key.expose().hex()}`" in TEXT
    assert sealed_size(6) == len(payload)


def test_the_labels() -> None:
    for name, label in vars(crypto.labels).items():
        if isinstance(label, bytes) and name != "X25519_WRAP":
            assert f"`{label.decode()}`" in TEXT
