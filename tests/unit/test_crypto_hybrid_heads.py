"""Goal: hybrid heads are made, opened, adopted and rewrapped like classic ones, and the two classes
never meet in one.
Method: whole envelopes for every party, and every mix of classes that could be asked for.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import (
    HEADER_SIZE_MAX,
    STANZAS_MAX,
    ClassMismatch,
    Context,
    ContextMismatch,
    EnvelopeError,
    Identity,
    Meta,
    NoIdentityMatch,
    Recipient,
    Secret,
    adopt_head,
    new_head,
    open_envelope,
    open_head,
    parse_header,
    rewrap,
    scan_head,
    seal,
    stanza_class,
)
from crypto.head import build_head
from tests.unit.crypto_samples import (
    CONTEXT,
    HYBRID_CONTEXT,
    HYBRID_MINER,
    HYBRID_OUTSIDER,
    HYBRID_ROUTER,
    HYBRID_USER,
    ROUTER,
    USER,
    FixedRandom,
    flip,
    plaintext_of,
)

FILE_KEY = Secret(b"YELLOW SUBMARINE")
NONCE = bytes(16)
PARTIES = [HYBRID_USER, HYBRID_ROUTER, HYBRID_MINER]
RECIPIENTS = [party.recipient() for party in PARTIES]


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537])
def test_every_party_opens_what_was_sealed(size: int) -> None:
    plaintext = plaintext_of(size)
    meta = Meta("text/plain", "a.txt")
    sealed = seal(plaintext, RECIPIENTS, context=HYBRID_CONTEXT, meta=meta)

    for party in PARTIES:
        identities: list[Identity] = [USER, HYBRID_OUTSIDER, party]
        opened = open_envelope(sealed.head, sealed.payload, identities, context=HYBRID_CONTEXT)
        assert plaintext == opened
    assert meta == open_head(sealed.head, [HYBRID_USER]).meta()
    with pytest.raises(NoIdentityMatch):
        open_head(sealed.head, [HYBRID_OUTSIDER, USER, ROUTER])


SEALED = seal(b"some text", RECIPIENTS, context=HYBRID_CONTEXT, meta=Meta("text/plain"))


@given(bit=st.integers(0, len(SEALED.head) * 8 - 1))
def test_any_flipped_bit_of_a_head_is_refused(bit: int) -> None:
    for party in PARTIES:
        with pytest.raises(EnvelopeError):
            open_envelope(flip(SEALED.head, bit), SEALED.payload, [party])


MIXES: list[tuple[list[Recipient], Context]] = [
    ([HYBRID_USER.recipient(), ROUTER.recipient()], HYBRID_CONTEXT),
    ([USER.recipient(), HYBRID_ROUTER.recipient()], CONTEXT),
    ([HYBRID_USER.recipient()], CONTEXT),
    ([USER.recipient()], HYBRID_CONTEXT),
]


@pytest.mark.parametrize(("recipients", "context"), MIXES)
def test_classes_never_meet_in_a_new_head(recipients: list[Recipient], context: Context) -> None:
    with pytest.raises(ClassMismatch):
        new_head(recipients, context=context)


def stock_head(*recipients: Recipient) -> bytes:
    return build_head([one.wrap(FILE_KEY) for one in recipients], FILE_KEY, NONCE)


def test_a_stock_file_is_adopted() -> None:
    head = stock_head(HYBRID_ROUTER.recipient())
    adopted = adopt_head(
        head, HYBRID_ROUTER, RECIPIENTS, context=HYBRID_CONTEXT, meta=Meta("text/plain")
    )
    opened = open_head(adopted.head, [HYBRID_USER])
    opened.check_context(HYBRID_CONTEXT)

    assert FILE_KEY == opened.file_key
    assert NONCE == adopted.head[-16:]
    with pytest.raises(ContextMismatch):
        opened.check_context(CONTEXT)


ADOPTIONS: list[tuple[list[Recipient], Identity, list[Recipient], Context]] = [
    ([ROUTER.recipient()], ROUTER, [HYBRID_USER.recipient()], HYBRID_CONTEXT),
    ([HYBRID_ROUTER.recipient()], HYBRID_ROUTER, [USER.recipient()], CONTEXT),
    (
        [HYBRID_ROUTER.recipient(), USER.recipient()],
        HYBRID_ROUTER,
        [HYBRID_USER.recipient()],
        HYBRID_CONTEXT,
    ),
    (
        [ROUTER.recipient(), HYBRID_USER.recipient()],
        ROUTER,
        [USER.recipient()],
        CONTEXT,
    ),
]


@pytest.mark.parametrize(("sealed_to", "identity", "recipients", "context"), ADOPTIONS)
def test_a_file_of_another_class_is_not_adopted(
    sealed_to: list[Recipient], identity: Identity, recipients: list[Recipient], context: Context
) -> None:
    with pytest.raises(ClassMismatch):
        adopt_head(stock_head(*sealed_to), identity, recipients, context=context)


def test_a_rewrap_copies_what_stays() -> None:
    sealed = seal(b"some text", RECIPIENTS, context=HYBRID_CONTEXT)
    before = parse_header(sealed.head[:-16]).stanzas
    wanted = [HYBRID_OUTSIDER.recipient(), HYBRID_USER.recipient(), HYBRID_ROUTER.recipient()]
    head = rewrap(sealed.head, [HYBRID_ROUTER], current=RECIPIENTS, wanted=wanted)
    after = parse_header(head[:-16]).stanzas

    assert (before[0], before[1], before[2]) == (after[0], after[2], after[3])
    assert ["hybrid"] * 3 == [stanza_class(stanza) for stanza in after[1:]]
    assert b"some text" == open_envelope(
        head, sealed.payload, [HYBRID_OUTSIDER], context=HYBRID_CONTEXT
    )
    with pytest.raises(NoIdentityMatch):
        open_head(head, [HYBRID_MINER])


def test_a_rewrap_keeps_the_class() -> None:
    hybrid = seal(b"", RECIPIENTS, context=HYBRID_CONTEXT)
    classic = seal(b"", [USER.recipient()], context=CONTEXT)

    with pytest.raises(ClassMismatch):
        rewrap(hybrid.head, [HYBRID_USER], current=RECIPIENTS, wanted=[USER.recipient()])
    with pytest.raises(ClassMismatch):
        rewrap(
            classic.head,
            [USER],
            current=[USER.recipient()],
            wanted=[USER.recipient(), HYBRID_USER.recipient()],
        )


def test_a_header_holds_as_many_hybrid_stanzas_as_of_any_type() -> None:
    recipients = [HYBRID_USER.recipient()] * (STANZAS_MAX - 1)
    head = new_head(recipients, context=HYBRID_CONTEXT).head

    assert len(head) < HEADER_SIZE_MAX
    assert len(head) == scan_head(head)


def test_other_randomness_than_the_librarys_is_not_asked_for_stanzas() -> None:
    random = FixedRandom("head")
    new_head(RECIPIENTS, context=HYBRID_CONTEXT, random=random)

    assert [16, 16] == random.drawn
