"""What fuzzing starts from: the known answers of this project, the public vectors where they are.

For tests only. An input that was found to break something belongs into `found/<target>/`: it is a
seed from then on, and so is run by every test run.
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import urn
from tests.requirements import ROOT

VECTORS = Path(__file__).parent.parent / "vectors"
FOUND = Path(__file__).parent / "found"
PUBLIC = ROOT.parent / "shared" / "vectors" / "age"
SMALL_ARCHIVES = 5  # the others are of tens of thousands of bytes
NAMES = [
    b"urn:blob:v4:" + b"a" * 31 + b"2",
    b"urn:blob:v4:"
    + b"a" * 31
    + b"2?=cid=bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
    b"URN:BLOB:V4:" + b"A" * 31 + b"2",
    b"urn:blob:v1:s3:provider:bucket:file",
    b"urn:blob:v3:s3:provider:0:bucket:folder/file%20name",
    b"urn:example:a%2Fb?+res?=q=1#fragment",
]


def seeds(target: str) -> list[bytes]:
    """Return the inputs that the target is known to have an answer for."""
    envelopes = json.loads((VECTORS / "envelopes.json").read_text("ascii"))
    found = sorted((FOUND / target).glob("*"))
    return [*_known(target, envelopes), *(path.read_bytes() for path in found)]


def _known(target: str, envelopes: dict[str, Any]) -> Iterator[bytes]:
    if target in {"header", "head"}:
        heads = [base64.b64decode(entry["head"]) for entry in envelopes["envelopes"]]
        yield from (head if target == "head" else head[:-16] for head in heads)
        yield from _public_heads()
    elif target == "bech32":
        for party in envelopes["parties"]:
            yield party["identity"].encode("ascii")
            yield party["recipient"].encode("ascii")
        # Values of 5 bits, the last of which holds padding: all zero, and not.
        yield from (bytes(51) + bytes([last]) for last in (0, 15, 16))
    elif target == "context":
        yield from (bytes.fromhex(entry["canonical"]) for entry in envelopes["contexts"])
    elif target == "urn":
        yield from NAMES
    elif target == "cid":
        cids = json.loads((VECTORS / "cid.json").read_text("ascii"))
        texts = [entry["cid"] for entry in cids["files"] + cids["trees"]]
        yield from (text.encode("ascii") for text in texts)
        yield b"\x01\x55\x12\x20" + bytes(32)
    elif target in {"node", "car"}:
        cars = json.loads((VECTORS / "car.json").read_text("ascii"))
        archives = [bytes.fromhex(entry["car"]) for entry in cars["files"]][:SMALL_ARCHIVES]
        yield from archives if target == "car" else _nodes(archives)
        if target == "node":
            yield from (bytes.fromhex(entry["block"]) for entry in cars["directories"])


def _nodes(archives: list[bytes]) -> Iterator[bytes]:
    """Yield the nodes of files and directories that the archives hold."""
    for archive in archives:
        for cid, block in urn.CARReader().feed(archive):
            if cid.codec is urn.Codec.DAG_PB:
                yield block


def _public_heads() -> Iterator[bytes]:
    """Yield the beginnings of the public vectors that are not compressed."""
    for path in sorted(PUBLIC.glob("*")):
        _, _, data = path.read_bytes().partition(b"\n\n")
        if data.startswith(b"age-encryption.org"):
            yield data[: data.rfind(b"\n--- ") + 65]
