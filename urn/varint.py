"""Unsigned varints: seven bits a byte, the lowest first, as Protocol Buffers and CAR write them.

Source: github.com/multiformats/unsigned-varint. Pure.
"""

from typing import Final

VARINT_SIZE_MAX: Final = 9  # 63 bits, the most that the source allows

_MORE: Final = 0x80


class VarintError(ValueError):
    """Bytes that do not begin with a varint: `reason`, and the 0-based `position` of the fault."""

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(reason, position)
        self.reason = reason
        self.position = position


def encode_varint(value: int) -> bytes:
    """The one encoding of a number from 0 to 2 ** 63 - 1."""
    encoded = bytearray()
    while value >= _MORE:
        encoded.append(value & 0x7F | _MORE)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def read_varint(data: bytes, start: int = 0) -> tuple[int, int]:
    """Read the number at `start`; returns it and the position of what follows.

    Raises `VarintError` for one that is cut off (its position is the length of `data`), longer than
    9 bytes, or longer than it need be.
    """
    value = 0
    for index in range(VARINT_SIZE_MAX):
        position = start + index
        if position >= len(data):
            raise VarintError("expected a varint to go on", len(data))
        byte = data[position]
        value |= (byte & 0x7F) << 7 * index
        if byte < _MORE:
            if index and not byte:
                raise VarintError("expected a varint as short as can be", position)
            return value, position + 1
    reason = f"expected a varint of at most {VARINT_SIZE_MAX} bytes"
    raise VarintError(reason, start + VARINT_SIZE_MAX - 1)
