"""Goal: `put` and `get` do what their help says for a person and for a script, and never leave half
of anything.

Method: the real commands, one process each, against one real gateway; files, pipes, JSON, and
everything that can be given wrongly. What must not be there is looked for.
"""

import asyncio
import json
import os
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from random import Random

import pyrage  # type: ignore[import-untyped]
import pytest

from crypto import X25519Identity
from storage_gateway.cli import run
from storage_gateway.parts import CATALOG_FILE
from tests.commands import Done, command
from tests.gateway import (
    MINER,
    GatewayProcess,
    OpenSession,
    gateway_process,
    open_session,
)
from tests.requirements import ROOT, need

CONTENT = Random(6).randbytes(1_500_000)  # two leaves
UNKNOWN = "urn:blob:v4:" + "a" * 32


@dataclass(frozen=True, slots=True)
class Desk:
    """A gateway, a session on it, and a folder with its tokens and identities as files."""

    path: Path
    gateway: GatewayProcess
    session: OpenSession

    def run(self, *arguments: object, holder: str = "user", stdin: bytes = b"") -> Done:
        return command(
            *map(str, arguments),
            *("--url", self.gateway.url, "--token-file", f"{holder}.token"),
            stdin=stdin,
            cwd=self.path,
        )

    def put(self, task: str, name: str, *options: str, holder: str = "user") -> str:
        done = self.run(
            "put",
            "--session",
            self.session.session_id,
            "--task",
            task,
            *options,
            name,
            holder=holder,
        )
        assert (0, "") == (done.status, done.err)
        return done.out.decode().strip()

    def write(self, name: str, content: bytes | str) -> Path:
        path = self.path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    path = tmp_path_factory.mktemp("desk")
    with asyncio.Runner() as runner:
        starting = gateway_process(path / "data")
        gateway = runner.run(starting.__aenter__())
        session = runner.run(open_session(gateway, "101"))
        one = Desk(path, gateway, session)
        for name in ("user", "miner", "other_miner"):
            one.write(f"{name}.token", f"{getattr(session, f'{name}_token')}\n")
            one.write(f"{name}.txt", f"{getattr(session, name).to_text()}\n")
        one.write("operator.token", gateway.operator_token)
        one.write("outsider.txt", X25519Identity.generate().to_text())
        one.write("content.bin", CONTENT)
        yield one
        runner.run(starting.__aexit__(None, None, None))


