"""``keys census``, ``keys rotate``, ``keys state``: key versions of a running gateway.

An identity stays here: it opens a challenge, and only the answer is sent.
"""

import argparse
import base64
import json
from typing import Any

from crypto import HeaderError, Identity, open_file
from storage_gateway.client import Client, ClientError
from storage_gateway.key_client import KeyClient

from .jobs import carried_out, report, status_of
from .keys import read_identities
from .output import EXIT_OK, EXIT_USAGE, fail, note
from .transfer import talk

REWRAP = "rewrap"
COLUMNS = ("party", "version", "class", "state", "proof", "heads", "uploads", "safe to destroy")
NUMBERS = frozenset({"version", "heads", "uploads"})

Document = dict[str, Any]


def census(options: argparse.Namespace) -> int:
    """Print the key versions, and what depends on each."""
    return talk("keys census", options, _census)


def rotate(options: argparse.Namespace) -> int:
    """Register a new version, and have the old heads wrapped for it."""
    wrong = _wrong_holder(options) or _wrong_key(options)
    if wrong:
        fail("keys rotate", wrong)
        return EXIT_USAGE
    return talk("keys rotate", options, _rotate)


def change_state(options: argparse.Namespace) -> int:
    """Bring a version into its next state."""
    if wrong := _wrong_holder(options):
        fail("keys state", wrong)
        return EXIT_USAGE
    return talk("keys state", options, _state)


def table(keys: list[Document]) -> str:
    """Return key versions as a table."""
    rows = [COLUMNS, *map(_cells_of, keys)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(COLUMNS))]
    aligned = (
        [
            cell.rjust(width) if name in NUMBERS else cell.ljust(width)
            for name, cell, width in zip(COLUMNS, row, widths, strict=True)
        ]
        for row in rows
    )
    return "\n".join("  ".join(cells).rstrip() for cells in aligned)


def _cells_of(key: Document) -> tuple[str, ...]:
    return (
        key["miner"] or key["party"],
        str(key["version"]),
        key["key_class"],
        key["state"],
        key["proof"],
        f"{key['heads']:,}",
        f"{key['uploads']:,}",
        "yes" if key["safe_to_destroy"] else "no",
    )


def _wrong_holder(options: argparse.Namespace) -> str | None:
    if options.router:
        others = options.party or options.miner
        return "--router has no --party and no --miner" if others else None
    if options.party is None:
        return "--session needs --party user (or router), or --party miner with --miner 0x…"
    if (options.party == "miner") != (options.miner is not None):
        return "--party miner goes with --miner 0x…, and no other does"
    return None


def _wrong_key(options: argparse.Namespace) -> str | None:
    is_given = bool(options.identity or options.recipient)
    if options.router:
        return "the router makes its own identity: give none" if is_given else None
    return None if is_given else "give --identity FILE, or --recipient age1…"


async def _census(options: argparse.Namespace, token: str) -> int:
    async with Client(options.url, token) as client:
        keys = await KeyClient(client).census(options.session)
    if options.json:
        print(json.dumps({"keys": keys}, indent=2))
        return EXIT_OK
    print(table(keys))
    due = max((key["copies_due"] for key in keys), default=0)
    if due:
        print(f"{due:,} copies of manifests are under way to stores: nothing is safe until then")
    return EXIT_OK


async def _rotate(options: argparse.Namespace, token: str) -> int:
    async with Client(options.url, token) as client:
        keys = KeyClient(client)
        if options.router:
            key = await keys.rotate_router(options.key_class)
        else:
            key = await _registered(keys, options)
        if not options.json:
            print(_line_of(key), flush=True)
        if options.no_rewrap:
            if options.json:
                print(json.dumps({"key": key, "job": None}, indent=2))
            return EXIT_OK
        try:
            job, failures = await carried_out(keys, REWRAP, options.session, options)
        except ClientError:
            what = "the key is registered; what was sealed before is not wrapped for it yet"
            note("keys rotate", f"{what}: storage-gateway keys rewrap")
            raise
    if options.json:
        print(json.dumps({"key": key, "job": job | {"failures": failures}}, indent=2))
    else:
        print("\n".join(report(job, failures)))
    return status_of(job)


async def _registered(keys: KeyClient, options: argparse.Namespace) -> Document:
    wish = {"party": options.party}
    if options.miner is not None:
        wish["miner"] = options.miner
    if options.identity is None:
        return await keys.register(options.session, wish | {"recipient": options.recipient})
    identity = _only(read_identities(options.identity))
    wish["recipient"] = str(identity.recipient())
    challenge = await keys.challenge(options.session, wish)
    return await keys.register(options.session, wish | {"answer": _answer(challenge, identity)})


def _only(identities: list[Identity]) -> Identity:
    if len(identities) != 1:
        raise ClientError(
            {
                "code": "ambiguous_identity",
                "detail": f"the file has {len(identities)} identities, and one is to be registered",
                "remedy": "Give a file with the new identity alone.",
            }
        )
    return identities[0]


def _answer(challenge: str, identity: Identity) -> str:
    try:
        return open_file(base64.b64decode(challenge, validate=True), [identity]).decode("ascii")
    except ValueError:  # of base64, or of what was opened
        raise HeaderError("what the gateway sent is no challenge") from None


async def _state(options: argparse.Namespace, token: str) -> int:
    wish: Document = {"version": options.number, "state": options.state, "urgent": options.urgent}
    if not options.router:
        wish["party"] = options.party
    if options.miner is not None:
        wish["miner"] = options.miner
    async with Client(options.url, token) as client:
        key = await KeyClient(client).change_state(options.session, wish)
    print(json.dumps(key, indent=2) if options.json else _line_of(key))
    return EXIT_OK


def _line_of(key: Document) -> str:
    whose = key["miner"] or key["party"]
    return f"{whose}: version {key['version']} is {key['state']}, {key['proof']}"
