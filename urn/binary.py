"""What the binary formats have in common: numbers, and bytes that are read from left to right.

Numbers are unsigned varints, seven bits a byte, the lowest first, as Protocol Buffers and CAR write
them, of at most 9 bytes. Source: github.com/multiformats/unsigned-varint. Pure.
"""

from typing import Final

NUMBER_SIZE_MAX: Final = 9
NUMBER_MAX: Final = 2**63 - 1

_MORE: Final = 0x80


class Fault(ValueError):
    """What a reader did not find: `reason` says what was expected, `position` where (0-based).

    For this package only: each format has an error of its own, which it is turned into.
    """

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(reason, position)
        self.reason = reason
        self.position = position


def encode_number(value: int) -> bytes:
    """The one encoding of a number; raises `ValueError` for one below 0 or above `NUMBER_MAX`."""
    if not 0 <= value <= NUMBER_MAX:
        raise ValueError(f"expected a number of 0 to 63 bits, got {value}")
    encoded = bytearray()
    while value >= _MORE:
        encoded.append(value & 0x7F | _MORE)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


class Reader:
    """The bytes of `data` from `at` to `stop`, read one part after the other.

    Each method raises `Fault` at the first byte that is not as `what` says, or at `stop` when
    something is missing there.
    """

    def __init__(self, data: bytes, at: int, stop: int) -> None:
        self.data = data
        self.at = at
        self.stop = stop

    def next_is(self, expected: bytes) -> bool:
        """Tell whether these bytes come next; they stay where they are."""
        return self.data[self.at : min(self.at + len(expected), self.stop)] == expected

    def literal(self, expected: bytes, what: str) -> None:
        """Pass over exactly these bytes."""
        if not self.next_is(expected):
            found = self.data[self.at : min(self.at + len(expected), self.stop)]
            same = next((i for i, it in enumerate(found) if it != expected[i]), len(found))
            raise Fault(f"expected {what}", self.at + same)
        self.at += len(expected)

    def number(self, what: str) -> int:
        """Read a number, no longer than it need be."""
        value = 0
        for index in range(NUMBER_SIZE_MAX):
            if self.at + index >= self.stop:
                raise Fault(f"expected {what}", self.stop)
            byte = self.data[self.at + index]
            value |= (byte & 0x7F) << 7 * index
            if byte < _MORE:
                if index and not byte:
                    raise Fault(f"expected {what} as short as can be", self.at + index)
                self.at += index + 1
                return value
        reason = f"expected {what} of at most {NUMBER_SIZE_MAX} bytes"
        raise Fault(reason, self.at + NUMBER_SIZE_MAX - 1)

    def part(self, size: int, what: str) -> "Reader":
        """Pass over `size` bytes, and return a reader for them."""
        if size > self.stop - self.at:
            there = self.stop - self.at
            raise Fault(f"expected {what} of {size} bytes, there are {there}", self.stop)
        self.at += size
        return Reader(self.data, self.at - size, self.at)

    def rest(self) -> bytes:
        """What is left; it stays where it is."""
        return self.data[self.at : self.stop]

    def end(self, what: str) -> None:
        """Make sure that nothing is left."""
        if self.at != self.stop:
            raise Fault(f"expected {what}", self.at)
