"""Writes envelopes.json: known answers for the envelope, from fixed randomness.

Run as `python -m tests.vectors.make_envelopes`. Classic envelopes come out the same byte for byte
each time; the heads of hybrid ones are kept where they are there, as the library draws its own
randomness for them. What the members mean: README.md beside this file.
"""

import base64
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, TypeAlias

from crypto import (
    CHUNK_SIZE,
    LEAF_PLAINTEXT_SIZE,
    LEAF_SIZE,
    SEGMENT_LEAVES,
    Context,
    Identity,
    Meta,
    Recipient,
    open_head,
    seal,
)
from tests.unit.crypto_samples import (
    CONTEXT,
    HYBRID_MINER,
    HYBRID_OUTSIDER,
    HYBRID_ROUTER,
    HYBRID_USER,
    MINER,
    OUTSIDER,
    ROUTER,
    USER,
    FixedRandom,
    plaintext_of,
)

FILE = Path(__file__).with_name("envelopes.json")
PARTIES: dict[str, Identity] = {
    "user": USER,
    "router": ROUTER,
    "miner": MINER,
    "outsider": OUTSIDER,
    "hybrid user": HYBRID_USER,
    "hybrid router": HYBRID_ROUTER,
    "hybrid miner": HYBRID_MINER,
    "hybrid outsider": HYBRID_OUTSIDER,
}
CONTEXTS = {
    "output": CONTEXT,
    "input without miner": dataclasses.replace(CONTEXT, direction="input", miner=None),
    "longest": dataclasses.replace(CONTEXT, session_id="Z" * 64, task_id="." * 64),
    "shortest": dataclasses.replace(CONTEXT, session_id="0", task_id="_", miner=None),
    "hybrid output": dataclasses.replace(CONTEXT, key_class="hybrid"),
}
METAS = {
    "type only": Meta("application/octet-stream"),
    "type and name": Meta("text/plain", "hello.txt"),
    "not ASCII": Meta("text/plain; charset=utf-8", 'Grüße "私" \\ 🜁.txt'),
    "exactly a block": Meta("a/b", "n" * (128 - len('{"content_type":"a/b","filename":""}'))),
    "largest": Meta("a/b", "n" * (1024 - len('{"content_type":"a/b","filename":""}'))),
}
SEGMENT_PLAINTEXT_SIZE = SEGMENT_LEAVES * LEAF_PLAINTEXT_SIZE
SIZES = [
    0,
    1,
    *(
        border + step
        for border in (CHUNK_SIZE, 2 * CHUNK_SIZE, LEAF_PLAINTEXT_SIZE, SEGMENT_PLAINTEXT_SIZE)
        for step in (-1, 0, 1)
    ),
]
CLASSIC_PARTIES = ["user", "router", "miner"]
HYBRID_PARTIES = ["hybrid user", "hybrid router", "hybrid miner"]
KEPT_WHOLE_SIZE_MAX = 100  # larger payloads are given by their hashes alone

Entry: TypeAlias = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Case:
    """One envelope to be made; its name is the seed of its randomness."""

    name: str
    size: int
    recipients: list[str]
    context: str = "output"
    meta: str | None = None


def cases() -> list[Case]:
    """Every size around a border, every context, every meta; each class; one and many parties."""
    sizes = [Case(f"{size} bytes", size, CLASSIC_PARTIES, meta="type only") for size in SIZES]
    contexts = [Case(f"context {name}", 5, ["user"], name) for name in list(CONTEXTS)[:-1]]
    metas = [Case(f"meta {name}", 5, ["user"], meta=name) for name in METAS]
    most = [Case("31 recipients", 5, (CLASSIC_PARTIES * 11)[:31])]
    hybrid = [
        Case("hybrid, nothing", 0, HYBRID_PARTIES[:1], "hybrid output"),
        Case("hybrid, one chunk", CHUNK_SIZE, HYBRID_PARTIES, "hybrid output", "type and name"),
        Case("hybrid, two chunks", CHUNK_SIZE + 1, HYBRID_PARTIES, "hybrid output"),
    ]
    return [*sizes, *contexts, *metas, *most, *hybrid]


