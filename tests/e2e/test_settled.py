"""Goal: every process that serves has put what it made at its start out of the collector's reach.

Method: the real command, with one worker and with two. Python runs a `sitecustomize` of the test
first, which notes what there was when objects were frozen, and at the end how it stayed.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from storage_gateway.cli.process import COLLECT_AFTER
from tests.gateway import gateway_process
from tests.http.raw import exchange, request
from tests.processes import workers_of

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="not tested: workers, elsewhere than Linux"
)

NOTES = """
import atexit, gc, json, os
from pathlib import Path

freeze, made = gc.freeze, []


def noted():
    kinds = {type(it).__qualname__ for it in gc.get_objects()}
    made.append(sorted(kinds & {"Services", "GatewayRunner", "TCPSite", "HandedSite"}))
    freeze()


def note():
    left = {"frozen": gc.get_freeze_count(), "others": len(gc.get_objects())}
    left |= {"made": made, "threshold": gc.get_threshold()[0]}
    (Path(__file__).parent / f"{os.getpid()}.json").write_text(json.dumps(left))


gc.freeze = noted
atexit.register(note)
"""


@pytest.mark.parametrize(("workers", "site"), [(1, "TCPSite"), (2, "HandedSite")])
async def test_what_was_made_at_the_start_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, site: str
) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "sitecustomize.py").write_text(NOTES, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(notes))
    async with gateway_process(tmp_path / "data", workers=workers) as gateway:
        serving = [gateway.process.pid] if workers == 1 else await workers_of(gateway, workers)
        answer = await exchange(gateway.address, request("GET", "/healthz"))
    left: dict[int, dict[str, Any]] = {
        int(file.stem): json.loads(file.read_text()) for file in notes.glob("*.json")
    }

    assert 200 == answer.status
    assert {gateway.process.pid, *serving} == set(left)
    for pid in serving:
        assert [sorted({"GatewayRunner", "Services", site})] == left[pid]["made"], "it listened"
        assert COLLECT_AFTER == left[pid]["threshold"]
        assert left[pid]["frozen"] > left[pid]["others"]
