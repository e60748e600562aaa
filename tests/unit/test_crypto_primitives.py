"""Goal: the key derivation is HKDF-SHA256, byte for byte, though it is written out by hand.
Method: answers of RFC 5869, and the library's HKDF on anything else.
"""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from crypto import Secret
from crypto.primitives import derive

SHORT = st.binary(max_size=200)  # longer than a block of SHA-256, which HMAC treats otherwise


@pytest.mark.parametrize(
    ("key", "salt", "info", "expected"),
    [
        (  # RFC 5869, A.1: the first 32 of its 42 bytes
            b"\x0b" * 22,
            bytes(range(13)),
            bytes(range(0xF0, 0xFA)),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf",
        ),
        (  # RFC 5869, A.3: neither salt nor info
            b"\x0b" * 22,
            b"",
            b"",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d",
        ),
    ],
)
def test_the_answers_of_the_rfc(key: bytes, salt: bytes, info: bytes, expected: str) -> None:
    assert expected == derive(Secret(key), info, salt=salt).expose().hex()


@given(key=SHORT, salt=SHORT, info=SHORT)
def test_it_agrees_with_the_library(key: bytes, salt: bytes, info: bytes) -> None:
    expected = HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(key)

    assert expected == derive(Secret(key), info, salt=salt).expose()
