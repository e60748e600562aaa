"""Goal: no id that comes from outside means anything to a path, a log or a shell.

Method: tables of accepted and refused ids, Hypothesis for other texts, fixed randomness for ours.
"""

import re
import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from storage_gateway.errors import InvalidField
from storage_gateway.ids import SCOPE_ID_LENGTH_MAX, check_scope_id, new_random_id
from urn import mint

SAFE = string.ascii_letters + string.digits + "_."

ACCEPTED = ["a", "0", "_", "101", "task_7.v2", ".a", "a.", "a..b", "x" * SCOPE_ID_LENGTH_MAX]
REFUSED = [
    "",
    ".",
    "..",
    "...",
    "." * SCOPE_ID_LENGTH_MAX,
    "x" * (SCOPE_ID_LENGTH_MAX + 1),
    "a/b",
    "../x",
    "a\\b",
    "a b",
    " a",
    "a\n",
    "\na",
    "a\x00",
    "a\x7f",
    "a-b",
    "a%2e",
    "é",
    "\u0430",  # Cyrillic, looks like a
    "\u0661",  # an Arabic digit, which \d and isdigit() take
    "\uff41",  # full width
    "a\u200b",
    "\ud800",
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_accepted_ids_come_back_as_they_are(text: str) -> None:
    assert text == check_scope_id(text, "task")


@pytest.mark.parametrize("text", REFUSED, ids=ascii)
def test_others_are_refused_and_the_field_is_named(text: str) -> None:
    with pytest.raises(InvalidField) as caught:
        check_scope_id(text, "task")

    assert {"field": "task"} == caught.value.extensions


@given(st.text(max_size=SCOPE_ID_LENGTH_MAX + 4))
def test_any_other_text_is_refused(text: str) -> None:
    assume(not set(text) <= set(SAFE) or not 1 <= len(text) <= SCOPE_ID_LENGTH_MAX)

    with pytest.raises(InvalidField):
        check_scope_id(text, "session")


def test_random_ids_are_160_bits_in_lower_case_base32() -> None:
    assert "a" * 32 == new_random_id(bytes)
    assert "7" * 32 == new_random_id(lambda size: b"\xff" * size)


def test_random_ids_differ_and_are_object_ids() -> None:
    ids = {new_random_id() for _ in range(100)}

    assert 100 == len(ids)
    for one in ids:
        assert re.fullmatch("[a-z2-7]{32}", one)
        assert mint(one).urn.endswith(one)
