"""Goal: an independent age implementation (rage, through pyrage) opens ours, and we open its.
Method: both directions over sizes around the borders of chunks and leaves.
"""

from __future__ import annotations

import pyrage  # type: ignore[import-untyped]
import pytest

from crypto import (
    CHUNK_SIZE,
    LEAF_PLAINTEXT_SIZE,
    Meta,
    Sealer,
    X25519Identity,
    adopt_head,
    new_head,
    open_file,
    parse_recipient,
    rewrap,
    scan_head,
    seal,
)
from tests.unit.crypto_samples import CONTEXT, MINER, OUTSIDER, ROUTER, USER, plaintext_of

SIZES = [
    border + step
    for border in (CHUNK_SIZE, 2 * CHUNK_SIZE, LEAF_PLAINTEXT_SIZE)
    for step in (-1, 0, 1)
]
PARTIES = [USER, ROUTER, MINER]
RECIPIENTS = [party.recipient() for party in PARTIES]


def theirs(identity: X25519Identity) -> pyrage.x25519.Identity:
    return pyrage.x25519.Identity.from_str(identity.to_text())


def push(sealer: Sealer, plaintext: bytes) -> bytes:
    pieces = [plaintext[i : i + 99_991] for i in range(0, len(plaintext), 99_991)]
    return b"".join([*map(sealer.update, pieces), sealer.finish()])


@pytest.mark.parametrize("size", [0, 1, 100, *SIZES])
def test_it_opens_what_we_seal(size: int) -> None:
    plaintext = plaintext_of(size)
    envelope = seal(plaintext, RECIPIENTS, context=CONTEXT, meta=Meta("text/plain", "a.txt"))
    pushed = new_head(RECIPIENTS, context=CONTEXT)
    files = [envelope.head + envelope.payload, pushed.head + push(pushed.sealer, plaintext)]

    for data in files:
        for party in PARTIES:
            assert plaintext == pyrage.decrypt(data, [theirs(party)])
        with pytest.raises(pyrage.DecryptError):
            pyrage.decrypt(data, [theirs(OUTSIDER)])


@pytest.mark.parametrize("size", [0, 1, 100, *SIZES])
def test_we_open_what_it_seals(size: int) -> None:
    plaintext = plaintext_of(size)
    data = pyrage.encrypt(plaintext, [theirs(party).to_public() for party in PARTIES])

    for party in PARTIES:
        assert plaintext == open_file(data, [OUTSIDER, party])


def test_it_opens_what_we_adopted_and_rewrapped() -> None:
    plaintext = plaintext_of(100_000)
    data = pyrage.encrypt(plaintext, [theirs(ROUTER).to_public()])
    length = scan_head(data)
    assert length is not None
    adopted = adopt_head(data[:length], ROUTER, RECIPIENTS, context=CONTEXT, meta=Meta("a/b"))
    wanted = [OUTSIDER.recipient(), ROUTER.recipient()]
    head = rewrap(adopted.head, [ROUTER], current=RECIPIENTS, wanted=wanted)

    assert plaintext == pyrage.decrypt(adopted.head + data[length:], [theirs(MINER)])
    assert plaintext == pyrage.decrypt(head + data[length:], [theirs(OUTSIDER)])


def test_key_texts_are_the_same() -> None:
    for _ in range(20):
        made = pyrage.x25519.Identity.generate()
        ours = X25519Identity.parse(str(made))

        assert str(made) == ours.to_text()
        assert str(made.to_public()) == str(ours.recipient())
        assert ours.recipient() == parse_recipient(str(made.to_public()))
