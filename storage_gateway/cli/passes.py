"""``passes run``: a pass of a running gateway, to the end of its round, from a terminal."""

import argparse
import asyncio
import json
from collections import Counter
from typing import Any

from storage_gateway.client import Client

from .output import EXIT_FAILED, EXIT_OK, note, progress
from .transfer import talk

SECONDS = 5.0
"""How long one question lasts: so often a person is told."""
BUSY_S = 2.0
NOT_COUNTED = frozenset({"pass", "ended", "complete"})
WRONG = frozenset(
    {"bad", "lost", "failed", "failures", "unread", "waiting", "strange", "skipped", "braked"}
    | {"behind", "kept", "restorable", "refused", "conflicts", "without"}
)
"""Counts that are to be looked at."""

UNITS = {"gc": " payloads", "leftovers": " keys"}


def run_pass(options: argparse.Namespace) -> int:
    """Run a pass to the end of the round that is under way, or a whole one if none is; exit 0 only
    if nothing is wrong or missing. Ctrl-C leaves it to the gateway's own passes, which go on where
    it stopped.
    """
    return talk("passes run", options, _run)


async def _run(options: argparse.Namespace, token: str) -> int:
    counts: Counter[str] = Counter()
    async with Client(options.url, token) as client:
        unit = UNITS.get(options.name, " copies")
        with progress(None, options.name, quiet=options.quiet, unit=unit) as advance:
            while True:
                answer = await client.run_pass(options.name, SECONDS, options.confirm)
                done = _counts_of(answer)
                counts.update(done)
                advance(done.get("keys", sum(n for what, n in done.items() if "bytes" not in what)))
                if answer["ended"]:
                    break
                if not any(done.values()):
                    await asyncio.sleep(BUSY_S)  # another process has its turn
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
