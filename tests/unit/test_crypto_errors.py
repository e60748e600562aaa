"""Goal: no error tells a key, a plaintext or a name that was sealed.
Method: every type of error is provoked, for both classes; text, repr, arguments, traceback and
pickle of each are searched. A new type without a provocation fails.
"""

from __future__ import annotations

import dataclasses
import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from crypto import (
    HEADER_SIZE_MAX,
    STANZAS_MAX,
    Challenger,
    ClassMismatch,
    Context,
    ContextError,
    ContextMismatch,
    CopyError,
    CopySealer,
    CryptoError,
    Envelope,
    EnvelopeError,
    Header,
    HeaderError,
    HeaderMACError,
    HeaderSizeError,
    HybridIdentity,
    Identity,
    IdentityError,
    LeafMismatch,
    Meta,
    MetaError,
    NoIdentityMatch,
    PayloadError,
    PossessionError,
    RecipientError,
    SealerReuse,
    Secret,
    SelfCheckError,
    Stanza,
    StanzaLimitError,
    X25519Identity,
    X25519Recipient,
    adopt_head,
    check_leaf,
    leaf_tag,
    new_head,
    open_envelope,
    open_file,
    open_head,
    parse_context,
    parse_header,
    parse_identities,
    parse_recipient,
    recovery_identity,
    seal,
)
from tests.unit.crypto_samples import (
    CONTEXT,
    HYBRID_CONTEXT,
    HYBRID_OUTSIDER,
    HYBRID_USER,
    OUTSIDER,
    USER,
    FixedRandom,
    flip,
)

PLAINTEXT = b"plaintext of a party"
FILENAME = "private-name.txt"
TAG_KEY = bytes(range(100, 132))
Attempt = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Case:
    """One class of keys, and an object sealed for its user."""

    user: Identity
    outsider: Identity
    foreign: Identity
    context: Context
    envelope: Envelope


def _case(user: Identity, outsider: Identity, foreign: Identity, context: Context) -> Case:
    meta = Meta("text/plain", FILENAME)
    random = FixedRandom("errors")
    sealed = seal(PLAINTEXT, [user.recipient()], context=context, meta=meta, random=random)
    return Case(user, outsider, foreign, context, sealed)


CASES = {
    "classic": _case(USER, OUTSIDER, HYBRID_USER, CONTEXT),
    "hybrid": _case(HYBRID_USER, HYBRID_OUTSIDER, USER, HYBRID_CONTEXT),
}


def _reuse(case: Case) -> None:
    sealer = new_head([case.user.recipient()], context=case.context).sealer
    sealer.update(PLAINTEXT)
    sealer.finish()
    sealer.update(PLAINTEXT)


def _fail_the_self_check(_case: Case) -> None:
    recipient, file_key, ephemeral = USER.recipient(), Secret(TAG_KEY[:16]), Secret(TAG_KEY)
    assert isinstance(recipient, X25519Recipient)
    stanza = recipient.wrap(file_key, random=lambda _size: TAG_KEY)
    damaged = Stanza(stanza.type, stanza.args, flip(stanza.body, 3))
    recipient.verify(damaged, ephemeral, file_key)


def _foreign_context(case: Case) -> Context:
    return dataclasses.replace(case.context, object_id="b" * 32)


def _open_a_foreign_copy(_case: Case) -> None:
    router = X25519Identity.generate()
    recovery = recovery_identity(router)
    data = CopySealer(router, "deployment").seal("name", PLAINTEXT, recovery.recipient())
    CopySealer(router, "deployment").open("another name", data, recovery)


def _answer_a_foreign_challenge(case: Case) -> None:
    recipient = case.user.recipient()
    made = Challenger(USER).challenge("101/user", recipient, until_s=9)
    answer = open_file(made, [case.user]).decode()
    Challenger(USER).check("102/user", recipient, answer, now_s=1)


def _check_a_foreign_leaf(_case: Case) -> None:
    key = Secret(TAG_KEY)
    check_leaf(key, 1, PLAINTEXT, leaf_tag(key, 0, PLAINTEXT))


