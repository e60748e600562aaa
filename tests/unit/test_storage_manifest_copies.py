"""Goal: copies of what has no terms and no holds are the bytes that they were before there were
any, and are read; what is claimed is read again as it was written.

Method: bytes that were written down; and copies of each kind, there and back.
"""

import msgspec
import pytest

from storage_gateway.manifest_copies import (
    RETENTION,
    Copy,
    CopyName,
    CopyUnreadable,
    HoldCopy,
    LeaseCopy,
    ObjectCopy,
    RetentionCopy,
    SessionCopy,
    TermsCopy,
    decode_copy,
    encode_copy,
    parse_copy_name,
)

OBJECT_BEFORE = (
    b'{"type":"object","object_id":"o1","generation":2,"session_id":"101","task_id":"t1",'
    b'"direction":"input","miner":null,"payload_id":"p1","cid":"c","size":1,"payload_size":2,'
    b'"sealed_size":3,"key_class":"classic","wrapped_for":[],"file_key_print":"cHJpbnQ=",'
    b'"sequence":4,"created_ms":5,"erased_ms":null,"head":null,"segments":[]}'
)
SESSION_BEFORE = (
    b'{"type":"session","session_id":"101","generation":1,"custody":"router",'
    b'"key_class":"classic","created_ms":5,"backends":null,"write_quorum":null,'
    b'"parties":[],"keys":[]}'
)
TERMS = TermsCopy("quarterly", 3600, None, 60, "compliance")
HOLDS = (
    HoldCopy("h1", "the court", "case 7", 5, None, None, None),
    HoldCopy("h2", "the court", "case 8", 6, 7, "the clerk", "it is over"),
)
CLAIMS = RetentionCopy("o1", 3, 9, (LeaseCopy("user", 8, 7),), HOLDS)


@pytest.mark.parametrize("before", [OBJECT_BEFORE, SESSION_BEFORE], ids=["object", "session"])
def test_what_has_no_terms_is_copied_as_before(before: bytes) -> None:
    assert before == encode_copy(decode_copy(before))


@pytest.mark.parametrize(
    "copy",
    [
        msgspec.structs.replace(
            msgspec.json.decode(OBJECT_BEFORE, type=ObjectCopy), terms=TERMS, keep_until_ms=9
        ),
        msgspec.structs.replace(
            msgspec.json.decode(SESSION_BEFORE, type=SessionCopy), terms=TERMS, holds=HOLDS
        ),
        CLAIMS,
        msgspec.structs.replace(CLAIMS, keep_until_ms=None, leases=(), holds=()),
    ],
    ids=["object", "session", "claims", "no claims"],
)
def test_what_is_claimed_is_read_as_it_was_written(copy: Copy) -> None:
    written = encode_copy(copy)
    assert copy == decode_copy(written)
    assert written not in {OBJECT_BEFORE, SESSION_BEFORE}
    with pytest.raises(CopyUnreadable):
        decode_copy(written[:-1] + b',"more":1}')


def test_claims_have_a_folder_of_their_own() -> None:
    name = CopyName(RETENTION, "a" * 32, 7)
    assert name.below("x/") == f"x/retentions/{'a' * 32}/7"
    assert name == parse_copy_name("x/", name.below("x/"))