def faults() -> list[Entry]:
    """What is done to an envelope, and the error that must come of it."""
    one, two = "1 bytes", "65537 bytes"
    second = 65_552
    return [
        {"of": one, "part": "head", "flip_byte": 0, "error": "HeaderError"},
        {"of": one, "part": "head", "cut_to": 100, "error": "HeaderError"},
        {"of": one, "part": "head", "flip_byte": -30, "error": "HeaderMACError"},
        {"of": one, "part": "head", "flip_byte": -1, "error": "PayloadError"},
        {"of": one, "part": "head", "of_other": "0 bytes", "error": "PayloadError"},
        {"of": one, "part": "payload", "flip_byte": 0, "error": "PayloadError"},
        {"of": one, "part": "payload", "flip_byte": -1, "error": "PayloadError"},
        {"of": one, "part": "payload", "cut_to": 16, "error": "PayloadError"},
        {"of": one, "part": "payload", "cut_to": 0, "error": "PayloadError"},
        {"of": one, "part": "payload", "append": "00", "error": "PayloadError"},
        {"of": two, "part": "payload", "cut_to": second, "error": "PayloadError"},
        {"of": two, "part": "payload", "cut_to": second + 16, "error": "PayloadError"},
        {"of": two, "part": "payload", "flip_byte": second, "error": "PayloadError"},
        {"of": one, "part": "identity", "use": "outsider", "error": "NoIdentityMatch"},
        {"of": one, "part": "identity", "use": "hybrid user", "error": "NoIdentityMatch"},
        {"of": one, "part": "context", "use": "shortest", "error": "ContextMismatch"},
        {"of": one, "part": "context", "use": "hybrid output", "error": "ContextMismatch"},
    ]


def document(existing: Entry) -> Entry:
    """Return all vectors; hybrid heads are taken from `existing` where they are in it."""
    heads = {entry["name"]: entry["head"] for entry in existing.get("envelopes", [])}
    return {
        "plaintext": "plaintext",
        "parties": [_party(name, identity) for name, identity in PARTIES.items()],
        "contexts": [_context(name, context) for name, context in CONTEXTS.items()],
        "metas": [_meta(name, meta) for name, meta in METAS.items()],
        "envelopes": [_envelope(case, heads.get(case.name)) for case in cases()],
        "faults": faults(),
    }


def render(entry: Entry) -> str:
    """Return the text of envelopes.json."""
    return json.dumps(entry, indent=1, ensure_ascii=True) + "\n"


def _party(name: str, identity: Identity) -> Entry:
    return {
        "name": name,
        "class": identity.key_class,
        "identity": identity.to_text(),
        "recipient": str(identity.recipient()),
    }


def _context(name: str, context: Context) -> Entry:
    fields = dataclasses.asdict(context)
    return {"name": name, **fields, "canonical": context.canonical().hex()}


def _meta(name: str, meta: Meta) -> Entry:
    fields = {"content_type": meta.content_type, "filename": meta.filename}
    return {"name": name, **fields, "canonical": meta.canonical().hex()}


def _envelope(case: Case, kept_head: str | None) -> Entry:
    recipients: list[Recipient] = [PARTIES[name].recipient() for name in case.recipients]
    meta = METAS[case.meta] if case.meta else None
    context = CONTEXTS[case.context]
    sealed = seal(
        plaintext_of(case.size),
        recipients,
        context=context,
        meta=meta,
        random=FixedRandom(case.name),
    )
    hybrid = context.key_class == "hybrid"
    head = base64.b64decode(kept_head) if hybrid and kept_head else sealed.head
    opened = open_head(head, [PARTIES[case.recipients[0]]])
    payload = sealed.payload
    whole = len(payload) <= KEPT_WHOLE_SIZE_MAX
    return {
        "name": case.name,
        "context": case.context,
        "meta": case.meta,
        "recipients": case.recipients,
        "plaintext_size": case.size,
        "plaintext_sha256": hashlib.sha256(plaintext_of(case.size)).hexdigest(),
        "file_key": opened.file_key.expose().hex(),
        "file_key_print": opened.file_key_print.hex(),
        "nonce": opened.nonce.hex(),
        "head": base64.b64encode(head).decode("ascii"),
        "payload": base64.b64encode(payload).decode("ascii") if whole else None,
        "payload_size": len(payload),
        "payload_sha256": hashlib.sha256(payload).hexdigest(),
        "leaves_sha256": [
            hashlib.sha256(payload[start : start + LEAF_SIZE]).hexdigest()
            for start in range(0, len(payload), LEAF_SIZE)
        ],
    }


def main() -> None:
    """Write the file anew."""
    existing = json.loads(FILE.read_text("ascii")) if FILE.exists() else {}
    FILE.write_text(render(document(existing)), "ascii")


if __name__ == "__main__":
    main()
