"""``put`` and ``get``: files up and down."""

import argparse
import asyncio
import json
import os
import re
import signal
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from crypto import Context, ContextError, CryptoError, Identity, Meta, MetaError
from storage_gateway.blind_client import BlindClient
from storage_gateway.client import Client, ClientError, Source, Target, read_token
from storage_gateway.config import is_loopback
from storage_gateway.errors import KeyDisabled, KeyNotYours, StaleKeyReader
from storage_gateway.records import BLIND, Slot
from urn import ObjectName, URNError, parse_name

from .blind import SealingSource, sealed_head_for
from .exits import EXIT_INTERRUPTED, Failure
from .keys import all_recipients
from .offline import open_stream, read_identities
from .output import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_USAGE,
    fail,
    input_file,
    is_stdout,
    note,
    output_file,
    progress,
)

_OTHER_KEY = frozenset({StaleKeyReader.code, KeyDisabled.code, KeyNotYours.code})
"""Of these another identity may do."""
_WORD = re.compile(r"[!-~]+")

Work = Callable[[argparse.Namespace, str], Coroutine[None, None, int]]


def put(options: argparse.Namespace) -> int:
    """Upload one file; print its URN, or the whole answer as JSON."""
    try:
        Meta(options.content_type)
    except MetaError as error:
        fail("put", f"--content-type: {error}")
        return EXIT_USAGE
    # A thread that waits for a pipe cannot be called back, and an event loop waits for its threads.
    # Nothing is to be cleared away here; what a gateway has of a broken upload it settles itself.
    before = signal.signal(signal.SIGINT, lambda *_: os._exit(EXIT_INTERRUPTED))
    try:
        return talk("put", options, _put)
    finally:
        signal.signal(signal.SIGINT, before)


def get(options: argparse.Namespace) -> int:
    """Fetch one object."""
    if options.json and is_stdout(options.output):
        fail("get", "--json needs -o FILE: stdout cannot carry both")
        return EXIT_USAGE
    return talk("get", options, _get)


def talk(name: str, options: argparse.Namespace, work: Work) -> int:
    """Do a command's work with the gateway and the token that were given; return its status."""
    if not options.url:
        fail(name, "no gateway: give --url, or set GATEWAY_URL")
        return EXIT_USAGE
    if not (options.plain_http or _keeps_the_token(options.url)):
        fail(name, f"{options.url} would send the token in clear: use https, or --plain-http")
        return EXIT_USAGE
    try:
        token = _token_of(options.token_file)
        if token is None:
            fail(name, "no token: give --token-file, or set GATEWAY_TOKEN")
            return EXIT_USAGE
        if not _WORD.fullmatch(token):
            fail(name, "what was given as the token is none: it must be one word")
            return EXIT_FAILED
        return asyncio.run(work(options, token))
    except ClientError as error:
        urn = error.problem.get("urn")
        fail(name, f"{error} [{error.code}]" + (f"\n  urn: {urn}" if urn else ""))
        return EXIT_FAILED
    except aiohttp.ClientError as error:
        fail(name, f"cannot talk to {options.url}: {error}")
        return EXIT_FAILED
    except (CryptoError, Failure, OSError, UnicodeDecodeError, URNError) as error:
        fail(name, error)
        return EXIT_FAILED


def _keeps_the_token(url: str) -> bool:
    """Tell whether a token sent there crosses no network in clear."""
    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


def _token_of(path: Path | None) -> str | None:
    if path is not None:
        return read_token(path)
    return os.environ.get("GATEWAY_TOKEN")


