"""Goal: a copy opens for its operator only, is believed only where this deployment signed it for
that name, and is the same bytes each time.

Method: one deployment's sealer, and others that differ from it in one thing each.
"""

import pytest

from crypto import (
    CopyError,
    CopySealer,
    HybridIdentity,
    IdentityError,
    X25519Identity,
    open_file,
    recovery_identity,
)

ROUTER = X25519Identity.generate()
RECOVERY = recovery_identity(ROUTER)
SEALER = CopySealer(ROUTER, "d" * 32)
NAME = "ddd/main/manifests/aaa/1"
CONTENT = b'{"type":"object"}'


def sealed(name: str = NAME, content: bytes = CONTENT, sealer: CopySealer = SEALER) -> bytes:
    return sealer.seal(name, content, RECOVERY.recipient())


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 200_000])
def test_a_copy_opens_to_what_was_sealed(size: int) -> None:
    content = bytes(size)
    assert content == SEALER.open(NAME, sealed(content=content), RECOVERY)


def test_a_stock_tool_shows_what_it_says() -> None:
    line, content = open_file(sealed(), [RECOVERY]).split(b"\n", 1)
    assert line.startswith(b"storage-gateway copy v1 ")
    assert CONTENT == content


def test_the_same_record_makes_the_same_bytes() -> None:
    again = CopySealer(X25519Identity(ROUTER.key), "d" * 32)
    assert sealed() == sealed(sealer=again)


@pytest.mark.parametrize("other", [sealed(NAME[:-1] + "2"), sealed(content=CONTENT + b" ")])
def test_no_file_key_seals_two_contents(other: bytes) -> None:
    assert sealed()[: sealed().index(b"--- ")] != other[: other.index(b"--- ")]


def test_another_recipient_has_another_file_key() -> None:
    other = X25519Identity.generate()
    data = SEALER.seal(NAME, CONTENT, other.recipient())
    assert data[-40:] != sealed()[-40:]
    assert CONTENT == SEALER.open(NAME, data, other)


def forged(content: bytes) -> bytes:
    """Return what somebody makes who knows the recipient, and no more."""
    stranger = CopySealer(X25519Identity.generate(), "d" * 32)
    return stranger.seal(NAME, content, RECOVERY.recipient())


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        (NAME, forged(CONTENT), "not signed by this deployment"),
        (NAME, sealed(sealer=CopySealer(ROUTER, "e" * 32)), "not signed by this deployment"),
        (NAME[:-1] + "2", sealed(), "or for another name"),
        (NAME, sealed()[:-1], "does not open"),
        (NAME, b"", "does not open"),
        (NAME, SEALER.seal(NAME, CONTENT, ROUTER.recipient()), "does not open"),
    ],
)
def test_what_is_not_ours_is_refused(name: str, data: bytes, words: str) -> None:
    with pytest.raises(CopyError, match=words):
        SEALER.open(name, data, RECOVERY)


def test_a_deployment_and_a_name_do_not_run_into_each_other() -> None:
    """Else one deployment's copies would count in another one whose id begins alike."""
    one, other = CopySealer(ROUTER, "ab"), CopySealer(ROUTER, "a")
    with pytest.raises(CopyError):
        other.open("bc", one.seal("c", CONTENT, RECOVERY.recipient()), RECOVERY)


def test_names_are_hidden_by_a_key() -> None:
    other = CopySealer(X25519Identity.generate(), "d" * 32)
    names = [SEALER.hidden_name("101"), SEALER.hidden_name("102"), other.hidden_name("101")]
    assert 3 == len(set(names))
    assert {32} == {len(name) for name in names}
    assert names[0] == SEALER.hidden_name("101")


def test_no_key_is_shown() -> None:
    assert "AGE-SECRET" not in repr(SEALER)
    assert ROUTER.key.expose().hex() not in repr(SEALER)
    assert "Ed25519PrivateKey" not in repr(SEALER)


def test_copies_are_made_with_a_classic_identity() -> None:
    with pytest.raises(IdentityError):
        recovery_identity(HybridIdentity.generate())
    with pytest.raises(IdentityError):
        CopySealer(HybridIdentity.generate(), "d")
