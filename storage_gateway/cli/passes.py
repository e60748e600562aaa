"""``passes run``: a pass of a running gateway, to the end of its round, from a terminal."""

import argparse
import asyncio
import json
from collections import Counter
from typing import Any
from urllib.parse import quote

from storage_gateway.client import Client

from .output import EXIT_FAILED, EXIT_OK, EXIT_USAGE, fail, note, progress
from .transfer import talk

SECONDS = 5.0
"""How long one question lasts: so often a person is told."""
BUSY_S = 2.0
NOT_COUNTED = frozenset({"pass", "ended", "complete"})
WRONG = frozenset(
    {"bad", "lost", "failed", "failures", "unread", "waiting", "strange", "skipped", "braked"}
    | {"behind", "clock_behind", "kept", "restorable", "refused", "conflicts", "without"}
)
"""Counts that are to be looked at."""

UNITS = {"gc": " payloads", "leftovers": " keys", "sweep": " objects"}
VERDICTS = "/v1/admin/retention/verdicts"
SWEEP = "sweep"


def run_pass(options: argparse.Namespace) -> int:
    """Run a pass to the end of the round that is under way, or a whole one if none is; exit 0 only
    if nothing is wrong or missing. Ctrl-C leaves it to the gateway's own passes, which go on where
    it stopped.
    """
    if options.dry_run and options.name != SWEEP:
        fail("passes run", "--dry-run is for sweep alone")
        return EXIT_USAGE
    return talk("passes run", options, _show if options.dry_run else _run)


async def _show(options: argparse.Namespace, token: str) -> int:
    """Print what a sweep would do now, and how much of it."""
    counts: Counter[str] = Counter()
    verdicts: list[dict[str, Any]] = []
    async with Client(options.url, token) as client:
        answer = first = await client.ask("GET", VERDICTS, members={"verdicts", "next"})
        while True:
            counts.update(verdict["action"] for verdict in answer["verdicts"])
            if options.json:
                verdicts += answer["verdicts"]
            else:
                print("".join(f"{_line_of(each)}\n" for each in answer["verdicts"]), end="")
            if answer["next"] is None:
                break
            path = f"{VERDICTS}?cursor={quote(answer['next'])}"
            answer = await client.ask("GET", path, members={"verdicts", "next"})
    if options.json:
        print(json.dumps(first | {"verdicts": verdicts, "next": None}, indent=2))
        return EXIT_OK
    told = ", ".join(f"{count:,} {what}" for what, count in counts.items()) or "nothing is due"
    print(f"sweep: {told}; the clock is {first['clock']}")
    if first["braked"]:
        number = first["braked"]
        note("passes run", f"nothing of it goes without --confirm {number}: is the time right?")
    elif not first["goes"]:
        why = (
            "the catalog is older than the stores" if first["behind"] else "the clock was set back"
        )
        note("passes run", f"nothing expires or is erased now: {why}")
    return EXIT_OK


def _line_of(verdict: dict[str, Any]) -> str:
    until = f" until {verdict['until']}" if verdict["until"] else ""
    return f"{verdict['action']:<6} {verdict['urn']} {verdict['reason']}{until}"


async def _run(options: argparse.Namespace, token: str) -> int:
    counts: Counter[str] = Counter()
    async with Client(options.url, token) as client:
        unit = UNITS.get(options.name, " copies")
        with progress(None, options.name, quiet=options.quiet, unit=unit) as advance:
            while True:
                answer = await client.run_pass(options.name, SECONDS, options.confirm)
                done = _counts_of(answer)
                counts.update(done)
                looked = done.get("keys", done.get("looked"))
                advance(looked or sum(n for what, n in done.items() if "bytes" not in what))
                if answer["ended"]:
                    break
                if not any(done.values()):
                    await asyncio.sleep(BUSY_S)  # another process has its turn
    if options.name == SWEEP:
        counts["braked"] = answer["braked"]  # each turn finds the same
    if options.json:
        print(json.dumps({"pass": options.name} | dict(counts), indent=2))
    else:
        print(f"{options.name}: " + ", ".join(f"{n:,} {what}" for what, n in counts.items()))
    if away := answer.get("unreachable"):
        note("passes run", f"out of reach: {', '.join(away)}. Run it again when they answer")
    is_whole = answer.get("complete", True)
    return EXIT_OK if is_whole and not any(counts[what] for what in WRONG) else EXIT_FAILED


def _counts_of(answer: dict[str, Any]) -> dict[str, int]:
    return {
        what: count
        for what, count in answer.items()
        if what not in NOT_COUNTED and isinstance(count, int)
    }
