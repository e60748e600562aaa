"""Ethereum addresses, by which miners are named: lower-case hex inside, EIP-55 at the border.

Says whether text is an address; knows nothing of who holds it.
"""

from typing import Final

from storage_gateway.keccak import keccak_256

_PREFIX: Final = "0x"
_DIGITS_LENGTH: Final = 40
_HEX_DIGITS: Final = frozenset("0123456789abcdefABCDEF")
_UPPER_NIBBLE_MIN: Final = 8


class AddressError(ValueError):
    """Text that is not an Ethereum address; the message says what is wrong with it."""


def parse_address(text: str) -> str:
    """Read an address of 20 bytes: `0x` and 40 hex digits. Returns it in lower case.

    Digits all in lower or all in upper case are taken as they are. Mixed case is an EIP-55 checksum
    and must be right. Raises `AddressError`.
    """
    if not text.startswith(_PREFIX):
        raise AddressError("address: expected '0x' at position 0")
    digits = text.removeprefix(_PREFIX)
    for position, digit in enumerate(digits, start=len(_PREFIX)):
        if digit not in _HEX_DIGITS:
            raise AddressError(f"address: expected a hex digit at position {position}")
    if len(digits) != _DIGITS_LENGTH:
        reason = f"expected {_DIGITS_LENGTH} hex digits after '0x', there are {len(digits)}"
        raise AddressError(f"address: {reason}")
    address = _PREFIX + digits.lower()
    if digits not in (digits.lower(), digits.upper()) and text != _checksum(address):
        raise AddressError(
            "address: mixed case must be an EIP-55 checksum and this one is wrong; "
            "check the digits, or write them all in lower case"
        )
    return address


def checksum_address(address: str) -> str:
    """Write an address in the mixed case of EIP-55. Raises `AddressError` as `parse_address`."""
    return _checksum(parse_address(address))


def _checksum(address: str) -> str:
    """EIP-55: a letter is upper case where that nibble of the hash of the digits is 8 or more."""
    digits = address.removeprefix(_PREFIX)
    nibbles = keccak_256(digits.encode("ascii")).hex()
    return _PREFIX + "".join(
        digit.upper() if int(nibble, 16) >= _UPPER_NIBBLE_MIN else digit
        for digit, nibble in zip(digits, nibbles, strict=False)
    )
