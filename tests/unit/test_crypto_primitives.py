"""Goal: key derivation is HKDF-SHA256 and the code HMAC-SHA256, byte for byte.
Method: answers of RFC 5869 and RFC 4231.
"""

from __future__ import annotations

import pytest

from crypto import Secret
from crypto.primitives import derive, mac


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


@pytest.mark.parametrize(
    ("key", "message", "expected"),
    [
        (  # RFC 4231, 4.2
            b"\x0b" * 20,
            b"Hi There",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        (  # RFC 4231, 4.3: a key shorter than the code
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
    ],
)
def test_the_codes_of_the_rfc(key: bytes, message: bytes, expected: str) -> None:
    assert expected == mac(Secret(key), message).hex()
