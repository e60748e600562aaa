"""``session open``: what the operator does before anybody can upload."""

import argparse
import json
from typing import Any

from storage_gateway.client import Client
from storage_gateway.records import BLIND

from .output import EXIT_OK, is_stdout, output_file
from .transfer import talk


def open_session(options: argparse.Namespace) -> int:
    """Open a session; write its document, with the tokens that are shown this once."""
    return talk("session open", options, _open)


async def _open(options: argparse.Namespace, token: str) -> int:
    # Opened first: tokens that could not be written would be lost.
    with output_file(options.output, force=False) as target:
        async with Client(options.url, token) as client:
            answer = await client.open_session(_document_of(options))
        target.write(json.dumps(answer, indent=2).encode() + b"\n")
    if not is_stdout(options.output):
        print(answer["session_id"])
    return EXIT_OK


def _document_of(options: argparse.Namespace) -> dict[str, Any]:
    document: dict[str, Any] = {
        "parties": {
            "user": {"recipient": options.user},
            "miners": [{"id": miner, "recipient": recipient} for miner, recipient in options.miner],
        },
    }
    if options.router is not None:
        document["custody"] = BLIND
        document["parties"]["router"] = {"recipient": options.router}
    optional = {
        "session_id": options.session,
        "backends": options.backend,
        "write_quorum": options.write_quorum,
        "retention": options.retention,
    }
    return document | {name: value for name, value in optional.items() if value is not None}
