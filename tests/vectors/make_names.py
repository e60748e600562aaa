"""Writes names.json: URNs, names, CID texts, what they mean, and where faulty ones go wrong.

Run as `python -m tests.vectors.make_names`. Shares nothing with the package `urn`: what is expected
stands here by hand, from RFC 8141, docs/names.md and the CID specification; object ids and digests
come from fixed randomness. In a faulty text a MARK stands where the first fault begins.
"""

import json
from base64 import b32encode
from hashlib import shake_256
from pathlib import Path
from typing import Any

SEED = "storage-gateway/name-vectors-v1"
MARK = "\N{BLACK RIGHT-POINTING SMALL TRIANGLE}"
RAW, DAG_PB = 0x55, 0x70

Entry = dict[str, Any]


def randomness(index: int, size: int) -> bytes:
    """Return the first `size` bytes of SHAKE256(SEED, then `index` as 8 bytes big-endian)."""
    return shake_256(SEED.encode("ascii") + index.to_bytes(8, "big")).digest(size)


def base32(binary: bytes) -> str:
    """Return RFC 4648 base32 in lower case without padding."""
    return b32encode(binary).decode("ascii").rstrip("=").lower()


def binary_cid(codec: int, digest: bytes) -> bytes:
    """Return a CIDv1 with a SHA-256 digest: version, codec, hash code, digest size, digest."""
    return bytes([1, codec, 0x12, len(digest)]) + digest


ID = base32(randomness(0, 20))
LEAF = "b" + base32(binary_cid(RAW, randomness(1, 32)))
TREE = "b" + base32(binary_cid(DAG_PB, randomness(2, 32)))
BARE = f"urn:blob:v4:{ID}"
PINNED = f"{BARE}?=cid={LEAF}"
OTHER = f"urn:blob:sg1:{ID}"

# All of a group are equivalent, and to none of another group. Those of RFC 8141 section 3.2, ours.
EQUIVALENCE = [
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
    [BARE, PINNED, f"URN:Blob:v4:{ID}", f"{BARE}?=cid={TREE}"],
    [OTHER, f"{OTHER}?=cid={LEAF}"],
    ["urn:blob:v3:s3:akamai:7:test0:a%2Fb", "urn:BLOB:v3:s3:akamai:7:test0:a%2fb"],
    ["urn:blob:v3:s3:akamai:7:test0:a/b"],
]


def urn_parts(text: str, nss: str, canonical: str, nid: str = "example", **parts: str) -> Entry:
    """Return a URN with its parts as written, and its spelling in lower case, bare."""
    components = {key: parts.get(key) for key in "rqf"}
    return {"text": text, "nid": nid, "nss": nss, **components, "canonical": canonical}


# The examples of RFC 8141 sections 1 and 2, then corners of its grammar.
URNS = [
    urn_parts("urn:isbn:0451450523", "0451450523", "urn:isbn:0451450523", "isbn"),
    urn_parts("urn:example:1/406/47452/2", "1/406/47452/2", "urn:example:1/406/47452/2"),
    urn_parts(
        "urn:example:foo-bar-baz-qux?+CCResolve:cc=uk",
        "foo-bar-baz-qux",
        "urn:example:foo-bar-baz-qux",
        r="CCResolve:cc=uk",
    ),
    urn_parts(
        "urn:example:weather?=op=map&lat=39.56&lon=-104.85&datetime=1969-07-21T02:56:15Z",
        "weather",
        "urn:example:weather",
        q="op=map&lat=39.56&lon=-104.85&datetime=1969-07-21T02:56:15Z",
    ),
    urn_parts(
        "urn:example:foo-bar-baz-qux#somepart",
        "foo-bar-baz-qux",
        "urn:example:foo-bar-baz-qux",
        f="somepart",
    ),
    urn_parts("URN:ExAmple:Foo%c3%A9", "Foo%c3%A9", "urn:example:Foo%C3%A9", "ExAmple"),
    urn_parts("urn:ab:x?+r?=q#f", "x", "urn:ab:x", "ab", r="r", q="q", f="f"),
    urn_parts("urn:ab:x?+r/?s?=q/?t#f/?u", "x", "urn:ab:x", "ab", r="r/?s", q="q/?t", f="f/?u"),
    urn_parts("urn:ab:x?+r??=q", "x", "urn:ab:x", "ab", r="r?", q="q"),
    urn_parts("urn:ab:x?=q?+still-q", "x", "urn:ab:x", "ab", q="q?+still-q"),
    urn_parts("urn:ab:x#", "x", "urn:ab:x", "ab", f=""),
    urn_parts("urn:ab:x:/~!$&'()*+,;=@", "x:/~!$&'()*+,;=@", "urn:ab:x:/~!$&'()*+,;=@", "ab"),
    urn_parts(f"urn:{'a1' * 16}:x", "x", f"urn:{'a1' * 16}:x", "a1" * 16),
]