@pytest.fixture
def inside(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """Run a command within this process: quicker, for what writes text alone."""
    monkeypatch.chdir(desk.path)

    def one(*arguments: str) -> Done:
        status = run([*arguments])
        captured = capsys.readouterr()
        return Done(status, captured.out.encode(), captured.err)

    return one


def parts_left(desk: Desk) -> list[str]:
    return [path.name for path in desk.path.rglob("*.part")]


# The way there and back.


def test_a_file_goes_up_and_comes_back_in_each_form(desk: Desk) -> None:
    urn = desk.put("files", "content.bin")
    assert urn.startswith("urn:blob:v4:")

    for form, options in {
        "sealed": [],
        "opened": ["-i", "user.txt"],
        "plain": ["--plaintext"],
    }.items():
        done = desk.run("get", urn, "-o", f"{form}.out", *options)
        assert (0, b"", "") == (done.status, done.out, done.err)
    opened = command("open", "-i", "miner.txt", "sealed.out", cwd=desk.path)

    assert CONTENT == (desk.path / "opened.out").read_bytes()
    assert CONTENT == (desk.path / "plain.out").read_bytes()
    assert CONTENT == opened.out
    assert (desk.path / "sealed.out").read_bytes().startswith(b"age-encryption.org/v1\n")
    assert 0o600 == stat.S_IMODE((desk.path / "plain.out").stat().st_mode)
    assert [] == parts_left(desk)


def test_pipes(desk: Desk) -> None:
    done = desk.run("put", "--session", "101", "--task", "pipes", "-", stdin=CONTENT)
    assert (0, "") == (done.status, done.err)
    urn = done.out.decode().strip()

    sealed = desk.run("get", urn)
    assert CONTENT == command("open", "-i", "user.txt", "-", stdin=sealed.out, cwd=desk.path).out
    assert CONTENT == desk.run("get", urn, "--plaintext").out
    assert CONTENT == desk.run("get", urn, "-i", "user.txt").out


def test_an_empty_file(desk: Desk) -> None:
    desk.write("empty", b"")
    urn = desk.put("empty", "empty")

    assert b"" == desk.run("get", urn, "-i", "user.txt").out
    assert b"" == desk.run("get", urn, "--plaintext").out


def test_outputs_are_a_miners(desk: Desk) -> None:
    urn = desk.put("results", "content.bin", "--output", holder="miner")
    by_operator = desk.put("tools", "content.bin", "--output", "--miner", MINER, holder="operator")

    for one in (urn, by_operator):
        assert CONTENT == desk.run("get", one, "-i", "miner.txt", holder="miner").out
        assert CONTENT == desk.run("get", one, "--plaintext").out
        refused = desk.run("get", one, holder="other_miner")
        assert (1, b"") == (refused.status, refused.out)
        assert "[not_found]" in refused.err


def test_json(desk: Desk) -> None:
    done = desk.run(
        *("put", "--session", "101", "--task", "json", "--content-type", "text/plain", "--json"),
        "content.bin",
    )
    answer = json.loads(done.out)
    assert (len(CONTENT), "101", "json", "input", None) == tuple(
        answer[name] for name in ("size", "session_id", "task_id", "direction", "miner")
    )

    done = desk.run("get", answer["urn"], "-o", "sealed.json.age", "--json")
    report = json.loads(done.out)
    assert (answer["urn"], answer["sealed_size"]) == (report["urn"], report["size"])

    opened = command(
        *("open", "-i", "user.txt", "-o", "opened.json", "--json", "sealed.json.age"), cwd=desk.path
    )
    report = json.loads(opened.out)
    assert (len(CONTENT), "text/plain", "content.bin") == tuple(
        report[name] for name in ("size", "content_type", "filename")
    )


def test_a_pinned_name(desk: Desk) -> None:
    answer = json.loads(
        desk.run("put", "--session", "101", "--task", "pinned", "--json", "content.bin").out
    )
    pinned = answer["urn_pinned"]

    assert CONTENT == desk.run("get", pinned, "--plaintext").out
    assert CONTENT == desk.run("get", pinned, "-i", "user.txt").out
    other = json.loads(
        desk.run("put", "--session", "101", "--task", "pinned2", "--json", "user.txt").out
    )
    superseded = desk.run("get", f"{answer['urn']}?=cid={other['cid']}")
    assert (1, b"") == (superseded.status, superseded.out)
    assert "[cid_superseded]" in superseded.err


def test_settings_from_the_environment(desk: Desk) -> None:
    done = command(
        *("put", "--session", "101", "--task", "environment", "content.bin"),
        cwd=desk.path,
        environment={
            "GATEWAY_URL": f"{desk.gateway.url}/",
            "GATEWAY_TOKEN": desk.session.user_token,
        },
    )

    assert 0 == done.status, done.err


def test_a_report_and_a_file_do_not_share_stdout(desk: Desk) -> None:
    for output in ([], ["-o", "-"]):
        done = desk.run("get", UNKNOWN, "--json", *output)

        assert (2, b"") == (done.status, done.out)
        assert "--json needs -o FILE" in done.err


@pytest.mark.parametrize("kind", ["", "text/plain\r\nX-Evil: 1", "tëxt/plain", "a\nb"])
def test_a_content_type_that_is_none_is_refused_before_anything_is_sent(
    inside: Callable[..., Done], kind: str
) -> None:
    # Nobody listens there: another refusal would say that.
    done = inside(
        *("put", "--session", "101", "--task", "typed", "--content-type", kind, "content.bin"),
        *("--url", "http://127.0.0.1:9", "--token-file", "user.token"),
    )

    assert (2, b"") == (done.status, done.out)
    assert "storage-gateway put: --content-type: " in done.err


def test_what_put_would_print_and_cannot_is_a_failure(desk: Desk) -> None:
    options = f"--url {desk.gateway.url} --token-file user.token"
    for task, output in (("closed", ">&-"), ("full", "> /dev/full")):
        put = f"put --session 101 --task {task} {options} user.txt {output}"
        done = subprocess.run(
            ["sh", "-c", f"exec {sys.executable} -m storage_gateway {put}"],
            stderr=subprocess.PIPE,
            cwd=desk.path,
            # Buffered, as a user has it.
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""},
            timeout=60,
            check=False,
        )

        assert 1 == done.returncode
        assert done.stderr.startswith(b"storage-gateway: standard output: ")
        assert 1 == len(done.stderr.splitlines())


