"""Goal: `stress list` and `stress run` do over a terminal what the endpoints do, and their exit
status is the verdict. Method: the real command against a real gateway process.
"""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

from storage_gateway.cli.stress import report
from storage_gateway.stress.cases import CASES
from tests.commands import Done, command_beside
from tests.gateway import GatewayProcess, eventually, gateway_process
from tests.requirements import ROOT


async def stress(gateway: GatewayProcess, *arguments: str) -> Done:
    token = gateway.data_dir / "operator-token"
    return await command_beside("stress", *arguments, "--url", gateway.url, "--token-file", token)


async def test_a_case_is_listed_and_run(tmp_path: Path) -> None:
    async with gateway_process(tmp_path / "data", enable_stress=True) as gateway:
        listed = await stress(gateway, "list")
        as_json = await stress(gateway, "list", "--json")
        ran = await stress(
            gateway,
            "run",
            "tiny-objects",
            "--seed",
            "7",
            "--duration",
            "0.3",
            "--clients",
            "2",
            "--set",
            "sizes=[0,5]",
            "--json",
        )
        said = await stress(gateway, "run", "duplicate-submit", "--duration", "0.1")

    assert (0, 0) == (listed.status, as_json.status)
    for name in CASES:
        assert name in listed.out.decode()
    assert set(CASES) == {case["case"] for case in json.loads(as_json.out)["cases"]}
    assert 0 == ran.status, ran
    run = json.loads(ran.out)
    assert ("pass", 7, [0, 5]) == (run["verdict"], run["seed"], run["parameters"]["sizes"])
    assert 0 == said.status, said
    assert "duplicate-submit: pass (done)" in said.out.decode()
    assert "[pass] 8. A reader sees nothing or the whole object" in said.out.decode()


async def test_what_cannot_be_run_is_said(tmp_path: Path) -> None:
    async with gateway_process(tmp_path / "data") as gateway:
        off = await stress(gateway, "run", "tiny-objects")
    bad = await command_beside("stress", "run", "tiny-objects", "--set", "nonsense")

    assert 1 == off.status
    assert "[stress_disabled]" in off.err
    assert 2 == bad.status
    assert "idle_s=0.5" in bad.err


async def test_ctrl_c_stops_the_run(tmp_path: Path) -> None:
    async with gateway_process(tmp_path / "data", enable_stress=True) as gateway:
        arguments = ["stress", "run", "tiny-objects", "--duration", "60", "--url", gateway.url]
        arguments += ["--token-file", str(gateway.data_dir / "operator-token")]
        process = await asyncio.to_thread(
            subprocess.Popen,
            [sys.executable, "-m", "storage_gateway", *arguments],
            stderr=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        with process:
            await eventually(lambda: _is_busy(gateway), what="the run")
            process.send_signal(signal.SIGINT)
            _, said = await asyncio.to_thread(process.communicate, None, 30)

        assert 130 == process.returncode
        assert "asked the run to stop" in said
        assert "Traceback" not in said
        await eventually(lambda: _is_idle(gateway), what="the end of the run")


async def _is_busy(gateway: GatewayProcess) -> bool:
    return (gateway.data_dir / "stress").exists()


async def _is_idle(gateway: GatewayProcess) -> bool:
    return not (gateway.data_dir / "stress").exists()


def test_a_failed_report_says_where_to_look() -> None:
    text = report(
        {
            "case": "tiny-objects",
            "state": "done",
            "id": "a",
            "seed": 1,
            "verdict": "fail",
            "invariants": [
                {
                    "number": 2,
                    "invariant": "It is readable.",
                    "verdict": "fail",
                    "evidence": ["urn:x is not"],
                    "look_at": "write.py",
                }
            ],
            "requests": {"upload": {"ok": 2, "busy": 1}},
            "latency_ms": {"upload": {"p50": 1.0, "max": 2.5}},
        }
    )

    assert "[fail] 2. It is readable.\n         urn:x is not\n         look at write.py" in text
    assert "upload: 2 ok, 1 busy (ms: p50 1, max 2.5)" in text