INVALID_URNS = [
    *(f"{MARK}", f"u{MARK}", f"ur{MARK}l:ab:x", f"{MARK} urn:ab:x", f"urn{MARK}"),
    *(f"urn:{MARK}", f"urn:{MARK}:x", f"urn:a{MARK}:x", f"urn:{MARK}-ab:x", f"urn:ab{MARK}-:x"),
    *(f"urn:a{MARK}_b:x", f"urn:a{MARK}\u0661:x", f"urn:{MARK}-a_:x", f"urn:ab{MARK}"),
    *(f"urn:{'a' * 32}{MARK}a:x", f"urn:{'a' * 32}{MARK}_:x"),
    *(f"urn:ab:{MARK}", f"urn:ab:{MARK}?=q", f"urn:ab:{MARK}/x", f"urn:ab:{MARK}#f"),
    *(f"urn:ab:x{MARK} y", f"urn:ab:x{MARK}\n", f"urn:ab:x{MARK}?", f"urn:ab:x{MARK}?y"),
    *(f"urn:ab:x{MARK}[1]", f"urn:ab:x{MARK}\\", f"urn:ab:x{MARK}\u00e9"),
    *(f"urn:ab:x{MARK}%", f"urn:ab:x{MARK}%4", f"urn:ab:{MARK}%4g", f"urn:ab:%41{MARK}%%41"),
    *(f"urn:ab:x?+{MARK}", f"urn:ab:x?+{MARK}?=q", f"urn:ab:x?+{MARK}/", f"urn:ab:x?={MARK}"),
    *(f"urn:ab:x?={MARK}?", f"urn:ab:x?+r?=q{MARK}\\", f"urn:ab:x?+r?=q#f{MARK}#g"),
    *(f"urn:ab:x#{MARK}%", f"urn:ab:{'x' * 2041}{MARK}x"),
]


def object_name(text: str, pin: str | None = None) -> Entry:
    """Return a name of ours: what it is read as, and how it is written."""
    pinned = None if pin is None else f"{BARE}?=cid={pin}"
    return {"text": text, "object_id": ID, "cid": pin, "urn": BARE, "urn_pinned": pinned}


def foreign_name(text: str, *fields: str | None, urn: str | None = None) -> Entry:
    """Return a name of the network: its fields, and the spelling that it is looked up by."""
    names = ("version", "provider", "backend_index", "bucket", "file_name")
    return {"text": text, **dict(zip(names, fields, strict=True)), "urn": urn or text}


OBJECT_NAMES = [
    object_name(BARE),
    object_name(PINNED, LEAF),
    object_name(f"{BARE}?=cid={TREE}", TREE),
    object_name(f"URN:BLOB:v4:{ID}"),
    object_name(OTHER),
    object_name(f"uRn:bLoB:sg1:{ID}?=cid={TREE}", TREE),
]

FOREIGN_NAMES = [
    foreign_name("urn:blob:v1:s3:akamai:test0:abc", "v1", "akamai", None, "test0", "abc"),
    foreign_name("urn:blob:v2:s3:akamai:test0:a_result", "v2", "akamai", None, "test0", "a_result"),
    foreign_name("urn:blob:v3:s3:akamai:7:test0:a/b", "v3", "akamai", "7", "test0", "a/b"),
    foreign_name(
        *("URN:Blob:v2:s3:Akamai:b:%c3%A9%3a/", "v2", "Akamai", None, "b", "%C3%A9%3A/"),
        urn="urn:blob:v2:s3:Akamai:b:%C3%A9%3A/",
    ),
]

INVALID_NAMES = [
    *(f"urn:{MARK}blub:v4:{ID}", f"urn:{MARK}example:v4:{ID}"),
    *(f"urn:blob:{MARK}v5:{ID}", f"urn:blob:{MARK}V4:{ID}", f"urn:blob:{MARK}{ID}"),
    *(f"urn:blob:{MARK}sg2:{ID}", f"urn:blob:sg1{MARK}", f"urn:blob:v4{MARK}?=cid={LEAF}"),
    *(f"urn:blob:v4:{MARK}", f"urn:blob:v4:{ID[:-1]}{MARK}", f"{BARE}{MARK}a", f"{BARE}{MARK}:"),
    *(f"{BARE}{MARK}/..", f"urn:blob:v4:{MARK}{ID.upper()}", f"urn:blob:v4:{MARK}%61{ID[1:]}"),
    *(f"urn:blob:v4:a{MARK}1{ID[2:]}", f"urn:blob:v4:{ID[:31]}{MARK}8"),
    *(f"{BARE}{MARK}?+r", f"{BARE}{MARK}#f", f"{PINNED}{MARK}#", f"{OTHER}{MARK}#f"),
    *(f"{BARE}?={MARK}pin={LEAF}", f"{BARE}?={MARK}CID={LEAF}", f"{BARE}?={MARK}cid"),
    *(f"{BARE}?=cid={MARK}", f"{PINNED}{MARK}&x", f"{PINNED}{MARK}?=cid={LEAF}"),
    *(f"{BARE}?=cid={MARK}{LEAF.upper()}", f"{BARE}?=cid={LEAF[:-1]}{MARK}"),
    *(f"urn:blob:v1:{MARK}ipfs:p:b:f", f"urn:blob:v1:{MARK}S3:p:b:f", f"urn:blob:v1{MARK}"),
    *(f"urn:blob:v1:s3:{MARK}:b:f", f"urn:blob:v1:s3:p:{MARK}:f", f"urn:blob:v1:s3:p:b:{MARK}"),
    *(f"urn:blob:v1:s3:p:b{MARK}", f"urn:blob:v1:s3:p:b:f{MARK}:g", f"urn:blob:v3:s3:p:b:f{MARK}"),
    *(f"urn:blob:v1:s3:p:b{MARK}/c:f", f"urn:blob:v3:s3:p:0:b:f{MARK}:g"),
    *(f"urn:blob:v1:s3:p:b:f{MARK}?+r", f"urn:blob:v1:s3:p:b:f{MARK}?=cid={LEAF}"),
    f"urn:blob:v1:s3:p:b:f{MARK}#f",
]