# What is wrong.


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["get", UNKNOWN], "[not_found]"),
        (["get", "urn:blob:v4:short"], "[invalid_urn]"),
        (["get", "not a name"], "[invalid_urn]"),
        (["get", "urn:blob:v1:s3:provider:bucket:file"], "[foreign_name]"),
        (["put", "--session", "101", "--task", "..", "content.bin"], "[invalid_field]"),
        (["put", "--session", "101", "--task", "a/b", "content.bin"], "[invalid_field]"),
        (["put", "--session", "101", "--task", "é", "content.bin"], "[invalid_field]"),
        (["put", "--session", "102", "--task", "1", "content.bin"], "[forbidden]"),
        (["put", "--session", "101", "--task", "1", "--output", "content.bin"], "[forbidden]"),
        (["put", "--session", "101", "--task", "1", "--sealed", "content.bin"], "malformed"),
        (["put", "--session", "101", "--task", "1", "no such file"], "no such file"),
    ],
)
def test_a_refusal_is_told_with_its_code_and_remedy(
    desk: Desk, arguments: list[str], says: str
) -> None:
    done = desk.run(*arguments)

    assert (1, b"") == (done.status, done.out)
    assert says in done.err
    assert done.err.startswith(f"storage-gateway {arguments[0]}: ")
    assert 1 == len(done.err.splitlines())


@pytest.mark.parametrize(
    ("token", "says"),
    [("sg_user_unknown", "[unauthenticated]"), ("", "token"), ("a b\nc", "token")],
)
def test_a_wrong_token_is_told_and_not_shown(
    desk: Desk, inside: Callable[..., Done], token: str, says: str
) -> None:
    desk.write("wrong.token", token)

    done = inside("get", UNKNOWN, "--url", desk.gateway.url, "--token-file", "wrong.token")

    assert 0 != done.status
    assert says in done.err
    assert not token or token not in done.err


def test_without_url_or_token_it_is_wrong_usage(desk: Desk) -> None:
    no_url = command("get", UNKNOWN, "--token-file", "user.token", cwd=desk.path)
    no_token = command("get", UNKNOWN, "--url", desk.gateway.url, cwd=desk.path)
    no_file = command("get", UNKNOWN, "--url", desk.gateway.url, "--token-file", "no such file")

    assert (2, 2, 1) == (no_url.status, no_token.status, no_file.status)
    assert "GATEWAY_URL" in no_url.err
    assert "GATEWAY_TOKEN" in no_token.err
    assert "no such file" in no_file.err


def test_a_token_is_not_sent_in_clear_over_a_network(desk: Desk) -> None:
    done = command(
        "get", UNKNOWN, "--url", "http://192.0.2.1", "--token-file", "user.token", cwd=desk.path
    )

    assert 2 == done.status
    assert "--plain-http" in done.err


