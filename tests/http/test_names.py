"""Names and ids in paths: odd spellings are refused with the right problem, none reaches a disk.

Paths are written byte for byte onto a raw socket; nothing normalises them on the way.
"""

import json

import pytest
import pytest_asyncio

from tests.gateway import MINER, OpenSession, RunningGateway, leftovers, open_session
from tests.http.raw import exchange, request
from tests.http.steps import fetch, upload, uploaded

GOOD_ID = "a" * 32
OTHER_CID = "bafkreiaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

INVALID_URNS = {
    "not a urn": "hello",
    "empty id": "urn:blob:v4:",
    "no id": "urn:blob:v4",
    "no version": "urn:blob:",
    "another namespace": f"urn:isbn:v4:{GOOD_ID}",
    "an unknown version": f"urn:blob:v5:{GOOD_ID}",
    "an id too short": "urn:blob:v4:" + "a" * 31,
    "an id too long": "urn:blob:v4:" + "a" * 33,
    "an id in upper case": "urn:blob:v4:" + "A" * 32,
    "an id with foreign letters": "urn:blob:v4:" + "a" * 31 + "1",
    "an encoded percent": "urn:blob:v4:%2561" + "a" * 31,
    "an encoded slash": f"urn:blob:v4:..%2f{GOOD_ID}",
    "dots": "urn:blob:v4:..",
    "dots alone": "..",
    "encoded dots": "%2e%2e",
    "a NUL": f"urn:blob:v4:{GOOD_ID}%00",
    "bytes that are no UTF-8": f"urn:blob:v4:{GOOD_ID}%ff",
    "letters of another script": "urn:blob:v4:" + "%D0%B0" * 32,
    "a space": f"%20urn:blob:v4:{GOOD_ID}",
    "a trailing newline": f"urn:blob:v4:{GOOD_ID}%0a",
    "an f-component": f"urn:blob:v4:{GOOD_ID}%23x",
    "an r-component": f"urn:blob:v4:{GOOD_ID}?+x",
    "an unknown q-component": f"urn:blob:v4:{GOOD_ID}?=cod={OTHER_CID}",
    "a pin that is no CID": f"urn:blob:v4:{GOOD_ID}?=cid=nonsense",
    "an empty pin": f"urn:blob:v4:{GOOD_ID}?=cid=",
    "a pin in another base": f"urn:blob:v4:{GOOD_ID}?=cid=QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79",
    "two pins": f"urn:blob:v4:{GOOD_ID}?=cid={OTHER_CID}?=cid={OTHER_CID}",
    "a foreign name without a bucket": "urn:blob:v1:s3:aws",
    "a foreign name of another protocol": "urn:blob:v2:ftp:aws:bucket:file",
    "a foreign name with an empty file": "urn:blob:v1:s3:aws:bucket:",
    "a v3 name without an index": "urn:blob:v3:s3:aws:bucket:file",
}


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def gateway(shared_gateway: RunningGateway) -> RunningGateway:
    """Nothing here depends on what other tests left: one gateway serves them all."""
    return shared_gateway


@pytest_asyncio.fixture(loop_scope="module")
async def session(gateway: RunningGateway) -> OpenSession:
    return await open_session(gateway)


@pytest.mark.parametrize("name", INVALID_URNS.values(), ids=INVALID_URNS)
async def test_an_invalid_name_is_refused_with_its_position(
    gateway: RunningGateway, session: OpenSession, name: str
) -> None:
    answer = await fetch(gateway, name, session.user_token)

    document = answer.problem(400, "invalid_urn")
    assert isinstance(document["position"], int)


