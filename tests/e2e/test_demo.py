"""Goal: the demo does the whole main job and its account is true. Method: run it small, read its
JSON, and check with other means what it says of the folder that it keeps.
"""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.commands import command

SIZE_MIB = 16
SIZE = SIZE_MIB << 20


def test_the_demo_succeeds_and_its_account_is_true(tmp_path: Path) -> None:
    kept = tmp_path / "kept"

    done = command("demo", "--size-mib", str(SIZE_MIB), "--json", "--keep", kept, cwd=tmp_path)

    assert (0, "") == (done.status, done.err)
    account = json.loads(done.out)
    assert [] == account["failures"]
    steps = {step["step"]: step for step in account["transfers"]}
    assert {"put prompt", "put large input", "put result"} <= set(steps)
    assert SIZE == steps["put large input"]["bytes"]
    assert all(step["seconds"] > 0 for step in account["transfers"])
    assert steps["put large input"]["mb_per_s"] > 0
    yes = {"user": True, "router": True, "miner": True, "outsider": False}
    assert [
        {"object": "prompt", **yes, "other miner": True},
        {"object": "result", **yes, "other miner": False},
    ] == account["openings"]
    assert {"found": 0, "found_in_control": account["search"]["needles"]} == {
        name: account["search"][name] for name in ("found", "found_in_control")
    }
    assert account["search"]["needles"] > 10
    assert account["search"]["bytes_searched"] > SIZE
    assert account["stock_tool"]["opened"] is True
    assert "all is well" in account["check"]

    with closing(sqlite3.connect(kept / "catalog.sqlite3")) as connection:
        rows = connection.execute("SELECT size, direction, miner, state FROM objects").fetchall()
    assert {"input", "output"} == {row[1] for row in rows}
    assert 3 == len(rows)
    assert SIZE == max(row[0] for row in rows)
    assert {"committed"} == {row[3] for row in rows}
    assert 0 == command("check", "--data-dir", kept).status
    assert [kept] == list(tmp_path.iterdir())


def test_a_person_gets_a_short_account(tmp_path: Path) -> None:
    done = command("demo", "--size-mib", "1", cwd=tmp_path)

    text = done.out.decode()
    assert (0, "") == (done.status, done.err)
    assert text.endswith("Everything held.\n")
    assert 3 == text.count("urn:blob:v4:")
    assert 3 == text.count("CID baf")
    assert "MB/s" in text
    assert len(text.splitlines()) < 40
    assert [] == list(tmp_path.iterdir())


def test_a_folder_that_is_not_empty_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")

    done = command("demo", "--size-mib", "1", "--keep", tmp_path)

    assert (1, b"") == (done.status, done.out)
    assert "not empty" in done.err
    assert ["mine"] == [path.name for path in tmp_path.iterdir()]


def test_a_size_of_nothing_is_refused() -> None:
    assert 1 == command("demo", "--size-mib", "0").status
