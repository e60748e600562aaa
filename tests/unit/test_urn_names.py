"""Goal: a name has one spelling; it is read back exactly or refused with the place of the fault.

Method: known names of ours and of the network, a table of faults, and Hypothesis round trips and
one-character changes.
"""

import base64
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

import urn
from urn import ForeignName, NameFormatError, ObjectName, URNError

OBJECT_ID = "aaaqeayeaudaocajbifqydiob4ibceqt"  # base32 of the bytes 0 to 19
BARE = f"urn:blob:v4:{OBJECT_ID}"
CID = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
PINNED = f"{BARE}?=cid={CID}"
OTHER_CODEC = CID.replace("bafk", "baek", 1)

object_ids = st.binary(min_size=20, max_size=20).map(urn.new_object_id)
cids = st.none() | st.binary(max_size=9).map(urn.cid_of).map(str)
fields = st.text(string.ascii_letters + string.digits + "-._~!$&'()*+,;=@", min_size=1, max_size=8)


def test_an_object_id_spells_its_20_bytes_in_lower_case_base32() -> None:
    assert OBJECT_ID == urn.new_object_id(bytes(range(20)))
    assert "a" * 32 == urn.new_object_id(bytes(20))
    assert "7" * 32 == urn.new_object_id(b"\xff" * 20)


@pytest.mark.parametrize("size", [0, 16, 19, 21, 32])
def test_an_object_id_is_of_20_bytes_only(size: int) -> None:
    with pytest.raises(ValueError, match=f"expected 20 random bytes, got {size}"):
        urn.new_object_id(bytes(size))


@given(st.binary(min_size=20, max_size=20))
def test_an_object_id_loses_no_bit(random: bytes) -> None:
    assert random == base64.b32decode(urn.new_object_id(random).upper())


def test_a_minted_name_has_a_bare_and_a_pinned_form() -> None:
    name = urn.mint(OBJECT_ID, CID)

    assert (BARE, PINNED, PINNED) == (name.urn, name.urn_pinned, str(name))
    assert (44, 109) == (len(BARE), len(PINNED))


def test_a_name_without_a_pin_has_no_pinned_form() -> None:
    name = urn.mint(OBJECT_ID)

    assert (BARE, BARE) == (name.urn, str(name))
    with pytest.raises(ValueError, match="no pin"):
        _ = name.urn_pinned


def test_a_pin_is_not_part_of_the_name_s_identity() -> None:
    assert urn.equivalent(BARE, PINNED)
    assert urn.mint(OBJECT_ID).urn == urn.mint(OBJECT_ID, CID).urn


@given(object_ids, cids)
def test_our_names_are_read_as_they_were_minted(object_id: str, cid: str | None) -> None:
    name = urn.mint(object_id, cid)

    assert name == urn.parse_name(str(name))
    assert name == urn.parse_name(str(name).replace("urn:blob", "URN:Blob"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "urn:blob:v1:s3:akamai:test0:abc",
            ForeignName("v1", "akamai", None, "test0", "abc"),
        ),
        (
            "urn:blob:v2:s3:akamai:test0:abc_result",
            ForeignName("v2", "akamai", None, "test0", "abc_result"),
        ),
        (
            "urn:blob:v3:s3:akamai:7:test0:a/b_result",
            ForeignName("v3", "akamai", "7", "test0", "a/b_result"),
        ),
        (
            "URN:BLOB:v2:s3:Akamai:test0:a%2fB%c3%A9",
            ForeignName("v2", "Akamai", None, "test0", "a%2FB%C3%A9"),
        ),
    ],
)
def test_the_network_s_names_are_read(text: str, expected: ForeignName) -> None:
    name = urn.parse_name(text)

    assert expected == name
    assert urn.equivalent(text, name.urn)
    assert name.urn == str(name)


@given(st.sampled_from(["v1", "v2"]), fields, fields, fields, fields)
def test_the_network_s_names_survive_a_round_trip(
    version: str, provider: str, index: str, bucket: str, file_name: str
) -> None:
    for name in (
        ForeignName(version, provider, None, bucket, file_name),
        ForeignName("v3", provider, index, bucket, file_name),
    ):
        assert name == urn.parse_name(name.urn)


