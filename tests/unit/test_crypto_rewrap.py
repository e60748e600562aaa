"""Goal: heads change hands while payloads stay; what is kept is kept byte for byte.
Method: headers before and after are compared stanza by stanza, and every misuse is tried.
"""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import (
    ClassMismatch,
    ContextMismatch,
    HeaderError,
    HeaderMACError,
    Meta,
    MetaError,
    NoIdentityMatch,
    Recipient,
    RecipientError,
    Secret,
    SelfCheckError,
    Stanza,
    StanzaLimitError,
    X25519Identity,
    X25519Recipient,
    adopt_head,
    open_envelope,
    open_head,
    parse_header,
    rewrap,
    seal,
)
from crypto.head import build_head
from tests.unit.crypto_samples import (
    CONTEXT,
    MINER,
    OUTSIDER,
    ROUTER,
    USER,
    FixedRandom,
    flip,
)

PARTIES = [USER, ROUTER, MINER]
RECIPIENTS = [party.recipient() for party in PARTIES]
NEW = OUTSIDER.recipient()
META = Meta("text/plain", "answer.txt")
FILE_KEY = Secret(b"YELLOW SUBMARINE")
NONCE = bytes(range(16))
HYBRID_STANZA = Stanza("mlkem768x25519", ("A" * 1494,), bytes(32))


def stanzas_of(head: bytes) -> tuple[Stanza, ...]:
    return parse_header(head[:-16]).stanzas


def stock(*stanzas: Stanza) -> bytes:
    """A head as another tool may have made it."""
    return build_head(stanzas, FILE_KEY, NONCE)


class Stuck(X25519Recipient):
    """A recipient whose stanzas open for somebody else: memory that went bad."""

    __slots__ = ()

    def wrap(self, file_key: Secret, *, random: object = None) -> Stanza:
        return USER.recipient().wrap(Secret(bytes(16)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, X25519Recipient) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)


def test_a_recipient_is_replaced_and_the_rest_spliced() -> None:
    envelope = seal(b"result", RECIPIENTS, context=CONTEXT, meta=META)
    wanted = [USER.recipient(), NEW, MINER.recipient()]
    head = rewrap(envelope.head, [ROUTER], current=RECIPIENTS, wanted=wanted)
    before, after = stanzas_of(envelope.head), stanzas_of(head)

    assert [before[0], before[1], before[2], before[4]] == [after[0], after[1], after[2], after[4]]
    assert before[3] != after[3]
    assert envelope.head[-16:] == head[-16:]
    for stanza in (before[0], before[1], before[2], before[4]):
        assert stanza.encode() in envelope.head
        assert stanza.encode() in head
    for party in (USER, OUTSIDER, MINER):
        assert b"result" == open_envelope(head, envelope.payload, [party], context=CONTEXT)
        assert META == open_head(head, [party]).meta()
    with pytest.raises(NoIdentityMatch):
        open_head(head, [ROUTER])


indices = st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True)


@given(current=indices, wanted=indices)
def test_any_change_of_recipients(current: list[int], wanted: list[int]) -> None:
    everyone = [USER, ROUTER, MINER, OUTSIDER]
    now, then = ([everyone[i].recipient() for i in each] for each in (current, wanted))
    envelope = seal(b"x", now, context=CONTEXT)
    head = rewrap(envelope.head, [everyone[current[0]]], current=now, wanted=then)
    before = dict(zip(current, stanzas_of(envelope.head)[1:], strict=True))
    after = dict(zip(wanted, stanzas_of(head)[1:], strict=True))

    assert stanzas_of(envelope.head)[0] == stanzas_of(head)[0]
    for i in wanted:
        assert (i in before) == (before.get(i) == after[i])
        assert b"x" == open_envelope(head, envelope.payload, [everyone[i]], context=CONTEXT)
    for i in {0, 1, 2, 3}.difference(wanted):
        with pytest.raises(NoIdentityMatch):
            open_head(head, [everyone[i]])


def test_rewrap_to_the_same_changes_nothing() -> None:
    head = seal(b"x", RECIPIENTS, context=CONTEXT, meta=META).head

    assert head == rewrap(head, [USER], current=RECIPIENTS, wanted=RECIPIENTS)


def test_one_recipient_twice_keeps_both_stanzas() -> None:
    twice = [USER.recipient()] * 2
    head = seal(b"x", twice, context=CONTEXT).head
    thrice = rewrap(head, [USER], current=twice, wanted=[*twice, USER.recipient()])

    assert head == rewrap(head, [USER], current=twice, wanted=twice)
    assert stanzas_of(head) == stanzas_of(thrice)[:3]
    assert 4 == len(set(stanzas_of(thrice)))