class _NoGateway(BaseHTTPRequestHandler):
    """Answers every request as some other service might."""

    answer = b""
    status = 200
    kind = "text/html"

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Type", self.kind)
        self.send_header("Content-Length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.mark.parametrize(
    ("status", "kind", "answer"),
    [
        (200, "text/html", b"<html>"),
        (200, "application/json", b"{"),
        (200, "application/json", b"[1]"),
        (200, "application/json", b"{}"),
        (404, "application/json", b'["not found"]'),
        (502, "text/html", b"<html>"),
    ],
)
def test_what_is_no_gateway_is_told(
    desk: Desk, inside: Callable[..., Done], status: int, kind: str, answer: bytes
) -> None:
    members = {"status": status, "kind": kind, "answer": answer}
    with HTTPServer(("127.0.0.1", 0), type("Handler", (_NoGateway,), members)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        done = inside("get", UNKNOWN, "--url", url, "--token-file", "user.token", "-o", "x.out")
        server.shutdown()
        thread.join()

    assert 1 == done.status
    assert 1 == len(done.err.splitlines())
    assert "no storage gateway" in done.err or str(status) in done.err
    assert not (desk.path / "x.out").exists()


def test_where_nobody_listens(desk: Desk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    done = command(
        *("get", UNKNOWN, "--url", f"http://127.0.0.1:{port}", "--token-file", "user.token"),
        cwd=desk.path,
    )

    assert 1 == done.status
    assert "cannot talk to" in done.err


# Nothing by half.


def _damage_second_leaf(desk: Desk, urn: str) -> Path:
    done = command(
        *("get", urn, "--url", desk.gateway.url, "--token-file", "user.token", "-o", "whole.age"),
        cwd=desk.path,
    )
    assert 0 == done.status
    tail = (desk.path / "whole.age").read_bytes()[-100:]
    (stored,) = [
        path
        for path in (desk.gateway.data_dir / "store").rglob("*")
        if path.is_file() and path.read_bytes().endswith(tail)
    ]
    content = bytearray(stored.read_bytes())
    content[-50] ^= 1
    stored.write_bytes(content)
    return stored


def test_a_download_that_breaks_off_leaves_no_file(desk: Desk) -> None:
    urn = desk.put("damaged", "content.bin")
    stored = _damage_second_leaf(desk, urn)
    before = desk.write("kept.out", b"was here before")

    for options in ([], ["--plaintext"], ["-i", "user.txt"]):
        done = desk.run("get", urn, "-o", "kept.out", *options)
        assert 1 == done.status
        assert "broke" in done.err or "damaged" in done.err or "corrupt" in done.err
        assert b"was here before" == before.read_bytes()
        done = desk.run("get", urn, "-o", "new.out", *options)
        assert 1 == done.status
        assert not (desk.path / "new.out").exists()
    assert [] == parts_left(desk)
    content = bytearray(stored.read_bytes())
    content[-50] ^= 1
    stored.write_bytes(content)  # the gateway is shared


def test_an_identity_that_does_not_open_leaves_no_file(desk: Desk) -> None:
    urn = desk.put("locked", "content.bin")

    for identity in ("outsider.txt", "content.bin", "no such file"):
        done = desk.run("get", urn, "-i", identity, "-o", "locked.out")
        assert 0 != done.status
        assert b"" == done.out
        assert not (desk.path / "locked.out").exists()
    assert [] == parts_left(desk)


def test_an_interrupted_upload_leaves_its_slot_free(desk: Desk) -> None:
    arguments = ["put", "--session", "101", "--task", "interrupted"]
    process = start(desk, *arguments, "-")
    assert process.stdin is not None
    process.stdin.write(bytes(2_500_000))
    process.stdin.flush()
    wait_for_upload(desk, process, "interrupted")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)

    assert 130 == process.returncode, err
    assert b"Traceback" not in err
    while (done := desk.run(*arguments, "user.txt")).status != 0:
        assert "[slot_busy]" in done.err


def wait_for_upload(desk: Desk, process: "subprocess.Popen[bytes]", task: str) -> None:
    """Wait until the task's slot is held. To ask by an upload could win it."""
    query = "SELECT count(*) FROM slots WHERE task_id = ?"
    with closing(sqlite3.connect(desk.gateway.data_dir / CATALOG_FILE)) as connection:
        while connection.execute(query, (task,)).fetchone() == (0,):
            assert process.poll() is None, "the upload did not begin"


def start(desk: Desk, *arguments: str) -> "subprocess.Popen[bytes]":
    options = ["--url", desk.gateway.url, "--token-file", "user.token"]
    return subprocess.Popen(
        [sys.executable, "-m", "storage_gateway", *arguments, *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=desk.path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_an_upload_can_be_interrupted_while_its_input_stays_silent(desk: Desk) -> None:
    slot = ["put", "--session", "101", "--task", "silent"]
    process = start(desk, *slot, "-")
    assert process.stdin is not None
    process.stdin.write(bytes(1_000_000))
    process.stdin.flush()
    wait_for_upload(desk, process, "silent")
    process.send_signal(signal.SIGINT)

    # Its input is open still.
    assert 130 == process.wait(timeout=20)
    _, err = process.communicate()
    assert b"Traceback" not in err


def test_a_reader_that_goes_away_is_no_trouble(desk: Desk) -> None:
    urn = desk.put("reader", "content.bin")
    shell = (
        f"{sys.executable} -m storage_gateway get {urn} --url {desk.gateway.url}"
        " --token-file user.token --plaintext | head -c 10"
    )

    done = subprocess.run(
        ["sh", "-c", shell],
        capture_output=True,
        cwd=desk.path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )

    assert CONTENT[:10] == done.stdout
    assert b"Traceback" not in done.stderr


# Other people's tools.


def test_age_opens_what_get_wrote_and_put_takes_what_age_sealed(desk: Desk) -> None:
    age = need("age", "install the package age")
    urn = desk.put("age", "content.bin")
    desk.run("get", urn, "-o", "for-age.age")

    for identity in ("user.txt", "miner.txt"):
        opened = subprocess.run(
            [age, "--decrypt", "--identity", identity, "for-age.age"],
            cwd=desk.path,
            capture_output=True,
            check=True,
        )
        assert CONTENT == opened.stdout
    refused = subprocess.run(
        [age, "--decrypt", "--identity", "outsider.txt", "for-age.age"],
        cwd=desk.path,
        capture_output=True,
        check=False,
    )
    assert b"" == refused.stdout

    recipient = desk.session.router_recipient
    subprocess.run(
        [age, "--recipient", recipient, "--output", "by-age.age", "content.bin"],
        cwd=desk.path,
        check=True,
    )
    urn = desk.put("by_age", "by-age.age", "--sealed")
    assert CONTENT == desk.run("get", urn, "-i", "user.txt").out
    again = desk.run("put", "--session", "101", "--task", "again", "--sealed", "by-age.age")
    assert "[file_key_reused]" in again.err


def test_pyrage_opens_what_get_wrote_and_put_takes_what_pyrage_sealed(desk: Desk) -> None:
    urn = desk.put("pyrage", "content.bin")
    sealed = desk.run("get", urn).out
    user = pyrage.x25519.Identity.from_str(desk.session.user.to_text())
    assert CONTENT == pyrage.decrypt(sealed, [user])

    router = pyrage.x25519.Recipient.from_str(desk.session.router_recipient)
    desk.write("by-pyrage.age", pyrage.encrypt(CONTENT, [router]))
    urn = desk.put("by_pyrage", "by-pyrage.age", "--sealed")

    assert CONTENT == desk.run("get", urn, "-i", "user.txt").out
    assert CONTENT == desk.run("get", urn, "--plaintext").out


# Help.


def test_every_command_explains_itself_with_examples() -> None:
    top = command("--help").out.decode()
    names = {line.split()[0] for line in top.splitlines() if re.match(r" {4}\w", line)}
    explained = ("serve", "demo", "keygen", "session", "put", "get", "open", "check")
    assert set(explained) <= names

    for name in explained:
        done = command(name, "--help")
        assert 0 == done.status
        assert f"storage-gateway {name} " in done.out.decode().split("examples:")[1]


def test_wrong_usage_is_two() -> None:
    assert 2 == command().status
    assert 2 == command("fetch").status
    assert 2 == command("get").status
