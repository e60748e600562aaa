"""Goal: a head without context is a plain age head that belongs to no object until it is adopted.
Method: make one, look at its stanzas, open it, check it against a context, adopt it.
"""

from __future__ import annotations

import pytest

from crypto import (
    STANZA_META,
    ContextMismatch,
    Meta,
    RecipientError,
    Sealer,
    adopt_head,
    new_bare_head,
    open_file,
    open_head,
)
from tests.unit.crypto_samples import CONTEXT, MINER, ROUTER, USER, FixedRandom


def test_it_holds_recipient_stanzas_alone() -> None:
    sealed = new_bare_head([USER.recipient(), ROUTER.recipient()])

    opened = open_head(sealed.head, [ROUTER])

    assert ["X25519", "X25519"] == [stanza.type for stanza in opened.header.stanzas]
    assert opened.meta() is None
    assert b"plain" == open_file(sealed.head + _payload(sealed.sealer, b"plain"), [USER])


def test_it_may_hold_meta() -> None:
    meta = Meta("text/plain", "prompt.txt")

    opened = open_head(new_bare_head([USER.recipient()], meta=meta).head, [USER])

    assert [STANZA_META, "X25519"] == [stanza.type for stanza in opened.header.stanzas]
    assert meta == opened.meta()


def test_it_is_the_head_of_no_object_until_it_is_adopted() -> None:
    head = new_bare_head([ROUTER.recipient()]).head
    with pytest.raises(ContextMismatch):
        open_head(head, [ROUTER]).check_context(CONTEXT)

    adopted = adopt_head(head, ROUTER, [MINER.recipient()], context=CONTEXT)

    open_head(adopted.head, [MINER]).check_context(CONTEXT)


def test_each_has_a_file_key_of_its_own() -> None:
    first, second = (new_bare_head([USER.recipient()]) for _ in range(2))

    assert first.file_key_print != second.file_key_print


def test_it_draws_file_key_nonce_and_then_each_recipient() -> None:
    random = FixedRandom("bare")

    new_bare_head([USER.recipient(), ROUTER.recipient()], random=random)

    assert [16, 16, 32, 32] == random.drawn


def test_somebody_must_be_able_to_open_it() -> None:
    with pytest.raises(RecipientError):
        new_bare_head([])


def _payload(sealer: Sealer, plaintext: bytes) -> bytes:
    return sealer.update(plaintext) + sealer.finish()