def test_foreign_stanzas_come_first_and_stay() -> None:
    grease = [Stanza("a-grease", ("1", "2"), bytes(70)), Stanza("b-grease", (), b"")]
    wrapped = USER.recipient().wrap(FILE_KEY)
    head = stock(wrapped, grease[0], MINER.recipient().wrap(FILE_KEY), grease[1])
    now = [USER.recipient(), MINER.recipient()]
    after = stanzas_of(rewrap(head, [USER], current=now, wanted=[NEW, USER.recipient()]))

    assert [*grease, wrapped] == [after[0], after[1], after[3]]


def test_rewrap_wants_stanzas_and_recipients_to_fit() -> None:
    head = seal(b"x", RECIPIENTS, context=CONTEXT).head

    for current in (RECIPIENTS[:2], [*RECIPIENTS, NEW], []):
        with pytest.raises(HeaderError, match="3 recipient stanzas"):
            rewrap(head, [USER], current=current, wanted=RECIPIENTS)
    with pytest.raises(RecipientError):
        rewrap(head, [USER], current=RECIPIENTS, wanted=[])
    with pytest.raises(StanzaLimitError):
        rewrap(head, [USER], current=RECIPIENTS, wanted=[*RECIPIENTS, *[NEW] * 29])


def test_rewrap_opens_what_it_rewraps() -> None:
    head = seal(b"x", RECIPIENTS, context=CONTEXT).head
    marked = bytearray(head)
    marked[-20] ^= 1

    with pytest.raises(NoIdentityMatch):
        rewrap(head, [OUTSIDER], current=RECIPIENTS, wanted=RECIPIENTS)
    with pytest.raises((HeaderError, HeaderMACError)):
        rewrap(bytes(marked), [USER], current=RECIPIENTS, wanted=RECIPIENTS)


def test_rewrap_does_not_splice_a_malformed_stanza() -> None:
    wrapped, broken = USER.recipient().wrap(FILE_KEY), Stanza("X25519", ("short",), bytes(32))
    now = [USER.recipient(), MINER.recipient()]

    with pytest.raises(HeaderError, match="share"):
        rewrap(stock(wrapped, broken), [USER], current=now, wanted=now)


def test_rewrap_keeps_classes_apart() -> None:
    head = stock(USER.recipient().wrap(FILE_KEY), HYBRID_STANZA)
    now = [USER.recipient(), MINER.recipient()]

    with pytest.raises(ClassMismatch):
        rewrap(head, [USER], current=now, wanted=now)


def test_a_new_head_that_does_not_open_is_not_returned() -> None:
    head = seal(b"x", [ROUTER.recipient()], context=CONTEXT).head
    stuck = Stuck(USER.recipient().key)

    with pytest.raises(SelfCheckError):
        rewrap(head, [ROUTER, USER], current=[ROUTER.recipient()], wanted=[stuck])


def test_who_is_not_wanted_any_more_can_still_hand_over() -> None:
    envelope = seal(b"x", [ROUTER.recipient()], context=CONTEXT)
    head = rewrap(envelope.head, [ROUTER], current=[ROUTER.recipient()], wanted=[NEW])

    assert b"x" == open_envelope(head, envelope.payload, [OUTSIDER], context=CONTEXT)


def test_a_stock_file_is_adopted() -> None:
    source = stock(Stanza("grease", ("x",), b"y"), ROUTER.recipient().wrap(FILE_KEY))
    sealed = open_head(source, [ROUTER])
    adopted = adopt_head(source, ROUTER, RECIPIENTS, context=CONTEXT, meta=META)
    types = ["storage-gateway/context-v1", "storage-gateway/meta-v1", *["X25519"] * 3]

    assert types == [stanza.type for stanza in stanzas_of(adopted.head)]
    assert NONCE == adopted.head[-16:]
    assert sealed.file_key_print == adopted.file_key_print
    assert META == adopted.meta
    for party in PARTIES:
        opened = open_head(adopted.head, [party])
        opened.check_context(CONTEXT)
        assert FILE_KEY == opened.file_key
        assert META == opened.meta()


def test_the_payload_of_an_adopted_file_opens() -> None:
    envelope = seal(b"payload", [ROUTER.recipient()], context=CONTEXT)
    opened = open_head(envelope.head, [ROUTER])
    source = build_head(opened.header.stanzas[1:], opened.file_key, opened.nonce)
    adopted = adopt_head(source, ROUTER, RECIPIENTS, context=CONTEXT)

    assert b"payload" == adopted.opener.update(envelope.payload) + adopted.opener.finish()
    assert b"payload" == open_envelope(adopted.head, envelope.payload, [MINER], context=CONTEXT)
    assert None is adopted.meta