DIGEST = randomness(3, 32)
CIDS: list[Entry] = [
    {"text": "b" + base32(binary), "codec": codec, "digest": digest.hex(), "binary": binary.hex()}
    for codec in (RAW, DAG_PB)
    for digest in (DIGEST, bytes(32), b"\xff" * 32)
    for binary in [binary_cid(codec, digest)]
]

# Binary CIDs with the index of their first fault: version, codec, hash, size of digest, length.
INVALID_BINARY_CIDS = [
    (b"\x00" + binary_cid(RAW, DIGEST)[1:], 0),
    (b"\x02" + binary_cid(RAW, DIGEST)[1:], 0),
    (b"\x12\x20" + DIGEST + b"\x00\x00", 0),  # a CIDv0, made as long as a CIDv1
    (binary_cid(0x71, DIGEST), 1),
    (binary_cid(0xD5, DIGEST), 1),
    (b"\x01\x55\x13\x20" + DIGEST, 2),
    (b"\x01\x55\x12\x40" + DIGEST, 3),
    (b"", 0),
    (binary_cid(RAW, DIGEST)[:-1], 35),
    (binary_cid(RAW, DIGEST) + b"\x00", 36),
]

INVALID_CIDS = [
    *(f"{MARK}", f"{MARK}Qm{'1' * 44}", f"{MARK}{LEAF.upper()}", f"{MARK}z{LEAF[1:]}"),
    *(f"b{MARK}{LEAF[1:].upper()}", f"b{MARK}", f"{LEAF[:-1]}{MARK}", f"{LEAF}{MARK}a"),
    *(f"{LEAF}{MARK}=", f"{LEAF}{MARK}\n", f"{LEAF[:9]}{MARK}1{LEAF[10:]}"),
    # 58 characters hold 290 bits and a CID has 288: the last character is one of "aeimquy4".
    *(f"{LEAF[:-1]}{MARK}{last}" for last in "bcdfz7"),
    # Faults of the binary form, at the first character that has bits of the byte.
    *(
        f"b{spelled[: index * 8 // 5]}{MARK}{spelled[index * 8 // 5 :]}"
        for binary, index in INVALID_BINARY_CIDS
        for spelled in [base32(binary)]
        if len(binary) == len(binary_cid(RAW, DIGEST))
    ),
]


def fault(marked: str) -> Entry:
    """Return the text without its MARK, and where that stood."""
    before, after = marked.split(MARK)
    return {"text": before + after, "position": len(before)}


def render() -> str:
    """Return the text of names.json."""
    lists: dict[str, list[Any]] = {
        "urns": URNS,
        "equivalence": EQUIVALENCE,
        "invalid_urns": [fault(text) for text in INVALID_URNS],
        "object_ids": [
            {"random": random.hex(), "object_id": base32(random)}
            for random in (randomness(0, 20), bytes(20), b"\xff" * 20, bytes(range(20)))
        ],
        "object_names": OBJECT_NAMES,
        "foreign_names": FOREIGN_NAMES,
        "invalid_names": [fault(text) for text in INVALID_NAMES],
        "cids": CIDS,
        "invalid_cids": [fault(text) for text in INVALID_CIDS],
        "invalid_binary_cids": [
            {"binary": binary.hex(), "position": position}
            for binary, position in INVALID_BINARY_CIDS
        ],
    }
    members = [f'  "seed": {json.dumps(SEED)}']
    for name, entries in lists.items():
        lines = ",\n".join(f"    {json.dumps(entry)}" for entry in entries)
        members.append(f"  {json.dumps(name)}: [\n{lines}\n  ]")
    return "{\n" + ",\n".join(members) + "\n}\n"


if __name__ == "__main__":
    Path(__file__).with_name("names.json").write_text(render(), "utf-8")