async def _put(options: argparse.Namespace, token: str) -> int:
    known = None if options.recipients_file is None else all_recipients([], options.recipients_file)
    filename = None if options.file == "-" else Path(options.file).name
    direction = "output" if options.output else "input"
    with (
        input_file(options.file) as source,
        progress(source.size, "put", quiet=options.quiet) as advance,
    ):
        async with Client(options.url, token) as client:
            # Asked first: where custody is blind nothing in clear may even be offered.
            blind = BlindClient(client)
            session = await blind.session(options.session)
            what: dict[str, Any] = {
                "content_type": "application/age" if options.sealed else options.content_type,
                "filename": filename,
                "miner": options.miner,
            }
            sealed: Source = source
            if session["custody"] == BLIND:
                if options.sealed:
                    fail("put", "the session's custody is blind: give the file unsealed, put seals")
                    return EXIT_USAGE
                reservation = await blind.reserve(options.session, options.task, direction)
                meta = Meta(options.content_type, filename)
                slot = Slot(options.session, options.task, direction, options.miner)
                sealed = SealingSource(source, sealed_head_for(reservation, slot, meta, known))
                what = {"content_type": "application/age", "reservation": reservation["urn"]}
            elif known is not None:
                fail("put", "the gateway seals for this session: -R is for blind custody")
                return EXIT_USAGE
            answer = await client.upload(
                options.session,
                options.task,
                direction,
                sealed,
                **what,
                lifetime_s=options.lifetime,
                on_bytes=advance,
                on_pending=lambda document: _say_pending(document, quiet=options.quiet),
            )
    print(json.dumps(answer, indent=2) if options.json else answer["urn"])
    return EXIT_OK


def _say_pending(document: dict[str, Any], *, quiet: bool) -> None:
    if not quiet:
        until = f"by {document['decided_by']} it is committed or failed"
        what = "an earlier upload holds the slot" if document.get("earlier") else "all is sent"
        note("put", f"{what}; waiting until enough stores have it: {until}")


def _context_of(urn: str, manifest: dict[str, Any]) -> Context:
    """Return what the head of this very object must say; the id is the name's, not the answer's.

    A file of another object, sealed for the same parties, opens as well: its context alone tells.
    """
    name = parse_name(urn)
    if not isinstance(name, ObjectName):
        raise ContextError(f"{urn} does not name an object of a gateway")
    return Context(
        object_id=name.object_id,
        payload_id=manifest["payload_id"],
        session_id=manifest["session_id"],
        task_id=manifest["task_id"],
        direction=manifest["direction"],
        miner=manifest["miner"],
        key_class=manifest["key_class"],
    )


async def _get(options: argparse.Namespace, token: str) -> int:
    async with Client(options.url, token) as client:
        manifest = await client.manifest(options.urn)
        size = manifest["size" if options.plaintext else "sealed_size"]
        with (
            output_file(options.output) as target,
            progress(size, "get", quiet=options.quiet) as advance,
        ):
            if options.identity is None:
                written = await client.download(
                    options.urn, target, plaintext=options.plaintext, on_bytes=advance
                )
            else:
                identities = read_identities(options.identity)
                context = _context_of(options.urn, manifest)
                # Ciphertext may touch a disk; plaintext goes to where it was asked for alone.
                with tempfile.TemporaryFile() as sealed:
                    await _sealed_for(client, options.urn, sealed, identities, advance)
                    sealed.seek(0)
                    _, written = open_stream(
                        sealed, target, identities, lambda _count: None, context
                    )
    if options.json:
        print(json.dumps({"urn": options.urn, "size": written, "file": str(options.output)}))
    return EXIT_OK


async def _sealed_for(
    client: Client,
    urn: str,
    target: Target,
    identities: Sequence[Identity],
    advance: Callable[[int], None],
) -> None:
    """Fetch a sealed file that one of the identities opens.

    The gateway tells which version it is sealed for before a byte of it is sent. An identity of
    another party may open it as well, of which the gateway cannot tell.
    """
    refused = None
    for identity in identities:
        held = str(identity.recipient())
        try:
            await client.download(urn, target, held=held, on_bytes=advance)
        except ClientError as error:
            if error.code not in _OTHER_KEY:
                raise
            if error.code != KeyNotYours.code:
                refused = refused or error
        else:
            return
    if refused is not None:
        raise refused
    await client.download(urn, target, on_bytes=advance)
