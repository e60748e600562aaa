"""Goal: whatever is in a text, a parser reads it or raises its own error and no other, with the
position from which on no URN, name or CID is like it.

Method: Hypothesis over all of Unicode, lone surrogates included, and over texts that are almost
right, against regular expressions written from the standards and from docs/names.md.
"""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import urn
from tests.unit.urn_samples import ABNF
from urn import CID, URN_LENGTH_MAX, CIDError, NameFormatError, URNError

OBJECT_ID = "aaaqeayeaudaocajbifqydiob4ibceqt"
RAW_CID = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
TREE_CID = "bafybeieqbgumuzr4lmyjbk2rygofdueowlqhs77aoztv4v7v5pekwiw3t4"
URNS = (
    *(
        "urn:ab:x",
        "URN:a-b:x/y",
        "urn:ab:x?+r?=q#f",
        "urn:ab:%2f?=q?+",
        "urn:ab:x?+r?r",
        "urn:ab:x#",
    ),
    f"urn:{'ab' * 16}:x",
)
NAMES = (
    *(f"urn:blob:v4:{OBJECT_ID}", f"urn:blob:sg1:{OBJECT_ID}"),
    *(f"urn:blob:v4:{OBJECT_ID}?=cid={cid}" for cid in (RAW_CID, TREE_CID)),
    *("urn:blob:v1:s3:p:b:f", "urn:blob:v2:s3:p:b:f/g%2f", "urn:blob:v3:s3:p:0:b:f"),
)
CIDS = (RAW_CID, TREE_CID)

CID_TEXT = re.compile("baf(?:kr|yb)ei[a-z2-7]{51}[aeimquy4]")
FIELD = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=@]|%[0-9A-Fa-f]{2})"  # a pchar but ':'
NAME = re.compile(
    rf"(?i:urn:blob):(?:(?:v4|sg1):[a-z2-7]{{32}}(?:\?=cid={CID_TEXT.pattern})?"
    rf"|(?:v[12]:s3:(?:{FIELD}+:){{2}}|v3:s3:(?:{FIELD}+:){{3}})(?:{FIELD}|/)+)"
)

many = settings(max_examples=max(500, settings().max_examples))
anything = st.text(st.characters(exclude_categories=()), max_size=40)
pieces = st.text("urnblobv1234sgp:-/?=+#cid%aAF\u00e9 \n", max_size=8) | anything


@st.composite
def almost(draw: st.DrawFn, samples: tuple[str, ...]) -> str:
    """Draw a sample with something put in, taken out or put in another's place, once or twice."""
    text = draw(st.sampled_from(samples))
    for _ in range(draw(st.integers(1, 2))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, len(text)) | st.just(start))
        text = text[:start] + draw(pieces) + text[end:]
    return text


def goes_on(beginning: str, samples: tuple[str, ...], whole: re.Pattern[str]) -> bool:
    """Tell whether some text matches `whole` that begins so: any end of a sample may follow."""
    tails = {sample[index:] for sample in samples for index in range(len(sample) + 1)}
    return any(whole.fullmatch(beginning + tail) for tail in {*tails, "xab:x", "0x"})


@many
@given(anything | anything.map("urn:ab:".__add__) | almost(URNS))
@example("urn:ab:x?+a?=")
@example("urn:ab:x?+a??=b")
@example("urn:ab:x\n")
@example("urn:ab:\ud800")
def test_text_of_any_kind_is_a_urn_or_refused_where_none_goes_on(text: str) -> None:
    try:
        parsed = urn.parse(text)
    except URNError as error:
        assert URNError is type(error)
        assert ABNF.fullmatch(text) is None
        position = error.position
        assert 0 <= position <= len(text)
        assert goes_on(text[:position], URNS, ABNF)
        # What is wrong there is no longer than a percent-encoding or a mark with its first letter.
        until = position + len("%FF")
        assert until > len(text) or not goes_on(text[:until], URNS, ABNF)
        assert str(error).isascii()
    else:
        assert ABNF.fullmatch(text)
        assert f"urn{text[3:]}" == str(parsed)


