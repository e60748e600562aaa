"""Goal: docs/format.md is enough to write a second reader.
Method: a reader written from it (independent_reader.py) opens our vectors, the public ones and
fresh envelopes, and refuses every fault by the same name as the package.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import Context, EnvelopeError, Identity, Meta, open_envelope, seal
from tests.unit.crypto_samples import CONTEXT, HYBRID_CONTEXT, HYBRID_USER, USER, FixedRandom, flip
from tests.unit.independent_reader import (
    Refused,
    check_context,
    open_file_key,
    open_payload,
    read_meta,
)
from tests.unit.test_crypto_own_vectors import (
    CONTEXTS,
    ENVELOPES,
    METAS,
    PARTIES,
    PAYLOADS,
    VECTORS,
    spoil,
)
from tests.unit.test_crypto_vectors import EXPECTATIONS, HOW, Vector
from tests.unit.test_crypto_vectors import VECTORS as PUBLIC

READER = Path(__file__).with_name("independent_reader.py")


def fields_of(context: dict[str, Any]) -> list[str | None]:
    return list(context.values())[1:-1]


def read(head: bytes, payload: bytes, identity: str, fields: list[str | None] | None) -> bytes:
    file_key, stanzas = open_file_key(head, [identity])
    if fields is not None:
        check_context(file_key, stanzas, fields)
    return open_payload(file_key, head[-16:], payload)


def test_it_is_short_and_shares_no_code() -> None:
    text = READER.read_text("utf-8")

    assert 150 >= len([line for line in text.splitlines() if line.strip()])
    for package in ("crypto", "urn", "storage_gateway", "tests"):
        assert f"import {package}\n" not in text
        assert f"from {package}" not in text.replace("from cryptography", "")


@pytest.mark.parametrize("name", ENVELOPES)
def test_it_opens_our_vectors(name: str) -> None:
    entry = ENVELOPES[name]
    head, context = base64.b64decode(entry["head"]), CONTEXTS[entry["context"]]
    for party in dict.fromkeys(entry["recipients"]):
        identity = PARTIES[party]["identity"]
        plaintext = read(head, PAYLOADS[name], identity, fields_of(context))
        file_key, stanzas = open_file_key(head, [identity])
        meta = read_meta(file_key, stanzas)

        assert entry["plaintext_sha256"] == hashlib.sha256(plaintext).hexdigest()
        assert entry["file_key"] == file_key.hex()
        expected = METAS[entry["meta"]] if entry["meta"] else None
        assert (expected and {key: expected[key] for key in ("content_type", "filename")}) == meta


@pytest.mark.parametrize(
    "fault", VECTORS["faults"], ids=[f"{i}" for i in range(len(VECTORS["faults"]))]
)
def test_it_refuses_every_fault_by_its_name(fault: dict[str, Any]) -> None:
    entry, part = ENVELOPES[fault["of"]], fault["part"]
    head, payload = base64.b64decode(entry["head"]), PAYLOADS[fault["of"]]
    party = fault["use"] if part == "identity" else entry["recipients"][0]
    context = fault["use"] if part == "context" else entry["context"]
    with pytest.raises(Refused) as caught:
        read(
            spoil(fault, head) if part == "head" else head,
            spoil(fault, payload) if part == "payload" else payload,
            PARTIES[party]["identity"],
            fields_of(CONTEXTS[context]),
        )

    assert fault["error"] == str(caught.value)


@pytest.mark.parametrize("name", PUBLIC or ["none"])
def test_it_agrees_with_the_public_vectors(name: str) -> None:
    if name not in PUBLIC:
        pytest.skip(HOW)
    vector: Vector = PUBLIC[name]
    end = vector.data.find(b"\n", vector.data.find(b"\n---") + 1) + 1
    head, payload = vector.data[: end + 16], vector.data[end + 16 :]
    expected = EXPECTATIONS[vector.head["expect"]]
    if expected is None:
        plaintext = read(head, payload, vector.head["identity"], None)
        assert vector.head["payload"] == hashlib.sha256(plaintext).hexdigest()
        return
    with pytest.raises(Refused) as caught:
        read(head, payload, vector.head["identity"], None)
    assert expected.__name__ == str(caught.value)


CASES: list[tuple[Identity, Context]] = [(USER, CONTEXT), (HYBRID_USER, HYBRID_CONTEXT)]


@given(data=st.data(), plaintext=st.binary(max_size=100))
def test_it_refuses_what_the_package_refuses(data: st.DataObject, plaintext: bytes) -> None:
    identity, context = data.draw(st.sampled_from(CASES))
    meta = Meta("text/plain", "a.txt")
    random = FixedRandom("document")
    sealed = seal(plaintext, [identity.recipient()], context=context, meta=meta, random=random)
    text, fields = identity.to_text(), list(dataclasses.astuple(context))
    head = flip(sealed.head, data.draw(st.integers(0, len(sealed.head) * 8 - 1)))

    assert plaintext == read(sealed.head, sealed.payload, text, fields)
    with pytest.raises(EnvelopeError) as caught:
        open_envelope(head, sealed.payload, [identity], context=context)
    with pytest.raises(Refused) as refused:
        read(head, sealed.payload, text, fields)
    assert caught.type.__name__ == str(refused.value)
