"""Goal: the key derivation is HKDF-SHA256, byte for byte. Method: answers of RFC 5869."""

from __future__ import annotations

import pytest

from crypto import Secret
from crypto.primitives import derive


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