def test_an_adopted_file_keeps_its_own_meta() -> None:
    own = parse_header(
        seal(b"x", [ROUTER.recipient()], context=CONTEXT, meta=META).head[:-16]
    ).stanzas
    envelope = seal(b"x", [ROUTER.recipient()], context=CONTEXT, meta=META)
    opened = open_head(envelope.head, [ROUTER])
    source = build_head(opened.header.stanzas[1:], opened.file_key, opened.nonce)
    adopted = adopt_head(source, ROUTER, RECIPIENTS, context=CONTEXT, meta=Meta("other/type"))
    foreign = stock(own[1], ROUTER.recipient().wrap(FILE_KEY))

    assert opened.header.stanzas[1] == stanzas_of(adopted.head)[1]
    assert META == adopted.meta
    with pytest.raises(MetaError):
        adopt_head(foreign, ROUTER, RECIPIENTS, context=CONTEXT)


def test_what_belongs_to_an_object_is_not_adopted() -> None:
    head = seal(b"x", [ROUTER.recipient()], context=CONTEXT).head

    with pytest.raises(ContextMismatch, match="another object already"):
        adopt_head(head, ROUTER, RECIPIENTS, context=CONTEXT)


def test_a_stanza_of_another_class_is_not_adopted() -> None:
    wrapped = ROUTER.recipient().wrap(FILE_KEY)
    hybrid = dataclasses.replace(CONTEXT, key_class="hybrid")

    for stanzas in ([wrapped, HYBRID_STANZA], [HYBRID_STANZA, wrapped], [HYBRID_STANZA]):
        with pytest.raises(ClassMismatch):
            adopt_head(stock(*stanzas), ROUTER, RECIPIENTS, context=CONTEXT)
    with pytest.raises(ClassMismatch):
        adopt_head(stock(wrapped), ROUTER, RECIPIENTS, context=hybrid)


def test_a_file_for_others_or_with_a_wrong_mac_is_not_adopted() -> None:
    head = stock(USER.recipient().wrap(FILE_KEY))
    header = parse_header(head[:-16])
    changed = dataclasses.replace(header, mac=flip(header.mac, 9)).encode() + NONCE

    with pytest.raises(NoIdentityMatch):
        adopt_head(head, ROUTER, RECIPIENTS, context=CONTEXT)
    with pytest.raises(HeaderMACError):
        adopt_head(changed, USER, RECIPIENTS, context=CONTEXT)
    with pytest.raises(RecipientError):
        adopt_head(head, USER, [], context=CONTEXT)


def test_randomness_is_drawn_for_new_stanzas_only() -> None:
    random = FixedRandom("rewrap")
    head = seal(b"x", RECIPIENTS, context=CONTEXT).head
    rewrap(head, [USER], current=RECIPIENTS, wanted=[NEW, *RECIPIENTS[1:]], random=random)

    assert [32] == random.drawn


class Counted:
    """An identity that counts what it tries."""

    def __init__(self) -> None:
        self.tried: list[Stanza] = []
        self.key_class = ROUTER.key_class

    def to_text(self) -> str:
        return ROUTER.to_text()

    def recipient(self) -> Recipient:
        return ROUTER.recipient()

    def unwrap(self, stanza: Stanza) -> Secret | None:
        self.tried.append(stanza)
        return ROUTER.unwrap(stanza)


def test_of_each_head_one_stanza_is_tried() -> None:
    """The curve is most of what a rewrap costs."""
    head = seal(b"", RECIPIENTS, context=CONTEXT).head
    identity = Counted()
    rewrapped = rewrap(head, [identity], current=RECIPIENTS, wanted=[NEW, *RECIPIENTS[1:]])

    # Its own of the old head, and that of the new one, which is opened as well.
    assert [stanzas_of(head)[2], stanzas_of(rewrapped)[2]] == identity.tried


@pytest.mark.parametrize("able", [[USER], [ROUTER, USER], [OUTSIDER, USER]])
def test_a_stanza_that_is_not_of_its_recipient_is_named(able: list[X25519Identity]) -> None:
    """Who took the list for true would replace the stanza of a party that is to stay."""
    head = seal(b"x", RECIPIENTS, context=CONTEXT).head
    swapped = [RECIPIENTS[2], RECIPIENTS[1], RECIPIENTS[0]]

    with pytest.raises(HeaderError, match="recipient stanza 1"):
        rewrap(head, able, current=swapped, wanted=RECIPIENTS[:2])


def test_who_opens_a_head_without_a_place_in_it_is_told() -> None:
    head = seal(b"x", RECIPIENTS, context=CONTEXT).head

    with pytest.raises(HeaderError, match="recipient stanza 1"):
        rewrap(head, [USER], current=[NEW, *RECIPIENTS[1:]], wanted=RECIPIENTS)