@pytest.mark.parametrize("part", ["", "/manifest"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_an_invalid_name_is_refused_by_every_method(
    gateway: RunningGateway, session: OpenSession, method: str, part: str
) -> None:
    answer = await fetch(gateway, "urn:blob:v4:x", session.user_token, method=method, part=part)

    if (method, part) == ("DELETE", "/manifest"):
        answer.problem(405, "method_not_allowed")
    else:
        answer.problem(400, "invalid_urn")


@pytest.mark.parametrize(
    "name",
    [
        "urn:blob:v1:s3:aws:bucket:file.bin",
        "urn:blob:v2:s3:aws:bucket:dir%252ffile.bin",
        "urn:blob:v3:s3:aws:0:bucket:file.bin",
        "URN:BLOB:v3:s3:aws:0:bucket:file.bin",
    ],
)
async def test_a_foreign_name_without_alias_is_not_followed(
    gateway: RunningGateway, session: OpenSession, name: str
) -> None:
    for token in (session.user_token, session.miner_token):
        (await fetch(gateway, name, token)).problem(404, "foreign_name")
    shown = await fetch(gateway, name, gateway.operator_token, part="/manifest")
    shown.problem(404, "foreign_name")


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
async def test_an_object_that_is_not_there(
    gateway: RunningGateway, session: OpenSession, method: str
) -> None:
    answer = await fetch(gateway, f"urn:blob:v4:{GOOD_ID}", session.user_token, method=method)

    assert 404 == answer.status
    if method != "HEAD":
        answer.problem(404, "not_found")


async def test_equivalent_spellings_of_a_name_find_the_object(
    gateway: RunningGateway, session: OpenSession
) -> None:
    document = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
    urn, pinned, cid = document["urn"], document["urn_pinned"], document["cid"]

    for name in (
        urn,
        urn.replace("urn:blob", "URN:Blob"),
        pinned,
        pinned.replace("?", "%3F"),
        urn.replace(":", "%3A"),
        f"{urn}?unknown=query",
    ):
        answer = await fetch(gateway, name, session.user_token, part="")
        assert (200, f'"{cid}.g1"') == (answer.status, answer.header("ETag")), name


async def test_a_pin_on_a_manifest_is_checked_too(
    gateway: RunningGateway, session: OpenSession
) -> None:
    document = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
    escaped = document["urn_pinned"].replace("?", "%3F")
    good = await fetch(gateway, escaped, session.user_token, part="/manifest")
    stale = f"{document['urn']}%3F=cid={OTHER_CID}"
    bad = await fetch(gateway, stale, session.user_token, part="/manifest")

    assert 200 == good.status
    assert document["cid"] == bad.problem(409, "cid_superseded")["cid"]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_superseded_pin_names_the_current_one_and_does_nothing(
    gateway: RunningGateway, session: OpenSession, method: str
) -> None:
    document = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
    stale = f"{document['urn']}?=cid={OTHER_CID}"
    answer = await fetch(gateway, stale, session.user_token, method=method)

    assert document["cid"] == answer.problem(409, "cid_superseded")["cid"]
    assert 200 == (await fetch(gateway, document["urn"], session.user_token)).status


async def test_a_superseded_pin_tells_an_outsider_nothing(
    gateway: RunningGateway, session: OpenSession
) -> None:
    document = await uploaded(
        gateway, session.path("t1", "output"), session.miner_token, b"a result"
    )
    stale = f"{document['urn']}?=cid={OTHER_CID}"
    answer = await fetch(gateway, stale, session.other_miner_token)

    answer.problem(404, "not_found")


ODD_IDS = {
    "dots": "..",
    "a dot": ".",
    "encoded dots": "%2e%2e",
    "an encoded slash": "a%2fb",
    "a path": "..%2f..%2fetc%2fpasswd",
    "a NUL": "a%00b",
    "bytes that are no UTF-8": "%ff%fe",
    "an encoded percent": "%2561",
    "65 characters": "a" * 65,
    "1,000 characters": "a" * 1000,
    "letters of another script": "%D0%B0",
    "digits of another script": "%D9%A1",
    "a dash": "a-b",
    "a space": "a%20b",
    "a newline": "a%0ab",
    "a trailing newline": "a%0a",
    "a quote": "a'b",
    "a colon": "a:b",
    "a semicolon": "a;b=c",
    "a backslash": "a%5cb",
    "a star": "*",
}


@pytest.mark.parametrize("odd", ODD_IDS.values(), ids=ODD_IDS)
async def test_an_odd_task_or_session_id_is_refused(
    gateway: RunningGateway, session: OpenSession, odd: str
) -> None:
    as_task = await upload(gateway, session.path(odd), session.user_token, b"x")
    as_session = await upload(
        gateway, f"/v1/sessions/{odd}/tasks/t1/input", gateway.operator_token, b"x"
    )
    shown = await exchange(
        gateway.address, request("GET", f"/v1/sessions/{odd}", gateway.operator_token)
    )

    assert "task" == as_task.problem(422, "invalid_field")["field"]
    assert "session" == as_session.problem(422, "invalid_field")["field"]
    assert "session" == shown.problem(422, "invalid_field")["field"]
    assert [] == await leftovers(gateway.catalog, gateway.store)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/sessions//tasks/t1/input",
        "/v1/sessions/{id}/tasks//input",
        "/v1/sessions/a/b/tasks/t1/input",
        "/v1/sessions/{id}/tasks/a/b/input",
        "/v1/sessions/{id}/../{id}/tasks/t1/input",
        "/v1/sessions/{id}/tasks/t1/input/",
        "/v1/sessions/{id}/tasks/t1/Input",
        "/v1/sessions/{id}/tasks/t1",
    ],
)
async def test_a_path_of_another_shape_is_not_there(
    gateway: RunningGateway, session: OpenSession, path: str
) -> None:
    path = path.replace("{id}", session.session_id)
    answer = await upload(gateway, path, session.user_token, b"x")

    answer.problem(404, "not_found")


