"""Goal: the known answers of tests/vectors/envelopes.json hold, for a clone that has nothing else.
Method: the file is made again, byte for byte; and read as a stranger would, sealed by hand.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

import crypto
from crypto import (
    CryptoError,
    Meta,
    open_envelope,
    open_file,
    open_head,
    parse_context,
    parse_identities,
    parse_recipient,
    rewrap,
)
from tests.unit.crypto_samples import plaintext_of
from tests.vectors import make_envelopes

TEXT = make_envelopes.FILE.read_text("ascii")
VECTORS = json.loads(TEXT)


def named(kind: str) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in VECTORS[kind]}


PARTIES, CONTEXTS, METAS, ENVELOPES = map(named, ("parties", "contexts", "metas", "envelopes"))


def payload_by_hand(entry: dict[str, Any]) -> bytes:
    """STREAM as docs/format.md, section 5 has it, from file key, nonce and plaintext."""
    file_key, nonce = bytes.fromhex(entry["file_key"]), bytes.fromhex(entry["nonce"])
    extracted = hmac.digest(nonce, file_key, "sha256")
    key = ChaCha20Poly1305(hmac.digest(extracted, b"payload\x01", "sha256"))
    plaintext = plaintext_of(entry["plaintext_size"])
    chunks = [plaintext[i : i + 65_536] for i in range(0, len(plaintext), 65_536)] or [b""]
    return b"".join(
        key.encrypt(i.to_bytes(11, "big") + (b"\1" if i == len(chunks) - 1 else b"\0"), chunk, None)
        for i, chunk in enumerate(chunks)
    )


PAYLOADS = {name: payload_by_hand(entry) for name, entry in ENVELOPES.items()}


def test_the_file_is_what_the_script_writes() -> None:
    """Classic envelopes byte for byte; hybrid heads are those of the file."""
    assert TEXT == make_envelopes.render(make_envelopes.document(VECTORS))


def test_a_missing_hybrid_head_is_made_anew_and_a_classic_one_as_before() -> None:
    fresh = make_envelopes.document({})["envelopes"]
    differing = {
        entry["name"] for entry in fresh if entry["head"] != ENVELOPES[entry["name"]]["head"]
    }

    assert {name for name in ENVELOPES if name.startswith("hybrid")} == differing
    assert 3 == len(differing)


@pytest.mark.parametrize("name", PARTIES)
def test_parties(name: str) -> None:
    party = PARTIES[name]
    (identity,) = parse_identities(party["identity"])

    assert party["class"] == identity.key_class
    assert party["recipient"] == str(identity.recipient())
    assert identity.recipient() == parse_recipient(party["recipient"])


@pytest.mark.parametrize("name", CONTEXTS)
def test_contexts(name: str) -> None:
    entry = CONTEXTS[name]
    context = parse_context(bytes.fromhex(entry["canonical"]))

    assert entry == {
        "name": name,
        **{field: getattr(context, field) for field in list(entry)[1:-1]},
        "canonical": context.canonical().hex(),
    }


@pytest.mark.parametrize("name", METAS)
def test_metas(name: str) -> None:
    entry = METAS[name]
    canonical = bytes.fromhex(entry["canonical"])
    values = {"content_type": entry["content_type"], "filename": entry["filename"]}

    assert canonical == Meta(**values).canonical()
    assert values == json.loads(canonical)
    assert 0 == len(canonical) % 128


@pytest.mark.parametrize("name", ENVELOPES)
def test_envelopes(name: str) -> None:
    entry, payload = ENVELOPES[name], PAYLOADS[name]
    head = base64.b64decode(entry["head"])
    context = parse_context(bytes.fromhex(CONTEXTS[entry["context"]]["canonical"]))
    leaves = [payload[i : i + 983_280] for i in range(0, len(payload), 983_280)]

    assert entry["payload_sha256"] == hashlib.sha256(payload).hexdigest()
    assert entry["payload_size"] == len(payload)
    assert entry["leaves_sha256"] == [hashlib.sha256(leaf).hexdigest() for leaf in leaves]
    assert entry["payload"] in {None, base64.b64encode(payload).decode()}
    for party in dict.fromkeys(entry["recipients"]):
        identities = parse_identities(PARTIES[party]["identity"])
        opened = open_head(head, identities)
        plaintext = open_envelope(head, payload, identities, context=context)
        meta = opened.meta()

        assert entry["plaintext_sha256"] == hashlib.sha256(plaintext).hexdigest()
        assert plaintext == open_file(head + payload, identities)
        assert entry["file_key"] == opened.file_key.expose().hex()
        assert entry["file_key_print"] == opened.file_key_print.hex()
        assert entry["nonce"] == opened.nonce.hex()
        expected = METAS[entry["meta"]] if entry["meta"] else None
        assert (expected and expected["canonical"]) == (meta and meta.canonical().hex())


@pytest.mark.parametrize("name", ENVELOPES)
def test_stanzas_are_in_the_order_of_the_recipients(name: str) -> None:
    entry = ENVELOPES[name]
    current = [parse_recipient(PARTIES[party]["recipient"]) for party in entry["recipients"]]
    head = base64.b64decode(entry["head"])
    kept = parse_identities(PARTIES[entry["recipients"][-1]]["identity"])

    # Only the last one's stanza stays: it opens, so it was that one's.
    rewrapped = rewrap(head, kept, current=current, wanted=current[-1:])
    assert entry["file_key"] == open_head(rewrapped, kept).file_key.expose().hex()


def spoil(fault: dict[str, Any], data: bytes) -> bytes:
    if "flip_byte" in fault:
        at = fault["flip_byte"] % len(data)
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    if "of_other" in fault:
        return base64.b64decode(ENVELOPES[fault["of_other"]]["head"])
    return data[: fault["cut_to"]] if "cut_to" in fault else data + bytes.fromhex(fault["append"])


@pytest.mark.parametrize(
    "fault", VECTORS["faults"], ids=[f"{i}" for i in range(len(VECTORS["faults"]))]
)
def test_faults(fault: dict[str, Any]) -> None:
    entry = ENVELOPES[fault["of"]]
    parts = {
        "head": base64.b64decode(entry["head"]),
        "payload": PAYLOADS[fault["of"]],
        "identity": PARTIES[entry["recipients"][0]]["identity"],
        "context": CONTEXTS[entry["context"]]["canonical"],
    }
    if fault["part"] == "identity":
        parts["identity"] = PARTIES[fault["use"]]["identity"]
    elif fault["part"] == "context":
        parts["context"] = CONTEXTS[fault["use"]]["canonical"]
    else:
        parts[fault["part"]] = spoil(fault, parts[fault["part"]])
    expected: type[CryptoError] = getattr(crypto, fault["error"])

    with pytest.raises(expected) as caught:
        open_envelope(
            parts["head"],
            parts["payload"],
            parse_identities(parts["identity"]),
            context=parse_context(bytes.fromhex(parts["context"])),
        )
    assert expected is type(caught.value)
