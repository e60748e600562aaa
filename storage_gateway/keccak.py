"""Keccak-256, the hash of Ethereum's address checksum.

Not SHA3-256 of hashlib, which pads differently. Pure Python and slow (about 0.2 ms a block): for
addresses only, never for content and never for secrets.
"""

from typing import Final

_MASK: Final = (1 << 64) - 1
_ROUNDS: Final = 24
_LANE_SIZE: Final = 8
_RATE: Final = 136  # bytes: 1600 bits of state less twice the 256 of the digest
_DIGEST_SIZE: Final = 32
_PADDING_START: Final = 0x01  # SHA-3 has 0x06 here; all else is the same
_PADDING_END: Final = 0x80


def keccak_256(data: bytes) -> bytes:
    """The 32-byte Keccak-256 digest of `data`.

    Source: The Keccak reference, version 3.0 (keccak.team), Keccak[r=1088, c=512].
    """
    return _sponge(data, padding_start=_PADDING_START)


def _sponge(data: bytes, *, padding_start: int) -> bytes:
    padded = bytearray(data)
    padded.append(padding_start)
    padded.extend(bytes(-len(padded) % _RATE))
    padded[-1] |= _PADDING_END
    lanes = [0] * 25
    for start in range(0, len(padded), _RATE):
        for lane in range(_RATE // _LANE_SIZE):
            at = start + lane * _LANE_SIZE
            lanes[lane] ^= int.from_bytes(padded[at : at + _LANE_SIZE], "little")
        lanes = _permute(lanes)
    return b"".join(lane.to_bytes(_LANE_SIZE, "little") for lane in lanes)[:_DIGEST_SIZE]


def _permute(lanes: list[int]) -> list[int]:
    """Keccak-f[1600] on 25 lanes of 64 bits; lane (x, y) stands at x + 5y."""
    for constant in _ROUND_CONSTANTS:
        # theta
        columns = [
            lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20]
            for x in range(5)
        ]
        mixed = [columns[(x + 4) % 5] ^ _rotate(columns[(x + 1) % 5], 1) for x in range(5)]
        # rho and pi
        moved = [0] * 25
        for x, y, target, offset in _MOVES:
            moved[target] = _rotate(lanes[x + 5 * y] ^ mixed[x], offset)
        # chi
        lanes = [
            moved[x + row] ^ (~moved[(x + 1) % 5 + row] & moved[(x + 2) % 5 + row])
            for row in range(0, 25, 5)
            for x in range(5)
        ]
        # iota
        lanes[0] ^= constant
    return lanes


def _rotate(lane: int, offset: int) -> int:
    return (lane << offset | lane >> (64 - offset)) & _MASK


def _moves() -> list[tuple[int, int, int, int]]:
    """For each lane: x, y, where pi moves it, how far rho rotates it."""
    offsets = {(0, 0): 0}
    x, y = 1, 0
    for t in range(_ROUNDS):
        offsets[x, y] = (t + 1) * (t + 2) // 2 % 64
        x, y = y, (2 * x + 3 * y) % 5
    return [(x, y, y + 5 * ((2 * x + 3 * y) % 5), offset) for (x, y), offset in offsets.items()]


def _round_constants() -> list[int]:
    """The 24 constants of iota: bit 2^j - 1 of round i is rc(j + 7i), from the reference's LFSR."""
    constants = []
    register = 1
    for _ in range(_ROUNDS):
        constant = 0
        for j in range(7):
            constant |= (register & 1) << (2**j - 1)
            register = register << 1 ^ (0x171 if register & 0x80 else 0)
        constants.append(constant)
    return constants


_MOVES: Final = _moves()
_ROUND_CONSTANTS: Final = _round_constants()
