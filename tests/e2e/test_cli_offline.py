"""Goal: the offline commands do what docs/cli.md says, with files and through pipes, together with
other implementations of age. Method: real processes in a folder of their own; `age` and `pyrage`
open what is sealed here, and the other way round.
"""

import json
import subprocess
from pathlib import Path
from random import Random

import pyrage  # type: ignore[import-untyped]
import pytest

from crypto import CHUNK_SIZE, LEAF_SIZE, Context, Meta, scan_head, seal
from tests.e2e.offline import DEADLINE_S, ENVIRONMENT, PROGRAM, Desk
from tests.gateway import gateway_process, open_session
from tests.requirements import need
from urn import cid_of

TEXT = b"What is the tide at noon?\n"
LARGE = Random(3).randbytes(2 * LEAF_SIZE + 12_345)
HOW = "apt-get install age"
CONTEXT = Context("a" * 32, "b" * 32, "101", "7", "input", None, "classic")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def theirs(desk: Desk) -> pyrage.x25519.Identity:
    return pyrage.x25519.Identity.from_str(desk.user.to_text())


@pytest.mark.parametrize("plaintext", [b"", TEXT, LARGE], ids=["empty", "text", "large"])
def test_others_open_what_it_seals(desk: Desk, plaintext: bytes) -> None:
    desk.write("in", plaintext)
    desk.write("list", f"# miners\n\n  {desk.miner.recipient()}\n".encode())

    desk.well("seal", "-r", desk.user.recipient(), "-R", "list", "-o", "out.age", "in")

    assert plaintext == pyrage.decrypt(desk.read("out.age"), [theirs(desk)])
    command = [need("age", HOW), "-d", "-i", "miner.txt", "out.age"]
    assert plaintext == subprocess.check_output(command, cwd=desk.path, timeout=DEADLINE_S)


def test_it_opens_what_others_seal(desk: Desk) -> None:
    recipient = str(desk.user.recipient())
    from_age = subprocess.check_output(
        [need("age", HOW), "-r", recipient], input=LARGE, timeout=DEADLINE_S
    )
    from_pyrage = pyrage.encrypt(LARGE, [pyrage.x25519.Recipient.from_str(recipient)])

    for sealed in (from_age, from_pyrage):
        assert LARGE == desk.well("open", "-i", "user.txt", "-", stdin=sealed)


def test_pipes_seal_and_open_with_hybrid_keys(desk: Desk) -> None:
    sealed = desk.well("seal", "-r", desk.hybrid.recipient(), stdin=TEXT)

    assert TEXT == desk.well("open", "-i", "user.txt", "-i", "hybrid.txt", "-", stdin=sealed)
    report = json.loads(desk.well("inspect", "--json", "-", stdin=sealed))
    assert "hybrid" == report["key_class"]


def test_an_identity_comes_through_a_pipe(desk: Desk) -> None:
    desk.write("in.age", desk.well("seal", "-r", desk.user.recipient(), stdin=TEXT))

    assert TEXT == desk.well("open", "-i", "-", "in.age", stdin=desk.read("user.txt"))


def test_meta_is_sealed_and_told_by_open(desk: Desk) -> None:
    named = ("--filename", "tide.txt", "--content-type", "text/plain")
    desk.well("seal", "-r", desk.user.recipient(), *named, "-o", "a.age", stdin=TEXT)

    report = desk.well("open", "-i", "user.txt", "a.age", "--json", "-o", "a")

    expected = {"size": len(TEXT), "content_type": "text/plain", "filename": "tide.txt"}
    assert expected == json.loads(report)
    assert b"tide.txt" not in desk.read("a.age")
    assert TEXT == pyrage.decrypt(desk.read("a.age"), [theirs(desk)])


async def test_a_gateway_takes_what_it_seals(desk: Desk) -> None:
    async with gateway_process(desk.path / "data") as gateway:
        session = await open_session(gateway)
        desk.write("token", session.user_token.encode())
        desk.write("party.txt", session.user.to_text().encode())
        reach = ("--url", gateway.url, "--token-file", "token")
        desk.well("seal", "-r", session.router_recipient, "-o", "a.age", stdin=TEXT)

        slot = ("--session", session.session_id, "--task", "7")
        urn = desk.well("put", *reach, *slot, "--sealed", "a.age").decode().strip()

        assert TEXT == desk.well("get", *reach, urn, "-i", "party.txt")
        desk.well("get", *reach, urn, "-o", "object.age")
    assert TEXT == desk.well("open", "-i", "party.txt", "object.age")
    assert b"object" in desk.well("urn", "parse", urn)


def halves(desk: Desk, plaintext: bytes) -> None:
    envelope = seal(plaintext, [desk.user.recipient()], context=CONTEXT, meta=Meta("text/plain"))
    desk.write("head", envelope.head)
    desk.write("payload", envelope.payload)
    desk.write("whole.age", envelope.head + envelope.payload)


