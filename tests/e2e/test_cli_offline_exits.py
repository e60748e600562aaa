"""Goal: every failure of an offline command has the exit status that is documented, says which file
and what to do, leaves no output behind and shows no key. Method: provoke each with real processes;
compare the table with the tree of errors, the help and the page.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import crypto
from crypto import Context, CryptoError, X25519Identity, seal
from storage_gateway.cli.exits import EXITS, all_exits, help_text
from tests.e2e.offline import ENVIRONMENT, Desk
from tests.requirements import ROOT

TEXT = b"What is the tide at noon?\n"
MAGIC = b"age-encryption.org/v1\n"
CONTEXT = Context("a" * 32, "b" * 32, "101", "7", "input", None, "classic")
# No input brings these about: no command takes a context, the others are faults of ours or of
# memory, and no command reads a CID by itself.
WITHOUT_INPUT = {16, 20, 22, 23, 24, 25, 26, 32, 33}

# Status, what the message names, and the command; -o out is added to those that take it.
FAILURES = {
    "not an age file": (10, "garbage", ["open", "-i", "user.txt", "garbage"]),
    "armored": (10, "armored", ["open", "-i", "user.txt", "armored"]),
    "empty": (10, "empty", ["open", "-i", "user.txt", "empty"]),
    "directory": (40, "folder", ["open", "-i", "user.txt", "folder"]),
    "not an age file, inspected": (10, "garbage", ["inspect", "garbage"]),
    "header too long": (11, "endless", ["open", "-i", "user.txt", "endless"]),
    "too many stanzas": (12, "crowded", ["inspect", "crowded"]),
    "no identity": (13, "whole", ["open", "-i", "outsider.txt", "whole"]),
    "no identity, rewrap": (
        13,
        "whole",
        ["rewrap", "-i", "outsider.txt", "--current", "USER", "--wanted", "MINER", "whole"],
    ),
    "header changed": (14, "forged", ["open", "-i", "user.txt", "forged"]),
    "chunk changed": (15, "flipped", ["open", "-i", "user.txt", "flipped"]),
    "cut short": (15, "cut", ["open", "-i", "user.txt", "cut"]),
    "no payload": (15, "head", ["open", "-i", "user.txt", "head"]),
    "recipient": (17, "recipient 2 of 2", ["seal", "-r", "USER", "-r", "age1nobody", "plain"]),
    "identity for recipient": (17, "recipient 1 of 1", ["seal", "-r", "SECRET", "plain"]),
    "recipients file": (17, "list, line 3", ["seal", "-R", "list", "plain"]),
    "identities for recipients": (17, "user.txt, line 1", ["seal", "-R", "user.txt", "plain"]),
    "identity": (18, "plain", ["open", "-i", "plain", "whole"]),
    "identity, binary": (18, "binary", ["open", "-i", "binary", "whole"]),
    "identity, misspelt": (18, "misspelt.txt", ["open", "-i", "misspelt.txt", "whole"]),
    "classes": (19, "recipients", ["seal", "-r", "USER", "-r", "HYBRID", "plain"]),
    "classes, rewrap": (
        19,
        "whole",
        ["rewrap", "-i", "user.txt", "--current", "USER", "--wanted", "HYBRID", "whole"],
    ),
    "current unlike stanzas": (
        10,
        "whole",
        ["rewrap", "-i", "user.txt", *("--current", "USER") * 2, "--wanted", "MINER", "whole"],
    ),
    "content type": (21, "content type", ["seal", "-r", "USER", "--content-type", "é", "plain"]),
    "file name": (21, "file name", ["seal", "-r", "USER", "--filename", "n" * 2000, "plain"]),
    "urn": (30, "position 0", ["urn", "parse", "blob:v4:x"]),
    "name": (31, "position 13", ["urn", "parse", "urn:blob:v4:x!"]),
    "no such file": (40, "missing", ["seal", "-r", "USER", "missing"]),
    "no such identity file": (40, "missing", ["open", "-i", "missing", "whole"]),
    "no such file, cid": (40, "missing", ["cid", "missing"]),
    "no such folder": (40, "nowhere/out", ["seal", "-r", "USER", "-o", "nowhere/out", "plain"]),
    "exists": (41, "plain", ["open", "-i", "user.txt", "-o", "plain", "whole"]),
    "exists, keygen": (41, "user.txt", ["keygen", "-o", "user.txt"]),
    "no recipient": (2, "no recipient", ["seal", "plain"]),
    "stdin twice": (2, "'-'", ["open", "-i", "-", "-"]),
    "report into stdout": (2, "--json", ["open", "-i", "user.txt", "--json", "whole"]),
    "range of a pipe": (2, "--range", ["open", "-i", "user.txt", "--range", "0-1", "-"]),
    "key into a report": (2, "--json", ["keygen", "--json"]),
}
WITHOUT_OUTPUT = {"inspect", "cid", "urn", "keygen"}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    desk = Desk(tmp_path_factory.mktemp("desk"))
    envelope = seal(TEXT, [desk.user.recipient()], context=CONTEXT)
    head, payload = envelope.head, envelope.payload
    forged = re.sub(rb"(?m)^--- (.)", lambda m: b"--- " + (b"B" if m[1] == b"A" else b"A"), head)
    misspelt = desk.user.to_text()[:-1] + ("Q" if desk.user.to_text()[-1] != "Q" else "P")
    for name, data in {
        "plain": TEXT,
        "garbage": TEXT,
        "empty": b"",
        "binary": b"\xff\xfe" + desk.user.to_text().encode("utf-16-le"),
        "misspelt.txt": f"# key\n{misspelt}\n".encode(),
        "list": f"# miners\n{desk.miner.recipient()}\nage1nobody\n".encode(),
        "armored": b"-----BEGIN AGE ENCRYPTED FILE-----\n",
        "endless": MAGIC + b"-> X " + b"a" * 70_000,
        "crowded": MAGIC + b"-> X\n\n" * 33 + b"--- " + b"A" * 43 + b"\n",
        "whole": head + payload,
        "head": head,
        "forged": forged + payload,
        "flipped": head + payload[:-1] + bytes([payload[-1] ^ 1]),
        "cut": head + payload[:-1],
    }.items():
        desk.write(name, data)
    (desk.path / "folder").mkdir()
    return desk


@pytest.mark.parametrize("failure", FAILURES)
def test_each_failure_has_its_status(desk: Desk, failure: str) -> None:
    status, named, command = FAILURES[failure]
    keys = {
        "USER": str(desk.user.recipient()),
        "MINER": str(desk.miner.recipient()),
        "HYBRID": str(desk.hybrid.recipient()),
        "SECRET": desk.user.to_text(),
    }
    arguments = [keys.get(word, word) for word in command]
    names = desk.names()
    # The report belongs to stdout there, and those with -o of their own have it.
    if command[0] not in WITHOUT_OUTPUT and "-o" not in command and failure[:6] != "report":
        arguments += ["-o", "out"]

    done = desk.run(*arguments, stdin=desk.read("whole"))

    assert status == done.status, done.stderr
    assert f"storage-gateway {command[0]}" in done.stderr
    assert named in done.stderr
    assert status == 2 or "\n  remedy: " in done.stderr
    assert "Traceback" not in done.stderr
    assert names == desk.names()
    assert TEXT == desk.read("plain")
    for secret in [*desk.secrets(), "AGE-SECRET-KEY-1" + desk.secrets()[0][16:40]]:
        assert secret not in done.stderr + done.stdout.decode()


def test_every_status_that_input_can_bring_about_is_provoked() -> None:
    provoked = {status for status, _, _ in FAILURES.values()}

    assert {row.status for row in EXITS.values()} - WITHOUT_INPUT == provoked - {2}


def leaves(kind: type[Exception]) -> Iterator[type[Exception]]:
    kinds = kind.__subclasses__()
    if not kinds:
        yield kind
    for child in kinds:
        yield from leaves(child)


def test_every_leaf_of_the_errors_has_a_status_of_its_own() -> None:
    ours = [kind for kind in leaves(CryptoError) if kind.__module__ == crypto.errors.__name__]

    assert len(ours) >= 13
    assert [] == [kind.__name__ for kind in ours if kind not in EXITS]
    statuses = [row.status for row in all_exits()]
    assert sorted(set(statuses)) == statuses


def test_the_page_and_the_help_have_the_same_table(desk: Desk) -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| (\d+) \| ([^|]+) \| ([^|]*) \|", page)

    assert [(str(row.status), row.meaning, row.remedy) for row in all_exits()] == rows
    for command in ("keygen", "seal", "open", "rewrap", "inspect", "cid", "urn"):
        assert help_text() in desk.well(command, "--help").decode()


def test_a_full_disk_is_told_for_what_it_is(desk: Desk) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - as a shell's redirection does
        for command in (["open", "-i", "user.txt", "whole"], ["inspect", "whole"], ["keygen"]):
            done = desk.run(*command, stdout=full.fileno())

            assert 40 == done.status
            assert "standard output: No space left on device" in done.stderr


def test_nothing_offline_loads_the_network(desk: Desk) -> None:
    code = (
        "import sys; from storage_gateway.cli import run; status = run(['inspect', 'whole']);"
        "print(*sys.modules, sep='\\n', file=sys.stderr); sys.exit(status)"
    )

    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(
        command, cwd=desk.path, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )

    assert 0 == done.returncode, done.stderr
    loaded = set(done.stderr.split())
    assert "storage_gateway.cli.offline_commands" in loaded, "it is this program that is looked at"
    assert not {"aiohttp", "sqlalchemy"} & loaded


@pytest.mark.parametrize(
    "arguments",
    [
        ["open", "-i", "KEY", "sealed.age"],
        ["inspect", "KEY"],
        ["seal", "-R", "KEY", "plain"],
        ["open", "-i", "user.txt", "sealed.age", "KEY"],
        ["KEY"],
        ["cid", "KEY", "--json"],
    ],
)
def test_an_identity_given_where_a_file_belongs_is_not_shown(
    tmp_path: Path, arguments: list[str]
) -> None:
    key = X25519Identity.generate().to_text()
    command = [sys.executable, "-m", "storage_gateway"]
    done = subprocess.run(
        [*command, *(key if a == "KEY" else a for a in arguments)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode != 0
    assert done.stderr
    assert key not in (done.stdout + done.stderr).upper()