@pytest.mark.parametrize(
    ("text", "position", "reason"),
    [
        ("urn:blub:v4:x", 4, "expected the namespace 'blob'"),
        ("urn:blob:v5:x", 9, "one of v1, v2, v3, v4"),
        (f"urn:blob:V4:{OBJECT_ID}", 9, "one of v1, v2, v3, v4"),
        (f"urn:blob:{OBJECT_ID}", 9, "one of v1, v2, v3, v4"),
        ("urn:blob:v4", 11, "expected ':' and an object id"),
        ("urn:blob:v4?=cid=x", 11, "expected ':' and an object id"),
        ("urn:blob:v4:", 12, "32 characters, got 0"),
        (f"urn:blob:v4:{OBJECT_ID[:-1]}", 43, "32 characters, got 31"),
        (f"{BARE}a", 44, "32 characters, got 33"),
        (f"{BARE}:", 44, "32 characters, got 33"),
        (f"{BARE}/..", 44, "32 characters, got 35"),
        (f"urn:blob:v4:{OBJECT_ID.upper()}", 12, "expected a-z or 2-7 in the object id, found 'A'"),
        (f"urn:blob:v4:aa1{OBJECT_ID[3:]}", 14, "found '1'"),
        (f"urn:blob:v4:%61{OBJECT_ID[3:]}", 12, "found '%'"),
        (f"urn:blob:v4:a:{OBJECT_ID[2:]}", 13, "found ':'"),
        (f"urn:blob:v4:../{OBJECT_ID[3:]}", 12, "found '.'"),
        (f"{BARE}?+r", 44, "no r-component"),
        (f"{BARE}?+r?=cid={CID}", 44, "no r-component"),
        (f"{BARE}#f", 44, "no f-component"),
        (f"{BARE}#", 44, "no f-component"),
        (f"{PINNED}#f", 109, "no f-component"),
        (f"{BARE}?=pin={CID}", 46, "expected 'cid=<cid>'"),
        (f"{BARE}?=CID={CID}", 46, "expected 'cid=<cid>'"),
        (f"{BARE}?=cid", 46, "expected 'cid=<cid>'"),
        (f"{BARE}?=cid=", 50, "bad pin: expected 'b'"),
        (f"{BARE}?=cid={CID.upper()}", 50, "bad pin: expected 'b'"),
        (f"{BARE}?=cid=b{CID[1:].upper()}", 51, "bad pin: expected lower-case base32, found 'A'"),
        (f"{PINNED}&x=y", 109, "bad pin: expected lower-case base32, found '&'"),
        (f"{PINNED}a", 109, "bad pin: expected 59 characters, there are 60"),
        (f"{BARE}?=cid={OTHER_CODEC}", 52, "bad pin: expected codec raw or dag-pb, found"),
        ("urn:blob:v1", 11, "expected exactly v1:s3:<provider>:<bucket>:<file name>"),
        ("urn:blob:v1:s3:p:b", 18, "expected exactly v1:s3:<provider>:<bucket>:<file name>"),
        ("urn:blob:v1:s3:p:b:f:g", 20, "expected exactly v1:s3:<provider>:<bucket>:<file name>"),
        ("urn:blob:v2:s3:p:0:b:f", 20, "expected exactly v2:s3:<provider>:<bucket>:<file name>"),
        ("urn:blob:v3:s3:p:b:f", 20, "expected exactly v3:s3:<provider>:<backend index>:<bucket>"),
        ("urn:blob:v1:ipfs:p:b:f", 12, "expected the protocol 's3'"),
        ("urn:blob:v1:S3:p:b:f", 12, "expected the protocol 's3'"),
        ("urn:blob:v1::p:b:f", 12, "expected the protocol 's3'"),
        ("urn:blob:v1:s3::b:f", 15, "expected a provider"),
        ("urn:blob:v1:s3:p::f", 17, "expected a bucket"),
        ("urn:blob:v1:s3:p:b:", 19, "expected a file name"),
        ("urn:blob:v3:s3:p::b:f", 17, "expected a backend index"),
        ("urn:blob:v1:s3:p:b/c:f", 18, "'/' is not allowed in the bucket"),
        ("urn:blob:v1:s3:p:b:f?+r", 20, "no r-component"),
        (f"urn:blob:v1:s3:p:b:f?=cid={CID}", 20, "no q-component"),
        ("urn:blob:v1:s3:p:b:f#x", 20, "no f-component"),
    ],
)
def test_another_kind_of_name_is_refused_where_it_differs(
    text: str, position: int, reason: str
) -> None:
    with pytest.raises(NameFormatError) as caught:
        urn.parse_name(text)

    assert position == caught.value.position
    assert reason in caught.value.reason
    assert f"at position {position}: " in str(caught.value)


def test_what_is_no_urn_at_all_is_refused_as_such() -> None:
    with pytest.raises(URNError) as caught:
        urn.parse_name(f"blob:v4:{OBJECT_ID}")

    assert URNError is type(caught.value)
    assert 0 == caught.value.position


@given(st.data(), st.sampled_from([BARE, PINNED]))
def test_any_one_character_changed_gives_another_name_or_none(
    data: st.DataObject, text: str
) -> None:
    index = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(st.characters(max_codepoint=0x2FF).filter(lambda c: c != text[index]))
    changed = text[:index] + character + text[index + 1 :]
    try:
        name = urn.parse_name(changed)
    except URNError as error:
        assert 0 <= error.position <= len(changed)
    else:
        assert isinstance(name, ObjectName)
        # Scheme and NID are the only part where a change, of case, gives the same name.
        assert (index < len("urn:blob")) is (name == urn.parse_name(text))


@pytest.mark.parametrize(
    ("object_id", "cid", "position"),
    [(OBJECT_ID.upper(), None, 12), (OBJECT_ID + "a", CID, 44), (OBJECT_ID, "Qm", 50)],
)
def test_a_bad_name_is_not_minted(object_id: str, cid: str | None, position: int) -> None:
    with pytest.raises(NameFormatError) as caught:
        urn.mint(object_id, cid)

    assert position == caught.value.position
