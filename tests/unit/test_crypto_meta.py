"""Goal: content type and file name travel sealed, in one canonical form, within 1 KiB.
Method: known answers, limits, an independent opening, and stanzas that hold anything else.
"""

from __future__ import annotations

import hmac
import json

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from crypto import HeaderError, Meta, MetaError, Secret, Stanza
from crypto.meta import check_meta_shape, meta_stanza, open_meta
from crypto.primitives import decode_base64, encode_base64
from tests.unit.crypto_samples import FixedRandom, flip

FILE_KEY = Secret(b"YELLOW SUBMARINE")
LABEL = b"storage-gateway/meta-v1"


def _meta_key() -> bytes:
    extracted = hmac.digest(bytes(32), FILE_KEY.expose(), "sha256")
    return hmac.digest(extracted, LABEL + b"\x01", "sha256")


def _sealed(plaintext: bytes) -> Stanza:
    nonce = FixedRandom("meta")(12)
    body = ChaCha20Poly1305(_meta_key()).encrypt(nonce, plaintext, None)
    return Stanza(LABEL.decode(), (encode_base64(nonce),), body)


def test_the_canonical_form() -> None:
    expected = b'{"content_type":"text/plain","filename":"\xc3\xa4 \\"1\\".txt"}'

    assert expected.ljust(128) == Meta("text/plain", 'ä "1".txt').canonical()
    assert b'{"content_type":"a/b","filename":null}'.ljust(128) == Meta("a/b").canonical()


def test_a_form_that_fills_its_block_gets_no_padding() -> None:
    name = "n" * (128 - len(Meta("a/b", "n").canonical().rstrip()) + 1)

    assert 128 == len(Meta("a/b", name).canonical())
    assert b"}" == Meta("a/b", name).canonical()[-1:]
    assert 256 == len(Meta("a/b", name + "n").canonical())


def test_the_stanza_opens_by_the_book() -> None:
    meta = Meta("text/plain", "answer.txt")
    stanza = meta_stanza(FILE_KEY, meta, random=FixedRandom("meta"))
    nonce = decode_base64(stanza.args[0])
    assert nonce is not None
    plaintext = ChaCha20Poly1305(_meta_key()).decrypt(nonce, stanza.body, None)

    assert "storage-gateway/meta-v1" == stanza.type
    assert FixedRandom("meta")(12) == nonce
    assert {"content_type": "text/plain", "filename": "answer.txt"} == json.loads(plaintext)
    assert meta == open_meta(FILE_KEY, stanza)


@given(
    kind=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=80),
    name=st.none()
    | st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=80),
)
def test_any_lawful_meta_survives_the_round_trip(kind: str, name: str | None) -> None:
    meta = Meta(kind, name)
    stanza = meta_stanza(FILE_KEY, meta, random=FixedRandom("meta"))

    check_meta_shape(stanza)
    assert meta == open_meta(FILE_KEY, stanza)


def test_the_limit_is_one_kibibyte() -> None:
    rest = len(Meta("a/b", "n").canonical().rstrip()) - 1
    largest = Meta("a/b", "n" * (1024 - rest))
    stanza = meta_stanza(FILE_KEY, largest, random=FixedRandom("meta"))

    check_meta_shape(stanza)
    assert largest == open_meta(FILE_KEY, stanza)
    with pytest.raises(MetaError, match="1025 bytes"):
        Meta("a/b", "n" * (1025 - rest)).canonical()


@pytest.mark.parametrize("name", [" ", "~", "\u00a0", "/", "\U0001f600", "\u2028"])
def test_names_next_to_the_forbidden_are_kept(name: str) -> None:
    stanza = meta_stanza(FILE_KEY, Meta(" ~", name), random=FixedRandom("meta"))

    assert Meta(" ~", name) == open_meta(FILE_KEY, stanza)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("", None),
        ("text/plain\r\nX-Evil: 1", None),
        ("tëxt/plain", None),
        ("a/b", ""),
        ("a/b", "a\nb"),
        ("a/b", "a\x00b"),
        ("a/b", "a\x7fb"),
        ("a/b", "a\x80b"),
        ("a/b", "a\x85b"),
        ("a/b", "a\x9fb"),
        ("a/b", "a\x1fb"),
        ("a/b", "a\ud800b"),
        # What a caller without types may give.
        (None, None),
        (b"a/b", None),
        ("a/b", b"name"),
        ("a/b", ["n"]),
        ("a/b", 7),
    ],
)
def test_unlawful_values_are_refused(kind: object, name: object) -> None:
    with pytest.raises(MetaError):
        Meta(kind, name)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "plaintext",
    [
        b" " * 128,
        b"{}".ljust(128),
        b"[]".ljust(128),
        b'"a"'.ljust(128),
        b'{"content_type":"a/b"}'.ljust(128),
        b'{"content_type":"a/b","filename":null,"x":1}'.ljust(128),
        b'{"filename":null,"content_type":"a/b"}'.ljust(128),
        b'{"content_type":"a/b", "filename":null}'.ljust(128),
        b'{"content_type":"a/b","filename":null}'.ljust(256),
        b'{"content_type":"a/b","filename":null}'.ljust(128, b"\0"),
        b'{"content_type":"a/b","filename":null}'.rjust(128),
        b'{"content_type":"a/b","filename":"\\u0061"}'.ljust(128),
        b'{"content_type":"a/b","filename":"\xff"}'.ljust(128),
        b'{"content_type":"a/b","filename":1}'.ljust(128),
        b'{"content_type":null,"filename":null}'.ljust(128),
        b'{"content_type":"a\\nb","filename":null}'.ljust(128),
        b'{"content_type":"a/b","content_type":"a/b","filename":null}'.ljust(128),
        b'{"content_type":"a/b","filename":"\\ud800"}'.ljust(128),
        b"[" * 1024,
    ],
)
def test_anything_but_the_canonical_form_is_refused(plaintext: bytes) -> None:
    with pytest.raises(MetaError):
        open_meta(FILE_KEY, _sealed(plaintext))


def test_a_changed_stanza_or_another_key_is_refused() -> None:
    stanza = meta_stanza(FILE_KEY, Meta("a/b"), random=FixedRandom("meta"))

    for bit in range(0, len(stanza.body) * 8, 37):
        with pytest.raises(MetaError):
            open_meta(FILE_KEY, Stanza(stanza.type, stanza.args, flip(stanza.body, bit)))
    with pytest.raises(MetaError):
        open_meta(Secret(bytes(16)), stanza)


@pytest.mark.parametrize(
    ("args", "size"),
    [
        ((), 144),
        (("A" * 16, "A" * 16), 144),
        (("A" * 15,), 144),
        (("A" * 18,), 144),
        (("A" * 15 + "=",), 144),
        (("A" * 16,), 16),
        (("A" * 16,), 0),
        (("A" * 16,), 145),
        (("A" * 16,), 1024 + 16 + 128),
    ],
)
def test_another_shape_is_refused(args: tuple[str, ...], size: int) -> None:
    with pytest.raises(HeaderError):
        check_meta_shape(Stanza("storage-gateway/meta-v1", args, bytes(size)))
