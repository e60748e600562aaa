"""``keygen`` and ``open``: what works without any gateway."""

import argparse
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from crypto import (
    Context,
    CryptoError,
    Identity,
    OpenedHead,
    X25519Identity,
    format_identity_file,
    open_head,
    parse_identities,
    scan_head,
)
from storage_gateway.client import Source, Target
from storage_gateway.custody import write_secret

from .output import EXIT_FAILED, EXIT_OK, EXIT_USAGE, fail, input_file, output_file, progress

PIECE_SIZE = 1 << 20


def keygen(options: argparse.Namespace) -> int:
    """Make an identity; a file that exists is never overwritten."""
    identity = X25519Identity.generate()
    recipient = str(identity.recipient())
    text = format_identity_file(identity, datetime.now(UTC))
    if options.output is None:
        if options.json:
            fail("keygen", "--json needs -o FILE: an identity does not belong into a report")
            return EXIT_USAGE
        sys.stdout.write(text)
    else:
        try:
            write_secret(options.output, text)
        except FileExistsError:
            fail("keygen", f"{options.output} exists; choose another name or move it away")
            return EXIT_FAILED
        except OSError as error:
            fail("keygen", f"{options.output}: {error.strerror}")
            return EXIT_FAILED
    if options.json:
        print(json.dumps({"recipient": recipient, "identity_file": str(options.output)}))
    elif options.output is not None or not sys.stdout.isatty():
        print(f"Public key: {recipient}", file=sys.stderr)
    return EXIT_OK


def read_identities(path: Path) -> list[Identity]:
    """Return the identities in a file.

    Raises:
        CryptoError, OSError: it cannot be read.

    """
    return parse_identities(path.read_text(encoding="utf-8"))


def open_file(options: argparse.Namespace) -> int:
    """Open an age file; the output appears only when every chunk was verified (with ``-o``)."""
    if options.json and options.output is None:
        fail("open", "--json needs -o FILE: stdout cannot carry both")
        return EXIT_USAGE
    try:
        identities = read_identities(options.identity)
        with (
            input_file(options.file) as (source, size),
            output_file(options.output) as target,
            progress(size, "open", quiet=False) as advance,
        ):
            opened, written = open_stream(source, target, identities, advance)
    except (CryptoError, OSError, UnicodeDecodeError) as error:
        fail("open", f"{options.file}: {error}")
        return EXIT_FAILED
    if options.json:
        meta = opened.meta()
        report = {
            "size": written,
            "content_type": meta.content_type if meta else None,
            "filename": meta.filename if meta else None,
        }
        print(json.dumps(report))
    return EXIT_OK


def open_stream(
    source: Source,
    target: Target,
    identities: list[Identity],
    on_bytes: Callable[[int], object],
    context: Context | None = None,
) -> tuple[OpenedHead, int]:
    """Open an age file from one stream into another; return its head and the plaintext size.

    With a ``context`` the file must be that object's own.

    Raises:
        CryptoError: it does not open; only verified plaintext was written.

    """
    buffer = bytearray()
    while (head_size := scan_head(buffer)) is None:
        piece = source.read(PIECE_SIZE)
        on_bytes(len(piece))
        buffer += piece
        if not piece:
            head_size = scan_head(buffer, at_end=True)
            break
    opened = open_head(bytes(buffer[:head_size]), identities)
    if context is not None:
        opened.check_context(context)
    opener = opened.opener()
    piece = bytes(buffer[head_size:])
    written = 0
    while True:
        plaintext = opener.update(piece)
        target.write(plaintext)
        written += len(plaintext)
        piece = source.read(PIECE_SIZE)
        on_bytes(len(piece))
        if not piece:
            break
    plaintext = opener.finish()
    target.write(plaintext)
    return opened, written + len(plaintext)