@many
@given(anything | anything.map("urn:blob:".__add__) | almost(NAMES))
@example("urn:blob:v3:s3:\ud800")
@example("urn:blob:v1:s3:p:b:%")
def test_text_of_any_kind_is_a_name_or_refused_where_none_goes_on(text: str) -> None:
    try:
        name = urn.parse_name(text)
    except URNError as error:
        assert NAME.fullmatch(text) is None
        assert 0 <= error.position <= len(text)
        assert str(error).isascii()
        if isinstance(error, NameFormatError):
            # A pin has an order of its own: characters, length, meaning.
            beginning = re.sub(r"(?<=\?=cid=).*", "", text[: error.position])
            assert goes_on(beginning, NAMES, NAME)
    else:
        assert NAME.fullmatch(text)
        assert name == urn.parse_name(str(name))


@many
@given(anything | anything.map("b".__add__) | almost(CIDS))
@example("\ud800")
def test_text_of_any_kind_is_a_cid_or_refused(text: str) -> None:
    try:
        cid = CID.parse(text)
    except CIDError as error:
        assert CID_TEXT.fullmatch(text) is None
        assert 0 <= error.position <= min(len(text), len(RAW_CID))
        assert str(error).isascii()
    else:
        assert CID_TEXT.fullmatch(text)
        assert text == str(cid)


CHARACTERS = [*map(chr, range(0x180)), "\u0661", "\u212a", "\uff41", "\ufeff", "\U0001d7d8"]


@pytest.mark.parametrize(
    "around",
    [
        *(("urn:", "b:x"), ("urn:a", "b:x"), ("urn:a", ":x"), ("", "rn:ab:x"), ("urn:ab", "x")),
        *(("urn:ab:", ""), ("urn:ab:x", ""), ("urn:ab:%4", ""), ("urn:ab:%", "1")),
        *(("urn:ab:x?", "r"), ("urn:ab:x?+", ""), ("urn:ab:x?+r", ""), ("urn:ab:x?=", "")),
        *(("urn:ab:x?=q", ""), ("urn:ab:x#", ""), ("urn:ab:x#f", "f")),
    ],
)
def test_each_character_is_taken_where_the_grammar_has_it(around: tuple[str, str]) -> None:
    taken = set()
    for character in CHARACTERS:
        try:
            urn.parse(character.join(around))
        except URNError:
            continue
        taken.add(character)

    assert {it for it in CHARACTERS if ABNF.fullmatch(it.join(around))} == taken


@pytest.mark.parametrize("index", [0, 9, 31])
def test_each_character_is_taken_where_an_object_id_has_it(index: int) -> None:
    taken = set()
    for character in CHARACTERS:
        try:
            urn.mint(OBJECT_ID[:index] + character + OBJECT_ID[index + 1 :])
        except NameFormatError:
            continue
        taken.add(character)

    assert set("abcdefghijklmnopqrstuvwxyz234567") == taken


@pytest.mark.parametrize("index", [0, 8, 9, 57, 58])
def test_each_character_is_taken_where_a_cid_has_it(index: int) -> None:
    texts = {it: RAW_CID[:index] + it + RAW_CID[index + 1 :] for it in CHARACTERS}
    taken = set()
    for character, text in texts.items():
        try:
            CID.parse(text)
        except CIDError:
            continue
        taken.add(character)

    assert {it for it, text in texts.items() if CID_TEXT.fullmatch(text)} == taken


@pytest.mark.parametrize("character", ["a", "%", "?", "#", ":", "\ud800", "\U0001f600", "\0"])
@pytest.mark.parametrize("beginning", ["", "urn:", "urn:ab:", "urn:blob:v1:s3:", "b"])
def test_endless_text_is_refused_for_its_length_alone(character: str, beginning: str) -> None:
    text = beginning + character * 1_000_000

    for parse in (urn.parse, urn.parse_name):
        with pytest.raises(URNError, match="at most 2048 characters") as caught:
            parse(text)
        assert URN_LENGTH_MAX == caught.value.position
    with pytest.raises(CIDError) as refused:
        CID.parse(text)
    assert refused.value.position <= len(RAW_CID)
