"""Goal: Bech32 is strict in both directions.
Method: the valid and invalid strings of BIP 173 and BIP 350, then round trips and single faults.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import bech32

# Text, prefix in the text's case, bytes: all of BIP 173's valid strings that hold whole bytes.
VALID = [
    ("A12UEL5L", "A", b""),
    ("a12uel5l", "a", b""),
    (
        "an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio1tt5tgs",
        "an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio",
        b"",
    ),
    (
        "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw",
        "abcdef",
        bytes.fromhex("00443214c74254b635cf84653a56d7c675be77df"),
    ),
    ("11" + "q" * 82 + "c8247j", "1", bytes(51)),
    (
        "split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w",
        "split",
        bytes.fromhex("c5f38b70305f519bf66d85fb6cf03058f3dde463ecd7918f2dc743918f2d"),
    ),
    ("?1ezyfcl", "?", b""),
]

# Text, prefix asked for, size asked for, a word of the reason.
INVALID = [
    (" 1nwldj5", " ", 0, "printable"),
    ("\x7f1axkwrx", "\x7f", 0, "printable"),
    ("\x801eym55h", "\x80", 0, "printable"),
    ("pzry9x0s0muk", "pzry9x0s0muk", 0, "begin"),
    ("1pzry9x0s0muk", "a", 4, "begin"),
    ("10a06t8", "a", 0, "begin"),
    ("1qzzfhee", "a", 0, "begin"),
    ("a12bel5l", "a", 0, "alphabet"),
    ("li1dgmt3", "li", 0, "belong"),
    ("de1lg7wt\xff", "de", 0, "printable"),
    ("A1G7SGD8", "A", 0, "checksum"),
    ("A1LQFN3A", "A", 0, "Bech32m"),
    ("a1lqfn3a", "a", 0, "Bech32m"),
    ("?1v759aa", "?", 0, "Bech32m"),
    ("abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx", "abcdef", 20, "Bech32m"),
    ("a12UEL5L", "a", 0, "mixes"),
    ("A12UEL5L", "a", 0, "begin"),
    ("a12uel5l", "A", 0, "begin"),
    ("a12uel5l", "b", 0, "begin"),
    ("", "a", 0, "begin"),
    ("abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw", "abcdef", 19, "belong"),
    ("abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw", "abcdef", 21, "belong"),
]


@pytest.mark.parametrize(("text", "prefix", "data"), VALID)
def test_the_valid_strings_of_bip_173_are_read_and_written(
    text: str, prefix: str, data: bytes
) -> None:
    assert data == bech32.decode(text, prefix, len(data))
    assert text.lower() == bech32.encode(prefix.lower(), data)


@pytest.mark.parametrize(("text", "prefix", "size", "word"), INVALID)
def test_a_faulty_string_is_refused_with_its_reason(
    text: str, prefix: str, size: int, word: str
) -> None:
    with pytest.raises(ValueError, match=word):
        bech32.decode(text, prefix, size)


def test_padding_bits_must_be_zero() -> None:
    # 32 bytes are 51 groups and one bit; the other four bits of the last group are padding.
    values = [0] * 51 + [1]
    checksum = bech32._polymod([*bech32._expand("age"), *values, *bytes(6)]) ^ 1
    values += [checksum >> 5 * (5 - i) & 31 for i in range(6)]
    text = "age1" + "".join("qpzry9x8gf2tvdw0s3jn54khce6mua7l"[value] for value in values)

    with pytest.raises(ValueError, match="padding"):
        bech32.decode(text, "age", 32)


@pytest.mark.parametrize("prefix", ["!", "~"])
def test_prefixes_at_the_ends_of_printable_ascii(prefix: str) -> None:
    assert b"abc" == bech32.decode(bech32.encode(prefix, b"abc"), prefix, 3)


@given(data=st.binary(max_size=80))
def test_bytes_survive_the_round_trip(data: bytes) -> None:
    assert data == bech32.decode(bech32.encode("age", data), "age", len(data))


@given(data=st.binary(min_size=32, max_size=32), place=st.integers(0, 57), step=st.integers(1, 31))
def test_any_wrong_character_is_noticed(data: bytes, place: int, step: int) -> None:
    alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    letters = list(bech32.encode("age", data))
    wrong = (alphabet.index(letters[4 + place]) + step) % 32
    letters[4 + place] = alphabet[wrong]

    with pytest.raises(ValueError, match="checksum"):
        bech32.decode("".join(letters), "age", 32)