@pytest.mark.parametrize("plaintext", [b"", LARGE], ids=["empty", "large"])
def test_head_and_payload_open_apart(desk: Desk, plaintext: bytes) -> None:
    halves(desk, plaintext)

    apart = ("open", "-i", "user.txt", "--head")
    assert plaintext == desk.well(*apart, "head", "payload")
    assert plaintext == desk.well(*apart, "-", "payload", stdin=desk.read("head"))
    assert plaintext == desk.well(*apart, "head", "-", stdin=desk.read("payload"))
    assert 10 == desk.run(*apart, "whole.age", "payload").status


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("0-0", 0, 1),
        ("65535-65536", CHUNK_SIZE - 1, CHUNK_SIZE + 1),
        ("983000-1966999", 983_000, 1_967_000),
        ("1978900-", 1_978_900, len(LARGE)),
        ("1978900-99999999", 1_978_900, len(LARGE)),
        (f"{len(LARGE) - 1}-", len(LARGE) - 1, len(LARGE)),
    ],
)
def test_a_range_of_the_plaintext(desk: Desk, text: str, start: int, end: int) -> None:
    halves(desk, LARGE)

    assert LARGE[start:end] == desk.well("open", "-i", "user.txt", "--range", text, "whole.age")
    apart = desk.well("open", "-i", "user.txt", "--head", "head", "--range", text, "payload")
    assert LARGE[start:end] == apart


def test_a_range_shows_that_the_end_is_missing(desk: Desk) -> None:
    halves(desk, LARGE)
    desk.write("cut.age", desk.read("whole.age")[: -(12_345 % CHUNK_SIZE)])

    done = desk.run("open", "-i", "user.txt", "--range", "0-9", "cut.age")

    assert (15, b"") == (done.status, done.stdout)


@pytest.mark.parametrize(
    "text",
    ["5-4", "-5", "1", "a-b", f"{len(LARGE)}-{len(LARGE)}", f"{len(LARGE)}-", "9999999-"],
)
def test_a_range_that_is_none(desk: Desk, text: str) -> None:
    halves(desk, LARGE)

    done = desk.run("open", "-i", "user.txt", f"--range={text}", "-o", "out", "whole.age")

    assert 2 == done.status
    assert "range" in done.stderr
    assert "out" not in desk.names()


@pytest.mark.parametrize("text", ["0-", "0-0", "0-5", "1-"])
def test_an_empty_plaintext_has_no_range(desk: Desk, text: str) -> None:
    halves(desk, b"")
    desk.write("cut.age", desk.read("head"))

    done = desk.run("open", "-i", "user.txt", f"--range={text}", "whole.age")

    assert (2, b"") == (done.status, done.stdout)
    assert "the plaintext ends at 0" in done.stderr
    # That there is nothing is verified as well.
    assert 15 == desk.run("open", "-i", "user.txt", f"--range={text}", "cut.age").status


def test_a_range_is_not_taken_from_a_file_that_is_stdin(desk: Desk) -> None:
    """Others may have read a part of it: its size and its places would be wrong."""
    halves(desk, LARGE)
    desk.write("later", b"read before" + desk.read("whole.age"))

    with (desk.path / "later").open("rb") as file:
        file.seek(len(b"read before"))
        command = [*PROGRAM, "open", "-i", "user.txt", "-"]
        opened = subprocess.run(
            command, stdin=file, capture_output=True, cwd=desk.path, env=ENVIRONMENT, check=True
        )
        file.seek(len(b"read before"))
        refused = subprocess.run(
            [*command, "--range", "0-9"], stdin=file, cwd=desk.path, env=ENVIRONMENT, check=False
        )

    assert LARGE == opened.stdout
    assert 2 == refused.returncode


def test_rewrap_changes_who_opens_and_keeps_the_payload(desk: Desk) -> None:
    halves(desk, LARGE)
    current, wanted = desk.user.recipient(), desk.miner.recipient()
    parties = ("-i", "user.txt", "--current", current, "--wanted", wanted)

    desk.well("rewrap", *parties, "whole.age", "-o", "new.age")
    head = desk.well("rewrap", *parties, "head")

    assert desk.read("payload") == desk.read("new.age")[scan_head(desk.read("new.age")) :]
    assert LARGE == desk.well("open", "-i", "miner.txt", "new.age")
    assert 13 == desk.run("open", "-i", "user.txt", "new.age").status
    assert len(head) == scan_head(head)
    desk.write("new-head", head)
    assert LARGE == desk.well("open", "-i", "miner.txt", "--head", "new-head", "payload")
    only = desk.well("rewrap", *parties, "--head-only", "-", stdin=desk.read("whole.age"))
    assert len(only) == scan_head(only)


