"""Goal: tokens cannot be guessed, are told apart, and are stored as digests only.

Method: fixed randomness, hashlib as the oracle, odd texts as a header may carry them.
"""

import hashlib

import pytest

from storage_gateway.records import TokenKind
from storage_gateway.tokens import TOKEN_LENGTH_MAX, TOKEN_RANDOM_BYTES, new_token, token_digest


@pytest.mark.parametrize("kind", list(TokenKind))
def test_a_token_names_its_kind_and_carries_256_bits(kind: TokenKind) -> None:
    drawn: list[int] = []

    def random(size: int) -> bytes:
        drawn.append(size)
        return b"\xff" * size

    token = new_token(kind, random)

    assert [TOKEN_RANDOM_BYTES] == drawn
    assert f"sg_{kind.value}_{'7' * 51}q" == token
    assert TOKEN_LENGTH_MAX >= len(token)


def test_every_bit_of_randomness_shows() -> None:
    low = new_token(TokenKind.USER, bytes)
    tokens = {
        new_token(TokenKind.USER, lambda size, bit=bit: (1 << bit).to_bytes(size, "big"))  # type: ignore[misc]
        for bit in range(8 * TOKEN_RANDOM_BYTES)
    }

    assert 8 * TOKEN_RANDOM_BYTES == len(tokens - {low})


def test_tokens_differ() -> None:
    assert 50 == len({new_token(TokenKind.MINER) for _ in range(50)})


def test_the_digest_is_sha_256() -> None:
    assert hashlib.sha256(b"sg_user_x").digest() == token_digest("sg_user_x")


@pytest.mark.parametrize("odd", ["é", "\udcff", "\x00", "", "a\n"], ids=ascii)
def test_any_text_that_a_header_can_carry_has_a_digest_of_its_own(odd: str) -> None:
    assert 32 == len(token_digest(odd))
    assert token_digest(odd) != token_digest(f"{odd}x")
