"""Goal: a secret has one way out, `expose`.
Method: every other way that Python offers is tried. Errors have a file of their own.
"""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable

import pytest

from crypto import (
    Meta,
    RangeOpener,
    Secret,
    new_head,
    open_head,
)
from tests.unit.crypto_samples import (
    CONTEXT,
    HYBRID_USER,
    USER,
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


def holders() -> dict[str, object]:
    """Everything that holds a key, each a way for it to get out."""
    sealed = new_head([USER.recipient()], context=CONTEXT)
    opened = open_head(sealed.head, [USER])
    payload = sealed.sealer.update(b"plaintext") + sealed.sealer.finish()
    opener = opened.opener()
    return {
        "classic identity": USER,
        "hybrid identity": HYBRID_USER,
        "sealed head": sealed,
        "opened head": opened,
        "sealer": sealed.sealer,
        "run": new_head([USER.recipient()], context=CONTEXT).sealer.claim(5, last=True),
        "opener": opener,
        "ranges": RangeOpener(opener, lambda at, size: payload[at : at + size], len(payload)),
    }


@pytest.mark.parametrize("name", holders())
@pytest.mark.parametrize("spill", [pickle.dumps, copy.deepcopy])
def test_what_holds_a_key_cannot_be_pickled_or_copied_either(
    name: str, spill: Callable[[object], object]
) -> None:
    with pytest.raises(TypeError, match=r"pickle|copied"):
        spill(holders()[name])


def test_its_copy_is_overwritten_when_it_is_dropped() -> None:
    secret = Secret(KEY)
    kept = secret._value
    before = bytes(kept)
    del secret

    assert KEY == before
    assert bytes(len(KEY)) == kept


def test_plaintext_that_waits_to_be_sealed_is_overwritten() -> None:
    sealer = new_head([USER.recipient()], context=CONTEXT).sealer
    sealer.update(b"plaintext of a party")
    kept = sealer._pending
    before = bytes(kept)
    sealer.finish()

    assert b"plaintext of a party" == before
    assert bytes(len(before)) == kept


def test_plaintext_that_was_never_sealed_is_overwritten() -> None:
    sealer = new_head([USER.recipient()], context=CONTEXT).sealer
    sealer.update(b"plaintext of a party")
    kept = sealer._pending
    del sealer

    assert bytes(20) == kept


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