def test_rewrap_in_place_with_force(desk: Desk) -> None:
    halves(desk, TEXT)
    both = ("--wanted", desk.user.recipient(), "--wanted", desk.miner.recipient())
    parties = ("-i", "user.txt", "--current", desk.user.recipient(), *both)

    desk.well("rewrap", *parties, "whole.age", "-o", "whole.age", "--force")

    for name in ("user.txt", "miner.txt"):
        assert TEXT == desk.well("open", "-i", name, "whole.age")


def test_inspect_shows_sizes_and_no_key(desk: Desk) -> None:
    halves(desk, LARGE)

    report = json.loads(desk.well("inspect", "--json", "--cid", "whole.age"))
    table = desk.well("inspect", "whole.age").decode()

    payload = desk.read("payload")
    assert report.pop("stanzas") == [
        {"type": "storage-gateway/context-v1", "role": "context", "key_class": None}
        | {"argument_sizes": [], "body_size": 32},
        {"type": "storage-gateway/meta-v1", "role": "meta", "key_class": None}
        | {"argument_sizes": [16], "body_size": 144},
        {"type": "X25519", "role": "recipient", "key_class": "classic"}
        | {"argument_sizes": [43], "body_size": 32},
    ]
    assert report == {
        "key_class": "classic",
        "has_context": True,
        "has_meta": True,
        "header_size": len(desk.read("head")) - 16,
        "head_size": len(desk.read("head")),
        "payload_size": len(payload),
        "plaintext_size": len(LARGE),
        "chunks": 31,
        "leaves": 3,
        "segments": 1,
        "cid": str(cid_of(payload)),
        "fault": None,
    }
    assert "storage-gateway/context-v1" in table
    for line in desk.read("head").split(b"\n")[1:-2]:
        if not line.startswith(b"->") and line:
            # A nonce may hold a line feed: what comes after it is no text.
            assert line not in table.encode()


def test_inspect_reads_pipes_and_heads_alone(desk: Desk) -> None:
    halves(desk, LARGE)

    piped = desk.well("inspect", "--json", "-", stdin=desk.read("whole.age"))
    alone = json.loads(desk.well("inspect", "--json", "--cid", "head"))

    assert json.loads(desk.well("inspect", "--json", "whole.age")) == json.loads(piped)
    assert (None, None, None) == (alone["payload_size"], alone["plaintext_size"], alone["cid"])


def test_inspect_tells_a_payload_of_a_length_that_none_has(desk: Desk) -> None:
    halves(desk, TEXT)
    desk.write("cut.age", desk.read("head") + desk.read("payload")[:9])

    done = desk.run("inspect", "--json", "cut.age")

    assert 15 == done.status
    assert "9 bytes long" in json.loads(done.stdout)["fault"]


@pytest.mark.parametrize("size", [0, 1, LEAF_SIZE, LEAF_SIZE + 1, 3 * LEAF_SIZE])
def test_cid_is_that_of_the_bytes(desk: Desk, size: int) -> None:
    data = Random(size).randbytes(size)
    desk.write("file", data)

    assert f"{cid_of(data)}\n".encode() == desk.well("cid", "file")
    expected = {"cid": str(cid_of(data)), "size": size}
    assert expected == json.loads(desk.well("cid", "--json", stdin=data))


def test_urn_parse_tells_parts_and_kind(desk: Desk) -> None:
    cid = str(cid_of(TEXT))
    name = "blob:v4:" + "a" * 32

    pinned = json.loads(desk.well("urn", "parse", "--json", f"URN:BLOB:v4:{'a' * 32}?=cid={cid}"))
    foreign = desk.well("urn", "parse", "urn:blob:v3:s3:hippius:2:inputs:7%2fa.json").decode()

    assert ("object", f"urn:{name}", cid) == (pinned["kind"], pinned["name"], pinned["cid"])
    assert ("BLOB", f"urn:{name}") == (pinned["nid"], pinned["canonical"])
    assert "foreign" in foreign
    assert "urn:blob:v3:s3:hippius:2:inputs:7%2Fa.json" in foreign


@pytest.mark.parametrize("option", [(), ("--pq",)], ids=["classic", "hybrid"])
def test_keygen_makes_what_seal_and_open_take(desk: Desk, option: tuple[str, ...]) -> None:
    report = json.loads(desk.well("keygen", *option, "-o", "new.txt", "--json"))
    piped = desk.run("keygen", *option)

    assert report["recipient"].startswith("age1pq1" if option else "age1")
    assert f"# public key: {report['recipient']}" in desk.read("new.txt").decode()
    assert 0o600 == (desk.path / "new.txt").stat().st_mode & 0o777
    sealed = desk.well("seal", "-r", report["recipient"], stdin=TEXT)
    assert TEXT == desk.well("open", "-i", "new.txt", "-", stdin=sealed)
    recipient = piped.stderr.removeprefix("Public key: ").strip()
    assert f"# public key: {recipient}" in piped.stdout.decode()
