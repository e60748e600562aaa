"""Content identifiers: the CID value, in the one binary and the one text form of the profile.

Pure: holds no content, and accepts no other version, hash, codec or spelling than these.
"""

import builtins
from base64 import b32decode, b32encode
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

CID_SIZE: Final = 36

_DIGEST_SIZE: Final = 32
_VERSION: Final = b"\x01"
_SHA2_256: Final = b"\x12\x20"
_TEXT_LENGTH: Final = 59
_MULTIBASE_BASE32: Final = "b"
_BASE32: Final = frozenset("abcdefghijklmnopqrstuvwxyz234567")
_LAST: Final = frozenset("aeimquy4")
"""Digits of base32 whose last two bits are 0."""


class CIDError(ValueError):
    """Text or bytes that are not a CID of the profile: `reason` says what was expected.

    `position` is the 0-based index of the first fault, in characters of the text or in bytes; it
    is the length when something is missing at the end. Text is checked for its characters, then
    for its length, then for what it spells, where the position is that of the first character
    which holds bits of the faulty byte.
    """

    def __init__(self, reason: str, position: int = 0) -> None:
        super().__init__(reason, position)
        self.reason = reason
        self.position = position

    def __str__(self) -> str:
        return f"not a CID of this profile at position {self.position}: {self.reason}"


class Codec(IntEnum):
    """The multicodec of a block: a bare leaf, or a dag-pb node above leaves."""

    RAW = 0x55
    DAG_PB = 0x70


_CODECS: Final = frozenset(Codec)


@dataclass(frozen=True, slots=True)
class CID:
    """A CIDv1 with a SHA-256 digest: `codec` and the 32 bytes of `digest`.

    `str()` is multibase base32 in lower case (59 characters), `.bytes` the 36 binary bytes.
    Source: github.com/multiformats/cid. Raises `CIDError` for another codec and for a digest of
    another length. The digest is not checked against any content, and kept as `bytes` whatever
    buffer it came in.
    """

    codec: Codec
    digest: builtins.bytes  # `bytes` is a property here

    def __post_init__(self) -> None:
        # An int that is no Codec would be written, and could not be read again.
        if self.codec not in _CODECS:
            raise CIDError(f"expected codec raw or dag-pb, found 0x{self.codec:02x}", 1)
        object.__setattr__(self, "codec", Codec(self.codec))
        # A view makes sure of a buffer: bytes() would make 32 zeros of the number 32.
        object.__setattr__(self, "digest", builtins.bytes(memoryview(self.digest)))
        if len(self.digest) != _DIGEST_SIZE:
            reason = f"expected a SHA-256 digest of {_DIGEST_SIZE} bytes, got {len(self.digest)}"
            raise CIDError(reason, CID_SIZE - _DIGEST_SIZE)

    def __str__(self) -> str:
        return _MULTIBASE_BASE32 + b32encode(self.bytes).decode("ascii").rstrip("=").lower()

    @property
    def bytes(self) -> builtins.bytes:
        """Version, codec, multihash: 36 bytes."""
        return _VERSION + bytes([self.codec]) + _SHA2_256 + self.digest

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the one text form that `str()` writes; raises `CIDError` for any other."""
        if not text.startswith(_MULTIBASE_BASE32):
            raise CIDError("expected 'b', the multibase prefix of lower-case base32 (CIDv1)")
        # No further than a CID goes: what follows is too much, whatever it is.
        if not _BASE32.issuperset(text[1:_TEXT_LENGTH]):
            index = next(i for i, c in enumerate(text[1:], start=1) if c not in _BASE32)
            raise CIDError(f"expected lower-case base32, found {text[index]!a}", index)
        if len(text) != _TEXT_LENGTH:
            reason = f"expected {_TEXT_LENGTH} characters, there are {len(text)}"
            raise CIDError(reason, min(len(text), _TEXT_LENGTH))
        binary = b32decode(text[1:].upper() + "======")
        try:
            cid = cls.from_bytes(binary)
        except CIDError as error:
            raise CIDError(error.reason, 1 + error.position * 8 // 5) from None
        # 58 characters carry two bits more than 36 bytes do; a CID has one spelling: they are 0.
        if text[-1] not in _LAST:
            raise CIDError("expected the unused last two bits to be zero", _TEXT_LENGTH - 1)
        return cid

    @classmethod
    def from_bytes(cls, binary: builtins.bytes) -> Self:
        """Read the 36 binary bytes; raises `CIDError`, its position counted in bytes."""
        if len(binary) != CID_SIZE:
            reason = f"expected {CID_SIZE} bytes, there are {len(binary)}"
            raise CIDError(reason, min(len(binary), CID_SIZE))
        if binary[:1] != _VERSION:
            raise CIDError(f"expected CID version 1, found {binary[0]}", 0)
        try:
            codec = Codec(binary[1])
        except ValueError:
            raise CIDError(f"expected codec raw or dag-pb, found 0x{binary[1]:02x}", 1) from None
        if binary[2:4] != _SHA2_256:
            fault = 2 if binary[2] != _SHA2_256[0] else 3
            reason = f"expected a 32-byte SHA-256 multihash, found {binary[2:4].hex()}"
            raise CIDError(reason, fault)
        return cls(codec, binary[4:])