PROVOCATIONS: dict[type[CryptoError], list[Callable[[Case], object]]] = {
    HeaderError: [
        lambda case: open_head(case.envelope.head[:-17], [case.user]),
        lambda case: case.user.unwrap(
            Stanza(_stanza_type(case), (case.user.to_text(),), PLAINTEXT)
        ),
    ],
    HeaderSizeError: [
        lambda case: parse_header(
            Header((Stanza("grease", (), bytes(HEADER_SIZE_MAX)),), bytes(32)).encode()
        ),
    ],
    StanzaLimitError: [
        lambda case: new_head([case.user.recipient()] * STANZAS_MAX, context=case.context),
    ],
    NoIdentityMatch: [lambda case: open_head(case.envelope.head, [case.outsider])],
    HeaderMACError: [lambda case: open_head(_with_another_mac(case), [case.user])],
    PayloadError: [
        lambda case: open_envelope(case.envelope.head, flip(case.envelope.payload, 3), [case.user]),
    ],
    ContextMismatch: [
        lambda case: open_head(case.envelope.head, [case.user]).check_context(
            _foreign_context(case)
        ),
    ],
    RecipientError: [
        lambda case: parse_recipient(case.user.to_text()),
        lambda case: parse_recipient(str(case.user.recipient())[:-1]),
    ],
    IdentityError: [
        lambda case: parse_identities(f"# comment\n{case.user.to_text()}X\n"),
        lambda case: parse_identities(case.user.to_text().replace("A", "a", 1)),
        lambda case: parse_identities(_with_another_end(case.user.to_text())),
    ],
    ClassMismatch: [
        lambda case: new_head([case.foreign.recipient()], context=case.context),
    ],
    ContextError: [lambda case: parse_context(PLAINTEXT)],
    MetaError: [lambda _case: Meta("text/plain", FILENAME + "\n")],
    CopyError: [_open_a_foreign_copy],
    PossessionError: [_answer_a_foreign_challenge],
    LeafMismatch: [_check_a_foreign_leaf],
    SealerReuse: [_reuse],
    SelfCheckError: [_fail_the_self_check],
}
NEVER_RAISED = {CryptoError, EnvelopeError}
"""Roots of the tree, for who wants to catch all."""


def _stanza_type(case: Case) -> str:
    return "X25519" if case.user == USER else "mlkem768x25519"


def _with_another_mac(case: Case) -> bytes:
    mac_at = case.envelope.head.rindex(b"--- ") + 4
    letter = case.envelope.head[mac_at : mac_at + 1]
    other = b"A" if letter != b"A" else b"B"
    return case.envelope.head[:mac_at] + other + case.envelope.head[mac_at + 1 :]


def _with_another_end(text: str) -> str:
    return text[:-1] + ("Q" if text[-1] != "Q" else "P")


def _needles(case: Case) -> list[str]:
    opened = open_head(case.envelope.head, [case.user])
    share = opened.header.stanzas[-1].args[0]
    assert isinstance(case.user, X25519Identity | HybridIdentity)
    secrets = [opened.file_key.expose(), case.user.key.expose(), TAG_KEY, TAG_KEY[:16], PLAINTEXT]
    texts = [case.user.to_text()[20:40], share, FILENAME, PLAINTEXT.decode()]
    for secret in secrets:
        texts += [secret.hex(), repr(secret)[2:-1], repr(list(secret))[1:-1]]
    return texts


def _everything_told(error: CryptoError) -> str:
    parts = [*traceback.format_exception(error), repr(pickle.dumps(error))]
    # Also of the errors it came from: a program may show those that a traceback leaves out.
    waiting: list[BaseException | None] = [error]
    while waiting:
        told = waiting.pop()
        if told is not None:
            parts += [str(told), repr(told), repr(told.args), repr(vars(told))]
            waiting += [told.__cause__, told.__context__]
    return "\n".join(parts)


def test_every_type_of_error_is_provoked() -> None:
    known: set[type[CryptoError]] = set()
    waiting: list[type[CryptoError]] = [CryptoError]
    while waiting:
        kind = waiting.pop()
        known.add(kind)
        waiting += kind.__subclasses__()

    assert known - NEVER_RAISED == set(PROVOCATIONS)


@pytest.mark.parametrize("key_class", CASES)
@pytest.mark.parametrize(
    ("kind", "provoke"),
    [(kind, provoke) for kind, all_of in PROVOCATIONS.items() for provoke in all_of],
    ids=[
        f"{kind.__name__}{n}" for kind, all_of in PROVOCATIONS.items() for n in range(len(all_of))
    ],
)
def test_no_error_tells_a_secret(
    key_class: str, kind: type[CryptoError], provoke: Callable[[Case], object]
) -> None:
    case = CASES[key_class]
    with pytest.raises(kind) as raised:
        provoke(case)
    told = _everything_told(raised.value)

    assert kind is raised.type
    assert [] == [needle for needle in _needles(case) if needle in told]


def test_adopting_a_file_of_another_object_tells_no_secret() -> None:
    case = CASES["classic"]
    with pytest.raises(CryptoError) as raised:
        adopt_head(case.envelope.head, USER, [USER.recipient()], context=case.context)
    told = _everything_told(raised.value)

    assert [] == [needle for needle in _needles(case) if needle in told]
