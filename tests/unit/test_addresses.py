"""Goal: addresses are read as Ethereum writes them, and a mistyped checksum is noticed.

Method: the known answers of EIP-55 and of Keccak, SHA-3 of hashlib as an oracle for everything but
the padding, tables of faults, and Hypothesis for the two forms.
"""

from hashlib import sha3_256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_gateway import keccak
from storage_gateway.addresses import AddressError, checksum_address, parse_address
from storage_gateway.keccak import keccak_256

# From the text of EIP-55.
EIP_55 = [
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
    "0xde709f2102306220921060314715629080e2fb77",
    "0x27b1fdb04752bbc536007a920d24acb045561c26",
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
]
MIXED = EIP_55[4]

addresses = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())


@pytest.mark.parametrize(
    ("data", "digest"),
    [
        (b"", "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"),
        (b"abc", "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"),
        (
            b"transfer(address,uint256)",  # whose first four bytes every token contract knows
            "a9059cbb2ab09eb219583f4a59a5d0623ade346d962bcd4e46b11da047c9049b",
        ),
    ],
)
def test_keccak_gives_the_known_answers(data: bytes, digest: str) -> None:
    assert digest == keccak_256(data).hex()


@given(st.integers(0, 300).map(bytes) | st.binary(max_size=300))
def test_with_the_padding_of_sha_3_keccak_is_sha_3(data: bytes) -> None:
    assert sha3_256(data).digest() == keccak._sponge(data, padding_start=0x06)
    assert sha3_256(data).digest() != keccak_256(data)


@pytest.mark.parametrize("address", EIP_55)
def test_the_examples_of_eip_55_are_read_and_written(address: str) -> None:
    assert address.lower() == parse_address(address)
    assert address == checksum_address(address.lower())
    assert address == checksum_address(address)


@given(addresses)
def test_one_case_or_the_checksum_is_taken(address: str) -> None:
    assert address == parse_address(address)
    assert address == parse_address("0x" + address[2:].upper())
    assert address == parse_address(checksum_address(address))


def test_digits_alone_have_no_case() -> None:
    assert "0x" + "1" * 40 == parse_address("0x" + "1" * 40) == checksum_address("0x" + "1" * 40)


@pytest.mark.parametrize("index", [i for i, c in enumerate(MIXED) if c.isalpha() and i > 1])
def test_any_letter_of_the_checksum_in_the_other_case_is_refused(index: int) -> None:
    wrong = MIXED[:index] + MIXED[index].swapcase() + MIXED[index + 1 :]

    with pytest.raises(AddressError, match="must be an EIP-55 checksum and this one is wrong"):
        parse_address(wrong)
    with pytest.raises(AddressError):
        checksum_address(wrong)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected '0x' at position 0"),
        (MIXED[2:], "expected '0x' at position 0"),
        ("0X" + MIXED[2:].upper(), "expected '0x' at position 0"),
        (" " + MIXED, "expected '0x' at position 0"),
        ("0x", "expected 40 hex digits after '0x', there are 0"),
        (MIXED[:-1], "there are 39"),
        (MIXED + "0", "there are 41"),
        (MIXED + "\n", "expected a hex digit at position 42"),
        ("0x" + "g" + "0" * 39, "expected a hex digit at position 2"),
        ("0x" + "0" * 39 + "\u0661", "expected a hex digit at position 41"),
        ("0x../../" + "0" * 34, "expected a hex digit at position 2"),
        ("0x" + "0" * 20 + "_" + "0" * 19, "expected a hex digit at position 22"),
    ],
)
def test_what_is_no_address_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_address(text)

    assert reason in str(caught.value)