@pytest.mark.parametrize("task_id", ["a", "A_.9", "a" * 64, "...a", "0"])
async def test_every_well_formed_task_id_is_taken(
    gateway: RunningGateway, session: OpenSession, task_id: str
) -> None:
    document = await uploaded(gateway, session.path(task_id), session.user_token, b"x")

    assert task_id == document["task_id"]


@pytest.mark.parametrize(
    "odd", ["", "..", "a/b", "a\x00b", "a" * 65, "é", "a b", "a-b", "\ud800", "٣"]
)
async def test_an_odd_session_id_in_json_is_refused(gateway: RunningGateway, odd: str) -> None:
    body = json.dumps({"session_id": odd, "parties": {"user": {"recipient": "age1x"}}}).encode()
    answer = await exchange(
        gateway.address,
        request(
            "POST",
            "/v1/sessions",
            gateway.operator_token,
            headers=[("Content-Type", "application/json")],
            body=body,
        ),
    )

    assert answer.status in {400, 422}
    code = "invalid_request" if odd == "\ud800" else "invalid_field"
    document = answer.problem(answer.status, code)
    assert code == "invalid_request" or "session_id" == document["field"]


async def test_an_unknown_session_is_told_to_the_operator_only(
    gateway: RunningGateway, session: OpenSession
) -> None:
    for_operator = await upload(
        gateway, "/v1/sessions/nobody/tasks/t1/input", gateway.operator_token, b"x"
    )
    for_user = await upload(gateway, "/v1/sessions/nobody/tasks/t1/input", session.user_token, b"x")

    for_operator.problem(404, "unknown_session")
    for_user.problem(403, "forbidden")
    assert [] == await leftovers(gateway.catalog, gateway.store)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 422, "invalid_field"),
        ("?miner=", 422, "invalid_field"),
        ("?miner=0x12", 422, "invalid_field"),
        (f"?miner={MINER}00", 422, "invalid_field"),
        ("?miner=0x" + "z" * 40, 422, "invalid_field"),
        ("?miner=" + "0" * 42, 422, "invalid_field"),
        ("?miner=%00", 422, "invalid_field"),
        ("?miner=0x00000000000000000000000000000000000000Ff", 422, "invalid_field"),
        ("?miner=0x00000000000000000000000000000000000000ff", 422, "invalid_field"),
    ],
)
async def test_an_operator_names_the_miner_of_an_output(
    gateway: RunningGateway, session: OpenSession, query: str, status: int, code: str
) -> None:
    answer = await upload(
        gateway, session.path("t1", "output") + query, gateway.operator_token, b"x"
    )

    assert "miner" == answer.problem(status, code)["field"]


async def test_an_input_names_no_miner(gateway: RunningGateway, session: OpenSession) -> None:
    path = f"{session.path('t1')}?miner={MINER}"
    answer = await upload(gateway, path, session.user_token, b"x")

    assert "miner" == answer.problem(422, "invalid_field")["field"]


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ([("Content-Type", "x" * 4000)], ""),
        ([], "?filename=" + "x" * 4000),
        ([], "?filename=%00"),
        ([], "?filename=..%2f..%2fx"),
        ([("Content-Type", "text/plain\xff")], ""),
    ],
)
async def test_odd_meta_is_taken_or_refused_with_its_field(
    gateway: RunningGateway, session: OpenSession, headers: list[tuple[str, str]], query: str
) -> None:
    """Meta is data for the parties alone; what cannot be sealed is a sentence, never a 500."""
    answer = await upload(
        gateway, session.path("t1") + query, session.user_token, b"x", headers=headers
    )

    if answer.status != 201:
        assert "filename or Content-Type" == answer.problem(422, "invalid_field")["field"]
    assert [] == await leftovers(gateway.catalog, gateway.store)


async def test_unknown_paths_and_methods_are_problems(
    gateway: RunningGateway, session: OpenSession
) -> None:
    token = session.user_token
    for path in ("/", "/v1", "/v1/", "/v1/sessions/", "/V1/sessions", "//healthz", "/healthz/"):
        (await exchange(gateway.address, request("GET", path, token))).problem(404, "not_found")
    for method, path, allowed in (
        ("POST", "/healthz", "GET, HEAD"),
        ("GET", "/v1/sessions", "POST"),
        ("PUT", "/v1/sessions/101", "GET"),
        ("GET", session.path("t1"), "POST"),
        ("PATCH", f"/v1/objects/urn:blob:v4:{GOOD_ID}", "DELETE, GET, HEAD"),
        ("OPTIONS", f"/v1/objects/urn:blob:v4:{GOOD_ID}/manifest", "GET"),
        ("TRACE", "/healthz", "GET, HEAD"),
    ):
        answer = await exchange(gateway.address, request(method, path, token))
        answer.problem(405, "method_not_allowed")
        assert allowed == answer.header("Allow"), (method, path)
