"""Goal: a name has one spelling; it is read back exactly or refused with the place of the fault.

Method: known names of ours and of the network, tables of faults, Hypothesis round trips,
one-character changes, and a copy of the package with our names renamed.
Texts of any kind: test_urn_any_text.py.
"""

import base64
import os
import pickle
import shutil
import string
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import urn
from urn import ForeignName, NameFormatError, ObjectName, URNError

OBJECT_ID = "aaaqeayeaudaocajbifqydiob4ibceqt"  # base32 of the bytes 0 to 19
BARE = f"urn:blob:v4:{OBJECT_ID}"
CID = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
PINNED = f"{BARE}?=cid={CID}"
OTHER = f"urn:blob:sg1:{OBJECT_ID}"  # the second accepted prefix
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
    assert name == urn.parse_name(str(name).replace(":v4:", ":sg1:"))


def test_the_first_accepted_prefix_is_the_one_minted() -> None:
    assert (("blob", "v4"), ("blob", "sg1")) == urn.ACCEPTED
    assert BARE == urn.mint(OBJECT_ID).urn


def test_a_name_under_another_accepted_prefix_is_written_under_the_first() -> None:
    name = urn.parse_name(f"{OTHER}?=cid={CID}")

    assert urn.mint(OBJECT_ID, CID) == name
    assert PINNED == str(name)
    # By RFC 8141 they are two names; that both are of one object is for us to know.
    assert not urn.equivalent(BARE, OTHER)


RENAMED = """
import urn
object_id = "{id}"
assert urn.__file__.startswith("{home}")
print(urn.mint(object_id), urn.mint(object_id, "{cid}"))
for text in ("{v4}", "{v4}?=cid={cid}", "{sg1}", "{sg1}?=cid={cid}", "urn:blob:v3:s3:p:0:b:f"):
    print(urn.parse_name(text))
for parts in ((object_id + "a", None), (object_id, "Qm")):
    try:
        urn.mint(*parts)
    except urn.URNError as error:
        print(error.position)
"""


def test_one_line_renames_what_is_minted_and_old_names_stay_readable(tmp_path: Path) -> None:
    shutil.copytree(Path(urn.__file__).parent, tmp_path / "urn")
    module = tmp_path / "urn" / "names.py"
    line = 'ACCEPTED: Final = (("blob", "v4"), ("blob", "sg1"))\n'
    assert 1 == module.read_text().count(line)
    other_line = 'ACCEPTED: Final = (("example", "sg2"), ("blob", "sg1"), ("blob", "v4"))\n'
    module.write_text(module.read_text().replace(line, other_line))
    program = RENAMED.format(id=OBJECT_ID, cid=CID, v4=BARE, sg1=OTHER, home=tmp_path)

    run = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    minted, pinned = f"urn:example:sg2:{OBJECT_ID}", f"urn:example:sg2:{OBJECT_ID}?=cid={CID}"
    expected = f"{minted} {pinned}\n" + f"{minted}\n{pinned}\n" * 2
    assert (f"{expected}urn:blob:v3:s3:p:0:b:f\n48\n54\n", "") == (run.stdout, run.stderr)


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
        ("urn:blob:v5:x", 9, "one of v1, v2, v3, v4, sg1"),
        (f"urn:blob:V4:{OBJECT_ID}", 9, "one of v1, v2, v3, v4, sg1"),
        (f"urn:blob:{OBJECT_ID}", 9, "one of v1, v2, v3, v4, sg1"),
        (f"urn:example:v4:{OBJECT_ID}", 4, "expected the namespace 'blob'"),
        ("urn:example:v1:s3:p:b:f", 4, "expected the namespace 'blob'"),
        ("URN:BLOB:v5:x", 9, "one of v1, v2, v3, v4, sg1"),
        (f"urn:blob:SG1:{OBJECT_ID}", 9, "one of v1, v2, v3, v4, sg1"),
        (f"urn:blob:sg1{OBJECT_ID}", 9, "one of v1, v2, v3, v4, sg1"),
        ("urn:blob:sg1", 12, "expected ':' and an object id after 'sg1'"),
        (f"urn:blob:sg1:v1:{OBJECT_ID}", 14, "found '1'"),
        # Should the network make a v4 of its own, it will not be taken for ours.
        ("urn:blob:v4:s3:akamai:7:test0:abc", 14, "found ':'"),
        (f"{OTHER}a", 45, "32 characters, got 33"),
        (f"{OTHER}?+r", 45, "no r-component"),
        (f"{OTHER}?=pin={CID}", 47, "expected 'cid=<cid>'"),
        (f"{OTHER}?=cid=Qm", 51, "bad pin: expected 'b'"),
        (f"{OTHER}?=cid={CID}a", 110, "bad pin: expected 59 characters, there are 60"),
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
        (f"{PINNED}&x=y", 109, "bad pin: expected 59 characters, there are 63"),
        (f"{PINNED}?=cid={CID}", 109, "bad pin: expected 59 characters"),
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
    [
        (OBJECT_ID.upper(), None, 12),
        (OBJECT_ID + "a", CID, 44),
        (OBJECT_ID, "Qm", 50),
        (OBJECT_ID, "", 50),
    ],
)
def test_a_bad_name_is_not_minted(object_id: str, cid: str | None, position: int) -> None:
    with pytest.raises(NameFormatError) as caught:
        urn.mint(object_id, cid)

    assert position == caught.value.position


@pytest.mark.parametrize(
    ("fields", "position", "reason"),
    [
        (("v4", "p", None, "b", "f"), 9, "one of v1, v2, v3"),
        (("v1", "p", "0", "b", "f"), 20, "expected exactly v1:s3:"),
        (("v3", "p", None, "b", "f"), 20, "expected exactly v3:s3:"),
        (("v3", "p:0", None, "b", "f"), 16, "':' is not allowed in a field; write %3A"),
        (("v1", "p", None, "b", "f:g"), 20, "':' is not allowed in a field; write %3A"),
        (("v1", "", None, "b", "f"), 15, "expected a provider"),
        (("v1", "p", None, "b", ""), 19, "expected a file name"),
        (("v1", "p", None, "b/c", "f"), 18, "'/' is not allowed in the bucket"),
        (("v1", "p", None, "b", "f?=q"), 20, "no q-component"),
        (("v1", "p", None, "b", "f#"), 20, "no f-component"),
        (("v1", "p", None, "b", "f g"), 20, "' ' is not allowed in the NSS"),
        (("v1", "p", None, "b", "%2f%2F"), 21, "expected 'F': percent-encodings"),
        (("v1", "p", None, "b", "\u00e9"), 19, "is not allowed in the NSS"),
    ],
)
def test_fields_that_would_not_be_read_again_make_no_name(
    fields: tuple[str, str, str | None, str, str], position: int, reason: str
) -> None:
    with pytest.raises(URNError) as caught:
        ForeignName(*fields)

    assert position == caught.value.position
    assert reason in caught.value.reason


def test_an_error_survives_pickling() -> None:
    copy = pickle.loads(pickle.dumps(NameFormatError("reason", 7)))  # noqa: S301 - made here

    assert (NameFormatError, "reason", 7) == (type(copy), copy.reason, copy.position)
