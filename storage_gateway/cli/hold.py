"""``hold place``, ``hold release``, ``hold list``: what stays, whoever wants it gone."""

import argparse
import json
from collections.abc import Awaitable, Callable
from typing import Any

from storage_gateway.client import Client
from storage_gateway.hold_client import HoldClient

from .output import EXIT_OK, EXIT_USAGE, fail
from .transfer import talk

COLUMNS = ("hold", "on", "since", "who", "why", "released", "by", "as")

Document = dict[str, Any]
Ask = Callable[[HoldClient], Awaitable[Document]]


def place(options: argparse.Namespace) -> int:
    """Place a hold; print its id."""
    return _talk(
        "hold place",
        options,
        lambda holds: holds.place(options.who, options.why),
        lambda hold: str(hold["hold_id"]),
    )


def release(options: argparse.Namespace) -> int:
    """Release a hold; print when it was."""
    return _talk(
        "hold release",
        options,
        lambda holds: holds.release(options.hold, options.who, options.why),
        lambda hold: f"released {hold['released']} by {hold['released_by']}",
    )


def show(options: argparse.Namespace) -> int:
    """Print the holds, also those that were released."""
    return _talk("hold list", options, lambda holds: holds.all(), _table)


def _talk(
    name: str, options: argparse.Namespace, ask: Ask, text_of: Callable[[Document], str]
) -> int:
    if (options.urn is None) == (options.session is None):
        fail(name, "give the URN of an object, or --session ID")
        return EXIT_USAGE

    async def work(options: argparse.Namespace, token: str) -> int:
        async with Client(options.url, token) as client:
            holds = HoldClient(client, urn=options.urn, session_id=options.session)
            answer = await ask(holds)
        print(json.dumps(answer, indent=2) if options.json else text_of(answer))
        return EXIT_OK

    return talk(name, options, work)


def _table(answer: Document) -> str:
    on = "object" if "session_holds" in answer else "session"
    rows = [COLUMNS, *(_cells_of(hold, on) for hold in answer["holds"])]
    rows += [_cells_of(hold, "session") for hold in answer.get("session_holds", ())]
    widths = [max(len(row[at]) for row in rows) for at in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _cells_of(hold: Document, on: str) -> tuple[str, ...]:
    released = (hold["released"] or "no", hold["released_by"] or "", hold["release_why"] or "")
    return (hold["hold_id"], on, hold["since"], hold["who"], hold["why"], *released)
