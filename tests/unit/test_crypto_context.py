"""Goal: a context has one byte form, and no two contexts share it.
Method: a known answer written by hand, the inverse, and every field put to the wrong.
"""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import Context, ContextError, parse_context
from tests.unit.crypto_samples import CONTEXT

KNOWN = (
    b"\x00\x1astorage-gateway/context-v1"
    b"\x00\x20aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa2"
    b"\x00\x20bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb7"
    b"\x00\x03101"
    b"\x00\x08task.1_A"
    b"\x00\x06output"
    b"\x00\x2a0x0123456789abcdef0123456789abcdef01234567"
    b"\x00\x07classic"
)

words = st.text("abcXYZ019_.", min_size=1, max_size=64)
ids = st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=32, max_size=32)
contexts = st.builds(
    Context,
    object_id=ids,
    payload_id=ids,
    session_id=words,
    task_id=words,
    direction=st.sampled_from(["input", "output"]),
    miner=st.none() | st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex()),
    key_class=st.sampled_from(["classic", "hybrid"]),
)


def test_a_known_answer() -> None:
    assert KNOWN == CONTEXT.canonical()
    assert CONTEXT == parse_context(KNOWN)


def test_an_absent_miner_is_a_length_and_no_bytes() -> None:
    context = dataclasses.replace(CONTEXT, miner=None)
    start = KNOWN.index(b"\x00\x2a0x")
    expected = KNOWN[:start] + b"\xff\xff" + KNOWN[start + 44 :]

    assert expected == context.canonical()
    assert context == parse_context(expected)


@given(context=contexts)
def test_parsing_is_the_inverse(context: Context) -> None:
    assert context == parse_context(context.canonical())


@given(first=contexts, second=contexts)
def test_different_contexts_have_different_bytes(first: Context, second: Context) -> None:
    assert (first == second) == (first.canonical() == second.canonical())


@given(data=st.binary(max_size=200) | st.binary(max_size=40).map(lambda tail: KNOWN + tail))
def test_what_parses_is_canonical(data: bytes) -> None:
    try:
        context = parse_context(data)
    except ContextError:
        return

    assert data == context.canonical()


@pytest.mark.parametrize("size", range(len(KNOWN)))
def test_a_truncated_context_is_refused(size: int) -> None:
    with pytest.raises(ContextError, match="end within"):
        parse_context(KNOWN[:size])


@pytest.mark.parametrize(
    "data",
    [
        KNOWN + b"\0",
        KNOWN.replace(b"context-v1", b"context-v2"),
        KNOWN.replace(b"output", b"outpus"),
        KNOWN.replace(b"\x00\x03101", b"\xff\xff"),
        KNOWN.replace(b"\x00\x03101", b"\x00\x00"),
        KNOWN.replace(b"101", b"1\xff1"),
        b"\xff\xff" + KNOWN[28:],
    ],
)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ContextError):
        parse_context(data)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("object_id", "a" * 31),
        ("object_id", "A" * 32),
        ("object_id", "a" * 31 + "1"),
        ("payload_id", "b" * 33),
        ("payload_id", "b" * 32 + "\n"),
        ("session_id", ""),
        ("session_id", "s" * 65),
        ("session_id", "../etc"),
        ("session_id", None),
        ("task_id", "ä"),
        ("task_id", "t t"),
        ("task_id", "1٣"),
        ("direction", "Input"),
        ("direction", "inputoutput"),
        ("miner", ""),
        ("miner", "0x" + "A" * 40),
        ("miner", "0x" + "a" * 39),
        ("miner", "a" * 42),
        ("key_class", "hybrid "),
        ("key_class", b"classic"),
    ],
)
def test_a_faulty_field_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ContextError, match=name):
        dataclasses.replace(CONTEXT, **{name: value})  # type: ignore[arg-type]
