"""Goal: the parser takes exactly what RFC 8141 allows, and says where any other text goes wrong.

Method: the RFC's own examples, a table of faults with their positions, and Hypothesis against a
regular expression written from the RFC's ABNF, which shares nothing with the parser. Texts of any
kind: test_urn_any_text.py.
"""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

import urn
from tests.unit.urn_samples import PCHAR
from urn import URN, URN_LENGTH_MAX, URNError

nids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9-]{0,30}[A-Za-z0-9]", fullmatch=True)
nsses = st.from_regex(rf"{PCHAR}(?:{PCHAR}|/){{0,20}}", fullmatch=True)
rs = st.from_regex(rf"{PCHAR}(?:{PCHAR}|/|\?(?!=)){{0,20}}", fullmatch=True)
qs = st.from_regex(rf"{PCHAR}(?:{PCHAR}|/|\?){{0,20}}", fullmatch=True)
fs = st.from_regex(rf"(?:{PCHAR}|/|\?){{0,20}}", fullmatch=True)
urns = st.builds(URN, nids, nsses, st.none() | rs, st.none() | qs, st.none() | fs)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("urn:example:foo", URN("example", "foo")),
        ("URN:Example:Foo", URN("Example", "Foo")),
        ("urn:isbn:0451450523", URN("isbn", "0451450523")),
        ("urn:example:1/406/47452/2", URN("example", "1/406/47452/2")),
        (
            "urn:example:foo-bar-baz-qux?+CCResolve:cc=uk",
            URN("example", "foo-bar-baz-qux", r="CCResolve:cc=uk"),
        ),
        (
            "urn:example:weather?=op=map&lat=39.56&lon=-104.85&datetime=1969-07-21T02:56:15Z",
            URN(
                "example", "weather", q="op=map&lat=39.56&lon=-104.85&datetime=1969-07-21T02:56:15Z"
            ),
        ),
        ("urn:example:foo-bar-baz-qux#somepart", URN("example", "foo-bar-baz-qux", f="somepart")),
        ("urn:ab:x?+r?=q#f", URN("ab", "x", "r", "q", "f")),
        ("urn:ab:x?+r/?s?=q/?t#f/?u", URN("ab", "x", "r/?s", "q/?t", "f/?u")),
        ("urn:ab:x?+r??=q", URN("ab", "x", r="r?", q="q")),
        ("urn:ab:x?=q?+not-r", URN("ab", "x", q="q?+not-r")),
        ("urn:ab:x#", URN("ab", "x", f="")),
        ("urn:ab:%2F", URN("ab", "%2F")),
        ("urn:ab:x:y:", URN("ab", "x:y:")),
    ],
)
def test_what_the_rfc_allows_is_parsed_into_its_parts(text: str, expected: URN) -> None:
    assert expected == urn.parse(text)
    assert f"urn{text[3:]}" == urn.format(urn.parse(text))


@pytest.mark.parametrize(
    ("text", "position", "reason"),
    [
        ("", 0, "expected the scheme"),
        ("ur", 2, "expected the scheme"),
        ("url:ab:x", 2, "expected the scheme"),
        (" urn:ab:x", 0, "expected the scheme"),
        ("urn", 3, "expected the scheme"),
        ("urn:", 4, "at least 2"),
        ("urn:a:x", 5, "at least 2"),
        ("urn::x", 4, "at least 2"),
        ("urn:ab", 6, "expected ':' and an NSS"),
        (f"urn:{'a' * 33}:x", 36, "at most 32"),
        ("urn:-ab:x", 4, "cannot begin with '-'"),
        ("urn:ab-:x", 6, "cannot end with '-'"),
        ("urn:a_b:x", 5, "found '_'"),
        ("urn:-ab_:x", 4, "cannot begin with '-'"),  # the first of two faults
        ("urn:-:x", 4, "cannot begin with '-'"),
        ("urn:ab_-:x", 6, "found '_'"),
        (f"urn:{'a' * 33}_:x", 36, "at most 32"),
        (f"urn:{'a' * 32}_:x", 36, "at most 32"),
        (f"urn:{'a' * 31}-:x", 35, "cannot end with '-'"),
        (f"urn:{'a' * 32}", 36, "expected ':' and an NSS"),
        ("urn:a\u00e9:x", 5, r"found '\xe9'"),
        ("urn:a\u0661:x", 5, r"found '\u0661'"),  # a digit to str.isdigit, not to the RFC
        ("urn:ab:", 7, "at least one character in the NSS"),
        ("urn:ab:?=q", 7, "at least one character in the NSS"),
        ("urn:ab:/x", 7, "the NSS cannot begin with '/'"),
        ("urn:ab:x y", 8, "' ' is not allowed in the NSS"),
        ("urn:ab:x\n", 8, r"'\n' is not allowed in the NSS"),
        ("urn:ab:x?y", 8, "'?' is not allowed in the NSS"),
        ("urn:ab:x?", 8, "'?' is not allowed in the NSS"),
        ("urn:ab:x[1]", 8, "'[' is not allowed in the NSS"),
        ("urn:ab:x%", 8, "two hex digits after '%' in the NSS"),
        ("urn:ab:x%4", 8, "two hex digits after '%' in the NSS"),
        ("urn:ab:%4g", 7, "two hex digits after '%' in the NSS"),
        ("urn:ab:x?+", 10, "at least one character in the r-component"),
        ("urn:ab:x?+?=q", 10, "at least one character in the r-component"),
        ("urn:ab:x?+/", 10, "the r-component cannot begin with '/'"),
        ("urn:ab:x?=", 10, "at least one character in the q-component"),
        ("urn:ab:x?+r?=q\\", 14, r"'\\' is not allowed in the q-component"),
        ("urn:ab:x?+r?=q#f#g", 16, "'#' is not allowed in the f-component"),
        ("urn:ab:x#%", 9, "two hex digits after '%' in the f-component"),
        (f"urn:ab:{'x' * 2042}", 2048, "at most 2048 characters, there are 2049"),
        ("\n" * 2049, 2048, "at most 2048 characters, there are 2049"),  # before any other look
    ],
)
def test_a_fault_is_refused_where_it_stands(text: str, position: int, reason: str) -> None:
    with pytest.raises(URNError) as caught:
        urn.parse(text)

    assert position == caught.value.position
    assert reason in caught.value.reason
    assert f"not a valid URN at position {position}: {caught.value.reason}" == str(caught.value)


