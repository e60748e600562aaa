"""``stress list`` and ``stress run``: stress cases of a running gateway, from a terminal."""

import argparse
import asyncio
import json
import sys
from typing import Any

from storage_gateway.client import Client

from .output import EXIT_FAILED, EXIT_OK
from .transfer import talk

POLL_S = 0.25
PASS = "pass"  # noqa: S105 - a verdict


def list_cases(options: argparse.Namespace) -> int:
    """Print the cases that the gateway has."""
    return talk("stress list", options, _list)


def run_case(options: argparse.Namespace) -> int:
    """Run one case to its end; exit 0 only when it passed. Ctrl-C stops the run."""
    return talk("stress run", options, _run)


async def _list(options: argparse.Namespace, token: str) -> int:
    async with Client(options.url, token) as client:
        answer = await client.stress("GET", "", members={"cases"})
    if options.json:
        print(json.dumps(answer, indent=2))
        return EXIT_OK
    for case in answer["cases"]:
        print(f"{case['case']:<24} about {case['expected_s']:g} s\n    {case['edge_case']}")
        if not case["runs_here"]:
            print(f"    It cannot be run here: it needs {case['needs']}.")
    return EXIT_OK


async def _run(options: argparse.Namespace, token: str) -> int:
    asked = {"seed": options.seed, "duration_s": options.duration, "clients": options.clients}
    parameters = {name: value for name, value in asked.items() if value is not None}
    parameters |= dict(options.set)
    async with Client(options.url, token) as client:
        starting = asyncio.create_task(
            client.stress("POST", f"/{options.case}", parameters, members={"id"})
        )
        try:
            # A run whose id was not heard could not be stopped: Ctrl-C waits for the answer.
            run_id = (await asyncio.shield(starting))["id"]
            run = await _followed(client, run_id, quiet=options.quiet)
        except asyncio.CancelledError:
            # Shielded by nothing: the program ends on a second Ctrl-C.
            run_id = (await starting)["id"]
            await client.stress("DELETE", f"/runs/{run_id}", members={"id"})
            print(f"asked the run to stop: {run_id}", file=sys.stderr)
            raise
    print(json.dumps(run, indent=2) if options.json else report(run))
    return EXIT_OK if run.get("verdict") == PASS else EXIT_FAILED


async def _followed(client: Client, run_id: str, *, quiet: bool) -> dict[str, Any]:
    shown = not quiet and sys.stderr.isatty()
    while True:
        run = await client.stress("GET", f"/runs/{run_id}", members={"state"})
        if shown:
            told = run["progress"]
            line = f"{run['case']}: {told.get('phase', 'starting')}, {told.get('elapsed_s', 0)} s"
            line += f", {told.get('requests', 0)} requests"
            print(f"\r\x1b[2K{line}", end="", file=sys.stderr, flush=True)
        if run["state"] != "running":
            if shown:
                print("\r\x1b[2K", end="", file=sys.stderr, flush=True)
            return run
        await asyncio.sleep(POLL_S)


def report(run: dict[str, Any]) -> str:
    """Return a run's report for a person; what failed comes with evidence and where to look."""
    lines = [f"{run['case']}: {run.get('verdict', 'no verdict')} ({run['state']})"]
    lines += [f"  seed {run['seed']}, run {run['id']}, {run.get('elapsed_s', '?')} s", ""]
    for entry in [*run.get("invariants", []), *run.get("criteria", [])]:
        number = f"{entry['number']}. " if "number" in entry else ""
        name = entry.get("invariant", entry.get("criterion"))
        lines.append(f"  [{entry['verdict']}] {number}{name}")
        if entry["verdict"] != PASS:
            lines += [f"         {evidence}" for evidence in entry["evidence"]]
            if "look_at" in entry:
                lines.append(f"         look at {entry['look_at']}")
    lines.append("")
    for operation, outcomes in run.get("requests", {}).items():
        counted = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
        lines.append(f"  {operation}: {counted}{_times(run, operation)}")
    for name, label in (
        ("retries", "retries"),
        ("time_to_detect_s", "seconds to detect"),
        ("time_to_recover_s", "seconds to recover"),
        ("until_readable_ms", "ms from an answer until read back"),
        ("overhead", "median latency over the control group's"),
        ("faults", "faults"),
        ("leftovers", "leftovers"),
        ("version", "version"),
        ("config_digest", "config digest"),
    ):
        if run.get(name):
            lines.append(f"  {label}: {_plain(run[name])}")
    return "\n".join(lines)


def _times(run: dict[str, Any], operation: str) -> str:
    times = run.get("latency_ms", {}).get(operation)
    if not times:
        return ""
    return " (ms: " + ", ".join(f"{name} {value:g}" for name, value in times.items()) + ")"


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(inner)}" for name, inner in value.items())
    return str(value)
