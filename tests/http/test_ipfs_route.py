"""Goal: `/ipfs/{cid}` keeps each rule of the IPFS gateway specifications that is about blocks.

Method: one gateway that holds a small object, a large one and an erased one; a test for each rule,
which is named by it. Sources: specs.ipfs.tech/http-gateways, trustless-gateway and path-gateway of
2026-03-05. What is sent is compared with the sealed files, cut into blocks here.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.http.ipfs_world import (
    CAR,
    LEAVES,
    RAW,
    SEALED_LEAF,
    World,
    ask,
    node,
    raw,
    unpacked,
    world,
)
from tests.http.raw import Answer, connected, request
from urn import CID, Codec

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.both_databases]

PROBE = "bafkqaaa"
ABSENT = str(raw(b"nobody has this"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def held(database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(tmp_path_factory.mktemp(f"ipfs-{database}")) as made:
        yield made


async def archive(held: World, cid: object, query: str = "", *headers: tuple[str, str]) -> Answer:
    """Ask for an archive that must come."""
    answer = await ask(held.gateway, f"{cid}?format=car{query}", *headers)
    assert 200 == answer.status, answer
    return answer


async def blocks_of(held: World, cid: object, query: str = "") -> list[CID]:
    """Return what is in an archive, in order; it is rooted in what was asked for."""
    roots, blocks = unpacked((await archive(held, cid, query)).body)
    assert (str(cid),) == tuple(map(str, roots))
    return [found for found, _ in blocks]


# GET /ipfs/{cid}, format=raw


@pytest.mark.parametrize("by", ["Accept", "format"])
async def test_a_raw_block_is_the_bytes_of_its_cid(held: World, by: str) -> None:
    for cid, content in [*held.small.leaves, held.large.leaves[0], held.large.leaves[-1]]:
        asked = {"Accept": (str(cid), [RAW]), "format": (f"{cid}?format=raw", [])}
        path, headers = asked[by]
        answer = await ask(held.gateway, path, *headers)
        assert (200, content) == (answer.status, answer.body)


async def test_the_hash_of_a_raw_node_is_that_of_its_cid(held: World) -> None:
    answer = await ask(held.gateway, f"{held.large.root}?format=raw")

    assert (200, held.large.root) == (answer.status, node(answer.body))


async def test_a_raw_block_comes_with_the_headers_of_the_specification(held: World) -> None:
    (cid, content) = held.small.leaves[0]

    answer = await ask(held.gateway, f"{cid}?format=raw")

    expected = {
        "Content-Type": "application/vnd.ipld.raw",
        "Content-Disposition": f'attachment; filename="{cid}.bin"',
        "Content-Length": str(len(content)),
        "Etag": f'"{cid}.raw"',
        "Cache-Control": "public, max-age=29030400, immutable",
        "X-Content-Type-Options": "nosniff",
        "X-Ipfs-Path": f"/ipfs/{cid}",
        "X-Ipfs-Roots": str(cid),
        "Accept-Ranges": "bytes",
        "Vary": "Accept",
    }
    assert expected == {name: answer.header(name) for name in expected}


async def test_a_raw_block_has_no_path(held: World) -> None:
    with_path = await ask(held.gateway, f"{held.small.root}/file?format=raw")
    with_slash = await ask(held.gateway, f"{held.small.root}/?format=raw")

    with_path.problem(400, "invalid_request")
    assert (200, held.small.payload) == (with_slash.status, with_slash.body)


# HEAD


async def test_head_is_get_without_a_body(held: World) -> None:
    for path in (
        f"{held.small.root}?format=raw",
        f"{held.large.root}?format=raw",
        f"{held.large.leaves[0][0]}?format=raw",
        f"{held.small.root}?format=car",
        f"{held.large.root}?format=car",
        f"{held.large.root}?format=car&dag-scope=block",
    ):
        answers = [await ask(held.gateway, path, method=method) for method in ("GET", "HEAD")]
        of_get, of_head = (_telling(answer) for answer in answers)
        assert of_get == of_head, path
        assert b"" == answers[1].body


def _telling(answer: Answer) -> tuple[int, dict[str, str]]:
    own = {"date", "x-request-id", "transfer-encoding"}
    return answer.status, {name: value for name, value in answer.headers if name not in own}


async def test_head_of_what_is_not_there_is_told_by_status_alone(held: World) -> None:
    asked = {ABSENT: 404, str(held.erased.root): 410, "nonsense": 400}
    for cid, status in asked.items():
        answer = await ask(held.gateway, f"{cid}?format=raw", method="HEAD")
        assert (status, b"") == (answer.status, answer.body)


# Accept and format


async def test_without_accept_and_format_it_is_a_bad_request(held: World) -> None:
    (await ask(held.gateway, str(held.small.root))).problem(400, "invalid_request")


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        "application/*",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "application/json",
        "application/vnd.ipld.raw;q=0",
        "application/vnd.ipld.dag-json, application/x-tar",
        "application/vnd.ipld.car; version=2",
        "application/vnd.ipld.car; order=sorted",
        "application/vnd.ipld.car; dups=maybe",
        "application/vnd.ipfs.ipns-record",
    ],
)
async def test_blocks_are_sent_only_where_accept_names_their_type(held: World, accept: str) -> None:
    answer = await ask(held.gateway, str(held.small.root), ("Accept", accept))
    answer.problem(406, "format_not_served")


@pytest.mark.parametrize("format", ["tar", "dag-json", "ipns-record", "RAW", "", "x" * 50])
async def test_a_format_that_is_not_served_is_not_acceptable(held: World, format: str) -> None:  # noqa: A002 - as the URL has it
    answer = await ask(held.gateway, f"{held.small.root}?format={format}", RAW)
    answer.problem(406, "format_not_served")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/vnd.ipld.raw;q=0.5, application/vnd.ipld.car", "car"),
        ("application/vnd.ipld.car;q=0.5, application/vnd.ipld.raw;q=0.9", "raw"),
        ("APPLICATION/VND.IPLD.RAW, */*", "raw"),
        ("text/html, application/vnd.ipld.car;q=0.1", "car"),
        ("application/vnd.ipld.car;version=2, application/vnd.ipld.raw;q=0.1", "raw"),
        ("application/vnd.ipld.car; order=foo, application/vnd.ipld.car; order=dfs;q=0.5", "car"),
    ],
)
async def test_accept_is_negotiated_as_rfc_9110_says(
    held: World, accept: str, expected: str
) -> None:
    answer = await ask(held.gateway, str(held.small.root), ("Accept", accept))

    assert f"application/vnd.ipld.{expected}" == (answer.header("Content-Type") or "").split(";")[0]


async def test_format_takes_precedence_over_accept(held: World) -> None:
    as_raw = await ask(held.gateway, f"{held.small.root}?format=raw", CAR)
    as_car = await ask(held.gateway, f"{held.small.root}?format=car", RAW)

    assert held.small.payload == as_raw.body
    assert [*held.small.leaves] == unpacked(as_car.body)[1]


@pytest.mark.parametrize(
    ("query", "accept", "expected"),
    [
        ("", "application/vnd.ipld.raw", "format=raw"),
        ("?dag-scope=block", "application/vnd.ipld.car", "format=car&dag-scope=block"),
        ("", "application/vnd.ipld.car;order=dfs", "format=car&car-order=dfs"),
        ("?format=raw", "application/vnd.ipld.car", "format=raw"),
        ("?format=car&car-dups=y", "application/vnd.ipld.car;dups=n", "format=car&car-dups=y"),
        ("?format=raw", "application/vnd.ipld.raw", None),
        ("?format=car", "application/vnd.ipld.car", None),
        ("?format=car", "*/*", None),
    ],
)
async def test_content_location_is_told_where_the_url_alone_does_not_say_it(
    held: World, query: str, accept: str, expected: str | None
) -> None:
    answer = await ask(held.gateway, f"{held.small.root}{query}", ("Accept", accept))

    location = None if expected is None else f"/ipfs/{held.small.root}?{expected}"
    assert (200, location) == (answer.status, answer.header("Content-Location"))


async def test_a_custom_filename_is_in_the_disposition_and_harmless(held: World) -> None:
    names = {
        "foobar.bin": 'attachment; filename="foobar.bin"',
        "test%D1%82.pdf": "attachment; filename=\"test_.pdf\"; filename*=UTF-8''test%D1%82.pdf",
        "a%22%0d%0aSet-Cookie:%20b": 'attachment; filename="a___Set-Cookie: b"; '
        "filename*=UTF-8''a%22%0D%0ASet-Cookie%3A%20b",
    }
    for name, expected in names.items():
        answer = await ask(held.gateway, f"{held.small.root}?format=raw&filename={name}")
        assert (200, expected) == (answer.status, answer.header("Content-Disposition"))
        assert answer.header("Set-Cookie") is None
    too_long = await ask(held.gateway, f"{held.small.root}?format=raw&filename={'a' * 256}")
    too_long.problem(400, "invalid_request")


# Status codes


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "bafkrei",
        "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKPbdG",
        "bafyreigdmqpykrgxyaxtlafqpqhzrb7qy2rh75nldvfd4tucqmqqme5yje",
        "BAFKREIHDWDCEFGH4DQKJV67UZCMW7OJEE6XEDZDETOJUZJEVTENXQUVYKU",
        "..%2f..%2fetc",
        "%00",
    ],
)
async def test_a_malformed_cid_or_another_codec_is_a_bad_request(held: World, text: str) -> None:
    for kind in ("raw", "car"):
        (await ask(held.gateway, f"{text}?format={kind}")).problem(400, "invalid_cid")


async def test_a_root_that_is_not_held_is_not_found(held: World) -> None:
    for kind in ("raw", "car"):
        (await ask(held.gateway, f"{ABSENT}?format={kind}")).problem(404, "unknown_block")


async def test_a_block_is_known_by_the_codec_that_it_has(held: World) -> None:
    swapped = (
        CID(Codec.DAG_PB, held.small.root.digest),
        CID(Codec.RAW, held.large.root.digest),
    )
    for cid in swapped:
        for kind in ("raw", "car"):
            (await ask(held.gateway, f"{cid}?format={kind}")).problem(404, "unknown_block")


async def test_a_path_below_a_file_is_not_found(held: World) -> None:
    for root in (held.small.root, held.large.root):
        answer = await ask(held.gateway, f"{root}/dir/file.txt?format=car")
        assert "'dir/file.txt'" in answer.problem(404, "unknown_block")["detail"]


async def test_blocks_of_an_erased_object_are_gone(held: World) -> None:
    for cid in (held.erased.root, *(cid for cid, _ in held.erased.leaves)):
        for headers in ([], [("If-None-Match", "*")], [("Cache-Control", "only-if-cached")]):
            for kind in ("raw", "car"):
                answer = await ask(held.gateway, f"{cid}?format={kind}", *headers)
                answer.problem(410, "erased")


async def test_only_if_cached_of_what_is_not_there_fails_its_precondition(held: World) -> None:
    header = ("Cache-Control", "max-age=3, only-if-cached")
    (await ask(held.gateway, f"{ABSENT}?format=raw", header)).problem(412, "not_cached")
    assert 200 == (await ask(held.gateway, f"{held.small.root}?format=raw", header)).status


async def test_a_service_worker_is_denied(held: World) -> None:
    answer = await ask(held.gateway, f"{held.small.root}?format=raw", ("Service-Worker", "script"))
    answer.problem(400, "invalid_request")


# If-None-Match


async def test_a_known_etag_is_answered_304_without_a_body(held: World) -> None:
    for cid in (held.small.root, held.large.root):
        for query in ("format=raw", "format=car", "format=car&dag-scope=block"):
            known = (await ask(held.gateway, f"{cid}?{query}", method="HEAD")).header("Etag")
            for sent in (known, f"W/{known}", f'"other", {known}', "*"):
                headers = ("If-None-Match", str(sent))
                answer = await ask(held.gateway, f"{cid}?{query}", headers)
                assert (304, b"", known) == (answer.status, answer.body, answer.header("Etag"))
                assert "public, max-age=29030400, immutable" == answer.header("Cache-Control")
            answer = await ask(held.gateway, f"{cid}?{query}", ("If-None-Match", '"other"'))
            assert 200 == answer.status


async def test_etags_differ_by_all_that_the_bytes_differ_by(held: World) -> None:
    queries = [
        "format=raw",
        "format=car",
        "format=car&dag-scope=block",
        "format=car&dag-scope=entity",
        "format=car&entity-bytes=0:1",
        "format=car&entity-bytes=0:2",
        "format=car&car-dups=y",
    ]
    etags = [
        (await ask(held.gateway, f"{held.large.root}?{query}", method="HEAD")).header("Etag")
        for query in queries
    ]

    assert len(queries) == len(set(etags))
    # "must include unique prefix based on the passed scope type"
    assert ['"block.', '"entity'] == [str(etags[at])[:7] for at in (2, 3)]


# Range


@pytest.mark.parametrize(
    ("value", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        ("bytes=10-", 10, 1015),
        ("bytes=-16", 1000, 1015),
        ("bytes=-99999", 0, 1015),
        ("bytes=1000-99999", 1000, 1015),
    ],
)
async def test_a_single_range_of_a_raw_block_is_partial_content(
    held: World, value: str, first: int, last: int
) -> None:
    path = f"{held.small.root}?format=raw"
    answer = await ask(held.gateway, path, ("Range", value))

    assert (206, held.small.payload[first : last + 1]) == (answer.status, answer.body)
    assert f"bytes {first}-{last}/1016" == answer.header("Content-Range")
    # "a strong Etag should be based on requested range in addition to CID and response format"
    assert f'"{held.small.root}.raw.{first}-{last}"' == answer.header("Etag")


@pytest.mark.parametrize("value", ["bytes=1016-", "bytes=5000-6000", "bytes=-0"])
async def test_a_range_behind_the_end_is_not_satisfiable(held: World, value: str) -> None:
    answer = await ask(held.gateway, f"{held.small.root}?format=raw", ("Range", value))

    answer.problem(416, "range_not_satisfiable")
    assert "bytes */1016" == answer.header("Content-Range")


@pytest.mark.parametrize(
    "value", ["bytes=0-1,5-6", "bytes=9-1", "bytes=-", "bytes=a-b", "chunks=0-1", "bytes=", ""]
)
async def test_other_ranges_are_ignored(held: World, value: str) -> None:
    answer = await ask(held.gateway, f"{held.small.root}?format=raw", ("Range", value))
    assert (200, held.small.payload) == (answer.status, answer.body)


async def test_an_archive_has_no_ranges_and_says_so(held: World) -> None:
    answer = await archive(held, held.small.root, "", ("Range", "bytes=0-1"))
    assert "none" == answer.header("Accept-Ranges")
    assert [*held.small.leaves] == unpacked(answer.body)[1]


async def test_if_range_is_met_by_each_etag_of_the_block_alone(held: World) -> None:
    cid = held.small.root
    sent = {
        f'"{cid}.raw"': 206,
        f'"{cid}.raw.3-4"': 206,
        f'W/"{cid}.raw"': 200,
        '"other"': 200,
        "Sun, 29 Nov 2026 09:00:00 GMT": 200,
    }
    for value, status in sent.items():
        headers = (("Range", "bytes=0-1"), ("If-Range", value))
        assert status == (await ask(held.gateway, f"{cid}?format=raw", *headers)).status, value


async def test_a_range_is_ignored_in_head_as_rfc_9110_says(held: World) -> None:
    path = f"{held.small.root}?format=raw"
    for value in ("bytes=0-0", "bytes=5000-"):
        answer = await ask(held.gateway, path, ("Range", value), method="HEAD")
        assert (200, "1016") == (answer.status, answer.header("Content-Length"))
        assert answer.header("Content-Range") is None


async def test_who_has_the_block_needs_no_range_of_it(held: World) -> None:
    cid = held.small.root
    for known in (f'"{cid}.raw"', f'"{cid}.raw.3-4"'):
        headers = (("Range", "bytes=3-4"), ("If-None-Match", known))
        assert 304 == (await ask(held.gateway, f"{cid}?format=raw", *headers)).status


async def test_a_range_of_a_node_is_served_too(held: World) -> None:
    whole = await ask(held.gateway, f"{held.large.root}?format=raw")
    part = await ask(held.gateway, f"{held.large.root}?format=raw", ("Range", "bytes=7-9"))
    assert (206, whole.body[7:10]) == (part.status, part.body)


# Archives


async def test_an_archive_is_the_tree_depth_first_from_its_root(held: World) -> None:
    expected = [held.large.root, *(cid for cid, _ in held.large.leaves)]
    assert LEAVES + 1 == len(expected)
    assert expected == await blocks_of(held, held.large.root)
    answer = await archive(held, held.large.root)
    assert held.large.leaves == unpacked(answer.body)[1][1:]


async def test_an_archive_of_a_leaf_is_that_leaf(held: World) -> None:
    for cid, _ in held.large.leaves[:2]:
        assert [cid] == await blocks_of(held, cid)


async def test_an_archive_comes_with_the_headers_of_the_specification(held: World) -> None:
    root = held.large.root

    answer = await archive(held, root)

    expected = {
        "Content-Type": "application/vnd.ipld.car; version=1; order=dfs; dups=n",
        "Content-Disposition": f'attachment; filename="{root}.car"',
        "Cache-Control": "public, max-age=29030400, immutable",
        "X-Content-Type-Options": "nosniff",
        "X-Ipfs-Path": f"/ipfs/{root}",
        "X-Ipfs-Roots": str(root),
    }
    assert expected == {name: answer.header(name) for name in expected}
    assert (answer.header("Etag") or "").endswith(f'.{root}.car"')


@pytest.mark.parametrize(
    ("query", "accept", "dups"),
    [
        ("", "application/vnd.ipld.car; version=1; order=dfs; dups=y", "y"),
        ("", 'application/vnd.ipld.car;version="1";dups="n"', "n"),
        ("", "application/vnd.ipld.car; order=unk", "n"),
        ("?car-dups=y&car-order=dfs&car-version=1", "application/vnd.ipld.car", "y"),
        ("?car-dups=n", "application/vnd.ipld.car; dups=y", "n"),
        ("?format=car", "application/vnd.ipld.car; dups=y", "y"),
        ("?format=car&car-order=unk", "*/*", "n"),
    ],
)
async def test_version_order_and_dups_are_negotiated_and_always_told(
    held: World, query: str, accept: str, dups: str
) -> None:
    answer = await ask(held.gateway, f"{held.large.root}{query}", ("Accept", accept))

    told = f"application/vnd.ipld.car; version=1; order=dfs; dups={dups}"
    assert (200, told) == (answer.status, answer.header("Content-Type"))
    assert held.large.leaves == unpacked(answer.body)[1][1:]


@pytest.mark.parametrize("query", ["car-version=2", "car-order=bfs", "car-dups=2"])
async def test_another_variant_of_archives_is_not_acceptable(held: World, query: str) -> None:
    answer = await ask(held.gateway, f"{held.small.root}?format=car&{query}")
    answer.problem(406, "format_not_served")


async def test_parameters_of_archives_do_not_concern_raw_blocks(held: World) -> None:
    query = "format=raw&dag-scope=x&entity-bytes=x&car-version=9&car-order=x&car-dups=x"
    answer = await ask(held.gateway, f"{held.small.root}?{query}")
    assert (200, held.small.payload) == (answer.status, answer.body)


# dag-scope and entity-bytes


async def test_dag_scope_block_is_the_root_alone(held: World) -> None:
    for root in (held.large.root, held.small.root):
        assert [root] == await blocks_of(held, root, "&dag-scope=block")


async def test_dag_scope_entity_and_all_are_the_whole_file(held: World) -> None:
    expected = [held.large.root, *(cid for cid, _ in held.large.leaves)]
    for scope in ("entity", "all"):
        assert expected == await blocks_of(held, held.large.root, f"&dag-scope={scope}")


async def test_another_dag_scope_is_a_bad_request(held: World) -> None:
    for scope in ("", "ALL", "x"):
        answer = await ask(held.gateway, f"{held.small.root}?format=car&dag-scope={scope}")
        answer.problem(400, "invalid_request")


END = (LEAVES - 1) * SEALED_LEAF + 17
"""The size of the large payload: its last leaf is one byte, sealed."""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0:*", range(LEAVES)),
        ("0:0", [0]),
        (f"0:{SEALED_LEAF - 1}", [0]),
        (f"0:{SEALED_LEAF}", [0, 1]),
        (f"{SEALED_LEAF}:{SEALED_LEAF}", [1]),
        (f"{3 * SEALED_LEAF - 1}:{3 * SEALED_LEAF}", [2, 3]),
        (f"{8 * SEALED_LEAF}:*", [8, 9]),
        ("-17:*", [9]),
        ("-18:*", [8, 9]),
        ("-1:-1", [9]),
        (f"5:-{END - 5}", [0]),
        ("-999999999:*", range(LEAVES)),
        (f"-999999999:-{END}", [0]),
        (f"{END - 1}:999999999", [9]),
    ],
)
async def test_entity_bytes_are_the_fewest_blocks_that_verify_the_range(
    held: World, value: str, expected: list[int]
) -> None:
    cids = [held.large.leaves[at][0] for at in expected]
    for scope in ("", "&dag-scope=entity"):
        found = await blocks_of(held, held.large.root, f"{scope}&entity-bytes={value}")
        assert [held.large.root, *cids] == found


async def test_entity_bytes_of_nothing_are_the_root_block(held: World) -> None:
    assert [held.large.root] == await blocks_of(
        held, held.large.root, f"&entity-bytes={END - 1}:-2"
    )


@pytest.mark.parametrize("value", [f"{END}:*", f"{END + 5}:{END + 9}", f"0:-{END + 1}"])
async def test_entity_bytes_entirely_outside_are_a_bad_request(held: World, value: str) -> None:
    answer = await ask(held.gateway, f"{held.large.root}?format=car&entity-bytes={value}")
    assert str(END) in answer.problem(400, "invalid_request")["detail"]


@pytest.mark.parametrize(
    "value", ["", "0", "0-1", "a:b", "5:4", "-3:-4", "1.0:2", "*:1", "0:" + "9" * 30]
)
async def test_malformed_entity_bytes_are_a_bad_request(held: World, value: str) -> None:
    answer = await ask(held.gateway, f"{held.large.root}?format=car&entity-bytes={value}")
    answer.problem(400, "invalid_request")


async def test_entity_bytes_of_a_leaf_are_that_leaf(held: World) -> None:
    cid, _ = held.large.leaves[3]
    assert [cid] == await blocks_of(held, cid, "&entity-bytes=10:20")


# The probe


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_probe_is_an_empty_block(held: World, method: str) -> None:
    for path, headers in ((PROBE, [RAW]), (f"{PROBE}?format=raw", [])):
        answer = await ask(held.gateway, path, *headers, method=method)
        assert (200, b"") == (answer.status, answer.body)
        assert "application/vnd.ipld.raw" == answer.header("Content-Type")


async def test_the_probes_archive_is_a_header_with_its_root(held: World) -> None:
    answer = await archive(held, PROBE)

    # {"roots": [CID], "version": 1} in dag-cbor; a CID is tag 42 and its bytes after a zero.
    cid = bytes.fromhex("01550000")
    header = b"\xa2\x65roots\x81\xd8\x2a\x45\x00" + cid + b"\x67version\x01"
    assert bytes([len(header)]) + header == answer.body
    other = ("If-None-Match", str(answer.header("Etag")))
    assert 304 == (await ask(held.gateway, f"{PROBE}?format=car", other)).status


# What is not of the specification


async def test_only_get_and_head_are_methods_of_it(held: World) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        answer = await ask(held.gateway, f"{held.small.root}?format=raw", method=method)
        answer.problem(405, "method_not_allowed")


async def test_http_1_0_is_told_the_end_by_the_connection(held: World) -> None:
    asked = request("GET", f"/ipfs/{held.large.root}?format=car").replace(b"HTTP/1.1", b"HTTP/1.0")
    async with connected(held.gateway.address) as connection:
        await connection.send(asked)
        head = await connection.reader.readuntil(b"\r\n\r\n")
        body = await connection.reader.read()

    assert b" 200 OK\r\n" in head
    assert b"Transfer-Encoding" not in head
    assert held.large.leaves == unpacked(body)[1][1:]
