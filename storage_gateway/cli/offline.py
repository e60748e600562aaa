"""``keygen`` and ``open``: identities made and files opened without any gateway."""

import argparse
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from crypto import (
    Context,
    HeaderError,
    HybridIdentity,
    Identity,
    OpenedHead,
    X25519Identity,
    format_identity_file,
    open_head,
    opened_size,
)

from .exits import UsageFault, about
from .keys import all_identities, read_identities
from .output import EXIT_OK, is_stdout
from .ranges import open_range
from .streams import (
    PIECE_SIZE,
    Reader,
    Writer,
    one_stdin,
    read_head,
    run_offline,
    source_of,
    target_of,
)

__all__ = ["keygen", "open_file", "open_stream", "read_identities"]


def keygen(options: argparse.Namespace) -> int:
    """Make an identity; a file that exists is never overwritten."""
    return run_offline("keygen", _keygen, options)


def open_file(options: argparse.Namespace) -> int:
    """Open an age file; the output appears only when every chunk was verified (with ``-o``)."""
    return run_offline("open", _open, options)


def _keygen(options: argparse.Namespace) -> int:
    if options.json and is_stdout(options.output):
        raise UsageFault("--json needs -o FILE: an identity does not belong into a report")
    identity = HybridIdentity.generate() if options.pq else X25519Identity.generate()
    recipient = str(identity.recipient())
    text = format_identity_file(identity, datetime.now(UTC))
    with target_of(options.output, force=False) as target:
        target.write(text.encode())
        target.sync()
    if options.json:
        print(json.dumps({"recipient": recipient, "identity_file": str(options.output)}))
    elif not (is_stdout(options.output) and sys.stdout.isatty()):
        print(f"Public key: {recipient}", file=sys.stderr)
    return EXIT_OK


def _open(options: argparse.Namespace) -> int:
    if options.json and is_stdout(options.output):
        raise UsageFault("--json needs -o FILE: stdout cannot carry both")
    heads = [] if options.head is None else [options.head]
    one_stdin([options.file, *heads, *options.identity])
    identities = all_identities(options.identity)
    given = None if options.head is None else _head_of(options.head, identities)
    quiet = options.quiet or options.range is not None
    with (
        source_of(options.file, "open", quiet=quiet) as source,
        target_of(options.output, force=options.force) as target,
        about(source.name),
    ):
        opened, payload_start, rest = given or _read_opened(source, identities)
        # Looked at before anything is written: what cannot be told must not leave an output.
        report = _report_of(opened, 0) if options.json else {}
        if source.size is not None:
            # Where the length alone shows that something is missing, nothing is released first.
            opened_size(source.size - payload_start)
        if options.range is None:
            written = _open_payload(opened, rest, source, target, lambda _count: None)
        else:
            written = open_range(opened, source, payload_start, target, options.range)
    if options.json:
        print(json.dumps(report | {"size": written}))
    return EXIT_OK


def _head_of(name: str, identities: list[Identity]) -> tuple[OpenedHead, int, bytes]:
    """Return the head that a file is; where the payload begins in its own file, and none of it."""
    with source_of(name, "open", quiet=True) as source, about(source.name):
        opened, _, rest = _read_opened(source, identities)
        if rest:
            raise HeaderError("bytes follow the head; a whole file is opened without --head")
        return opened, 0, b""


def _read_opened(source: Reader, identities: list[Identity]) -> tuple[OpenedHead, int, bytes]:
    """Return a file's head, where its payload begins, and what was read of that."""
    head, rest = read_head(source)
    return open_head(head, identities), len(head), rest


def _report_of(opened: OpenedHead, written: int) -> dict[str, object]:
    meta = opened.meta()
    return {
        "size": written,
        "content_type": meta.content_type if meta else None,
        "filename": meta.filename if meta else None,
    }


def open_stream(
    source: Reader,
    target: Writer,
    identities: list[Identity],
    on_bytes: Callable[[int], object],
    context: Context | None = None,
) -> tuple[OpenedHead, int]:
    """Open an age file from one stream into another; return its head and the plaintext size.

    With a ``context`` the file must be that object's own.

    Raises:
        CryptoError: it does not open; only verified plaintext was written.

    """
    head, rest = read_head(source)
    on_bytes(len(head) + len(rest))
    opened = open_head(head, identities)
    if context is not None:
        opened.check_context(context)
    return opened, _open_payload(opened, rest, source, target, on_bytes)


def _open_payload(
    opened: OpenedHead,
    first: bytes,
    source: Reader,
    target: Writer,
    on_bytes: Callable[[int], object],
) -> int:
    """Open the payload that begins with `first`; return the plaintext size."""
    opener = opened.opener()
    written = 0
    piece = first or source.read(PIECE_SIZE)
    while piece:
        plaintext = opener.update(piece)
        target.write(plaintext)
        written += len(plaintext)
        piece = source.read(PIECE_SIZE)
        on_bytes(len(piece))
    plaintext = opener.finish()
    target.write(plaintext)
    return written + len(plaintext)
