"""Bech32 (BIP 173) as age uses it: no length limit of 90, whole bytes only, strict both ways.

Pure text and bytes: it knows nothing of keys. Errors are ValueError whose text never holds the
input, as that may be a private key; callers turn it into their own type.
"""

from __future__ import annotations

from typing import Final

_ALPHABET: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUES: Final = {letter: value for value, letter in enumerate(_ALPHABET)}
_GENERATOR: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM_LENGTH: Final = 6
_BECH32: Final = 1
_BECH32M: Final = 0x2BC830A3
_ASCII_PRINTABLE_MIN: Final = 33
_ASCII_PRINTABLE_MAX: Final = 126


def encode(prefix: str, data: bytes) -> str:
    """Return lower-case Bech32 of `data` under a lower-case human-readable prefix."""
    values = _regroup(data, 8, 5)
    if (rest := len(data) * 8 % 5) != 0:
        last = data[-1] << (5 - rest) & 31
        values.append(last)
    checksum = _polymod([*_expand(prefix), *values, *bytes(_CHECKSUM_LENGTH)]) ^ _BECH32
    values += [checksum >> 5 * (5 - i) & 31 for i in range(_CHECKSUM_LENGTH)]
    return prefix + "1" + "".join(_ALPHABET[value] for value in values)


def decode(text: str, prefix: str, size: int) -> bytes:
    """Return the `size` bytes behind `text`, which must bear `prefix` in its very case.

    Raises ValueError naming the fault: characters outside printable ASCII, mixed case, no or a
    wrong prefix, length, alphabet, checksum (Bech32m is told apart), non-zero padding.
    """
    if not all(_ASCII_PRINTABLE_MIN <= ord(letter) <= _ASCII_PRINTABLE_MAX for letter in text):
        msg = "it holds a character outside printable ASCII"
        raise ValueError(msg)
    if text not in (text.lower(), text.upper()):
        msg = "it mixes upper and lower case"
        raise ValueError(msg)
    found, separator, rest = text.rpartition("1")
    if not separator or found != prefix:
        msg = f"it does not begin with {prefix}1"
        raise ValueError(msg)
    length = -(-size * 8 // 5) + _CHECKSUM_LENGTH
    if len(rest) != length:
        msg = f"{length} characters belong after {prefix}1, there are {len(rest)}"
        raise ValueError(msg)
    return _decode_values(found.lower(), rest.lower())


def _decode_values(prefix: str, rest: str) -> bytes:
    values = [_VALUES.get(letter, -1) for letter in rest]
    if -1 in values:
        msg = f"character {values.index(-1) + 1} after the prefix is not of the Bech32 alphabet"
        raise ValueError(msg)
    checksum = _polymod([*_expand(prefix), *values])
    if checksum != _BECH32:
        msg = "its checksum is that of Bech32m" if checksum == _BECH32M else "its checksum is wrong"
        raise ValueError(msg)
    values = values[:-_CHECKSUM_LENGTH]
    padding = len(values) * 5 % 8
    if values and values[-1] & ((1 << padding) - 1):
        msg = "its padding bits are not zero"
        raise ValueError(msg)
    return bytes(_regroup(values, 5, 8))


def _regroup(values: bytes | list[int], source: int, target: int) -> list[int]:
    """Regroup bits from `source` to `target` wide numbers, dropping an incomplete last one."""
    result: list[int] = []
    held = 0
    count = 0
    for value in values:
        held = (held << source | value) & 0xFFF
        count += source
        while count >= target:
            count -= target
            result.append(held >> count & ((1 << target) - 1))
    return result


def _expand(prefix: str) -> list[int]:
    codes = prefix.encode("ascii")
    return [*(code >> 5 for code in codes), 0, *(code & 31 for code in codes)]


def _polymod(values: list[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for i, generator in enumerate(_GENERATOR):
            checksum ^= generator if top >> i & 1 else 0
    return checksum
