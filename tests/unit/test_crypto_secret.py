"""Goal: a secret has one way out, `expose`.
Method: every other way that Python offers is tried; then every error is provoked and searched.
"""

from __future__ import annotations

import copy
import dataclasses
import pickle
import traceback
from collections.abc import Callable

import pytest

from crypto import (
    Context,
    Identity,
    Meta,
    Secret,
    Stanza,
    adopt_head,
    new_head,
    open_envelope,
    open_head,
    parse_identities,
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

KEY = bytes(range(200, 232))


def test_it_gives_its_bytes_to_expose_alone() -> None:
    secret = Secret(KEY)

    assert KEY == secret.expose()
    assert len(KEY) == len(secret)


def test_no_text_form_shows_it() -> None:
    secret = Secret(KEY)
    texts = [repr(secret), str(secret), f"{secret}", f"{secret:>80}", f"{secret!r}", f"{[secret]}"]

    for text in texts:
        assert "Secret(redacted)" in text
        assert "200" not in text
        assert "\\xc8" not in text


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_cannot_be_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(Secret(KEY), protocol)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_it_cannot_be_copied(duplicate: Callable[[Secret], Secret]) -> None:
    with pytest.raises(TypeError, match="copied"):
        duplicate(Secret(KEY))


def test_dataclasses_cannot_spill_it() -> None:
    with pytest.raises(TypeError, match="copied"):
        dataclasses.asdict(USER)


def test_it_cannot_be_hashed() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(Secret(KEY))
    with pytest.raises(TypeError, match="unhashable"):
        hash(USER)


def test_it_equals_the_same_secret_only() -> None:
    assert Secret(KEY) == Secret(bytes(list(KEY)))
    assert Secret(KEY) != Secret(KEY[:-1])
    assert Secret(KEY) != Secret(flip(KEY, 3))
    assert Secret(KEY) != KEY


def test_keys_and_heads_do_not_show_in_reprs() -> None:
    sealed = new_head([USER.recipient()], context=CONTEXT, meta=Meta("text/plain", "private-name"))
    opened = open_head(sealed.head, [USER])
    shown = f"{USER!r} {sealed!r} {opened!r} {opened.meta()!r} {opened.header!r}"

    assert "private-name" not in shown
    assert USER.to_text() not in shown
    assert opened.header.stanzas[-1].args[0] not in shown
    for secret in (USER.key, opened.file_key):
        assert repr(secret.expose()) not in shown
        assert secret.expose().hex() not in shown


@pytest.mark.parametrize(
    ("user", "outsider", "context"),
    [(USER, OUTSIDER, CONTEXT), (HYBRID_USER, HYBRID_OUTSIDER, HYBRID_CONTEXT)],
)
def test_no_error_tells_a_secret(user: Identity, outsider: Identity, context: Context) -> None:
    plaintext = b"plaintext of a party"
    random = FixedRandom("errors")
    envelope = seal(plaintext, [user.recipient()], context=context, random=random)
    text = user.to_text()
    stanza_type = "X25519" if user == USER else "mlkem768x25519"
    attempts: list[Callable[[], object]] = [
        lambda: parse_identities(text[:-1] + ("Q" if text[-1] != "Q" else "P")),
        lambda: parse_identities(text.replace("A", "a", 1)),
        lambda: parse_identities(f"# comment\n{text}X\n"),
        lambda: open_head(envelope.head, [outsider]),
        lambda: open_head(envelope.head[:-1], [user]),
        lambda: open_head(flip(envelope.head, 8 * 60), [user]),
        lambda: open_envelope(envelope.head, flip(envelope.payload, 3), [user]),
        lambda: adopt_head(envelope.head, user, [user.recipient()], context=context),
        lambda: user.unwrap(Stanza(stanza_type, (text,), KEY)),
        lambda: pickle.dumps(user),
    ]
    reports: list[str] = []
    for attempt in attempts:
        try:
            attempt()
        except Exception:  # noqa: BLE001 - whatever it is, its report is what is searched
            reports.append(traceback.format_exc())
    opened = open_head(envelope.head, [user])
    searched = [
        text[20:40],
        opened.file_key.expose().hex(),
        repr(opened.file_key.expose()),
        opened.header.stanzas[-1].args[0],
        plaintext.decode(),
    ]

    assert len(attempts) == len(reports)
    assert [] == [needle for needle in searched for report in reports if needle in report]
