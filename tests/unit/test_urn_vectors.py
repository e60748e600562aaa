"""Goal: the package does what tests/vectors/names.json says, which was written without it.

Method: each entry is read and written; faulty ones must be refused at their position; the generator
is run again and its output compared byte for byte.
"""

import json
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest

import urn
from tests.vectors import make_names
from urn import CID, CIDError, ForeignName, NameFormatError, ObjectName, URNError

TEXT = Path(make_names.__file__).with_name("names.json").read_text("utf-8")
VECTORS: dict[str, list[dict[str, Any]]] = json.loads(TEXT)
EQUIVALENCE: list[list[str]] = json.loads(TEXT)["equivalence"]


def test_the_file_is_what_the_generator_writes() -> None:
    assert make_names.render() == TEXT


@pytest.mark.parametrize("entry", VECTORS["urns"], ids=lambda entry: entry["text"])
def test_urns_have_these_parts_and_this_canonical_spelling(entry: dict[str, Any]) -> None:
    parsed = urn.parse(entry["text"])

    assert parsed == urn.URN(*(entry[part] for part in ("nid", "nss", "r", "q", "f")))
    assert entry["canonical"] == parsed.canonical
    assert entry["text"].replace("URN:", "urn:") == urn.format(parsed)
    assert urn.equivalent(entry["text"], entry["canonical"])


def test_urns_are_equivalent_in_their_group_and_to_no_other() -> None:
    for group in EQUIVALENCE:
        for one, other in product(group, group):
            assert urn.equivalent(one, other), (one, other)
    for group, other_group in combinations(EQUIVALENCE, 2):
        for one, other in product(group, other_group):
            assert not urn.equivalent(one, other), (one, other)
            assert not urn.equivalent(other, one), (one, other)


@pytest.mark.parametrize("entry", VECTORS["invalid_urns"], ids=lambda entry: ascii(entry["text"]))
def test_what_is_no_urn_is_refused_at_its_position(entry: dict[str, Any]) -> None:
    for parse in (urn.parse, urn.parse_name):
        with pytest.raises(URNError) as caught:
            parse(entry["text"])

        assert (URNError, entry["position"]) == (type(caught.value), caught.value.position)


@pytest.mark.parametrize("entry", VECTORS["object_ids"], ids=lambda entry: entry["object_id"])
def test_object_ids_spell_these_bytes(entry: dict[str, Any]) -> None:
    assert entry["object_id"] == urn.new_object_id(bytes.fromhex(entry["random"]))


@pytest.mark.parametrize("entry", VECTORS["object_names"], ids=lambda entry: entry["text"])
def test_object_names_are_read_and_written_so(entry: dict[str, Any]) -> None:
    name = urn.parse_name(entry["text"])

    assert ObjectName(entry["object_id"], entry["cid"]) == name
    assert entry["urn"] == name.urn
    assert (entry["urn_pinned"] or entry["urn"]) == str(name)


@pytest.mark.parametrize("entry", VECTORS["foreign_names"], ids=lambda entry: entry["text"])
def test_foreign_names_are_read_and_written_so(entry: dict[str, Any]) -> None:
    fields = ("version", "provider", "backend_index", "bucket", "file_name")
    name = urn.parse_name(entry["text"])

    assert ForeignName(*(entry[field] for field in fields)) == name
    assert entry["urn"] == name.urn == str(name)


@pytest.mark.parametrize("entry", VECTORS["invalid_names"], ids=lambda entry: entry["text"])
def test_what_is_no_name_is_refused_at_its_position(entry: dict[str, Any]) -> None:
    with pytest.raises(NameFormatError) as caught:
        urn.parse_name(entry["text"])

    assert entry["position"] == caught.value.position
    assert "urn" == urn.parse(entry["text"]).canonical[:3]  # as a URN nothing is wrong with it


@pytest.mark.parametrize("entry", VECTORS["cids"], ids=lambda entry: entry["text"])
def test_cids_are_read_and_written_so(entry: dict[str, Any]) -> None:
    cid = CID.parse(entry["text"])

    assert (entry["codec"], entry["digest"]) == (cid.codec, cid.digest.hex())
    assert (entry["text"], entry["binary"]) == (str(cid), cid.bytes.hex())
    assert cid == CID.from_bytes(bytes.fromhex(entry["binary"]))


@pytest.mark.parametrize("entry", VECTORS["invalid_cids"], ids=lambda entry: ascii(entry["text"]))
def test_what_is_no_cid_is_refused_at_its_position(entry: dict[str, Any]) -> None:
    with pytest.raises(CIDError) as caught:
        CID.parse(entry["text"])

    assert entry["position"] == caught.value.position


@pytest.mark.parametrize("entry", VECTORS["invalid_binary_cids"], ids=lambda it: it["binary"])
def test_bytes_that_are_no_cid_are_refused_at_their_position(entry: dict[str, Any]) -> None:
    with pytest.raises(CIDError) as caught:
        CID.from_bytes(bytes.fromhex(entry["binary"]))

    assert entry["position"] == caught.value.position