def test_the_longest_urn_is_taken() -> None:
    text = f"urn:ab:{'x' * (URN_LENGTH_MAX - 7)}"

    assert text == str(urn.parse(text))


@given(urns)
def test_parse_gives_back_what_format_wrote(expected: URN) -> None:
    assert expected == urn.parse(urn.format(expected))


@pytest.mark.parametrize(
    ("parts", "position"),
    [
        ({"nid": "a", "nss": "x"}, 5),
        ({"nid": "ab", "nss": ""}, 7),
        ({"nid": "ab", "nss": "x?=y"}, 8),
        ({"nid": "ab", "nss": "x#y"}, 8),
        ({"nid": "ab", "nss": "x", "r": "a?=b"}, 11),
        ({"nid": "ab", "nss": "x", "r": ""}, 10),
        ({"nid": "ab", "nss": "x", "r": "r", "q": "a#b"}, 14),
        ({"nid": "ab", "nss": "x", "f": "#"}, 9),
        ({"nid": "ab", "nss": "x" * URN_LENGTH_MAX}, URN_LENGTH_MAX),
    ],
)
def test_parts_that_would_not_parse_again_make_no_urn(parts: dict[str, str], position: int) -> None:
    with pytest.raises(URNError) as caught:
        URN(**parts)

    assert position == caught.value.position


# RFC 8141 section 3.2: each group is equivalent inside, and to no other.
EQUIVALENT_GROUPS = [
    [
        "urn:example:a123,z456",
        "URN:example:a123,z456",
        "urn:EXAMPLE:a123,z456",
        "urn:example:a123,z456?+abc",
        "urn:example:a123,z456?=xyz",
        "urn:example:a123,z456#789",
    ],
    ["urn:example:a123,z456/foo"],
    ["urn:example:a123,z456/bar"],
    ["urn:example:a123,z456/baz"],
    ["urn:example:a123%2Cz456", "URN:EXAMPLE:a123%2cz456"],
    ["urn:example:A123,z456"],
    ["urn:example:a123,Z456"],
    ["urn:example:%D0%B0123,z456", "urn:example:%d0%b0123,z456"],
]


@pytest.mark.parametrize(("i", "a"), [(i, a) for i, g in enumerate(EQUIVALENT_GROUPS) for a in g])
def test_equivalence_is_that_of_the_rfc_s_examples(i: int, a: str) -> None:
    for j, group in enumerate(EQUIVALENT_GROUPS):
        for b in group:
            assert (i == j) is urn.equivalent(a, b), (a, b)
            assert (i == j) is urn.equivalent(urn.parse(a), b), (a, b)


@given(urns)
def test_the_canonical_spelling_is_equivalent_and_stays(name: URN) -> None:
    assert urn.equivalent(name, name.canonical)
    assert name.canonical == urn.parse(name.canonical).canonical


def test_what_is_not_a_urn_is_equivalent_to_nothing() -> None:
    with pytest.raises(URNError):
        urn.equivalent("urn:ab:x", "x")


def test_an_error_survives_pickling() -> None:
    # As it must between processes; an exception with arguments of its own easily does not.
    copy = pickle.loads(pickle.dumps(URNError("reason", 7)))  # noqa: S301 - made here

    assert ("reason", 7) == (copy.reason, copy.position)
