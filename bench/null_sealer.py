"""A gateway that seals nothing, to measure what sealing costs: `python -m bench.null_sealer`.

All else is done as ever: it receives, cuts, hashes, tags, stores and records the same sizes. What
is left out is what hides the plaintext: ciphers, wraps, and opening. It lives here and nowhere in
what is shipped, takes a new folder only, and says on stderr what it is.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

from crypto import (
    CHUNK_SIZE,
    SEALED_CHUNK_SIZE,
    Context,
    Identity,
    Meta,
    Recipient,
    SealedHead,
    Sealer,
    new_head,
    sealed_size,
)
from storage_gateway import read, write
from storage_gateway.cli import run
from storage_gateway.leaves import Part
from storage_gateway.placing import Produce

EXIT_USAGE = 2
NO_TAG = bytes(SEALED_CHUNK_SIZE - CHUNK_SIZE)


def _not_sealing(_sealer: Sealer, part: Part) -> Produce:
    """Stand for `producing.sealing`: chunks in clear, with room where tags would be."""

    def produce() -> bytearray:
        out = bytearray(sealed_size(len(part.data)))
        source, target = memoryview(part.data), memoryview(out)
        for chunk in range(-(-len(out) // SEALED_CHUNK_SIZE)):
            piece = source[chunk * CHUNK_SIZE : (chunk + 1) * CHUNK_SIZE]
            start = chunk * SEALED_CHUNK_SIZE
            target[start : start + len(piece)] = piece
        return out

    return produce


class _Heads:
    """One real head, made once, stands for all of them: it is as long as they are."""

    def __init__(self) -> None:
        self._first: dict[int, SealedHead] = {}
        """By the number of recipients."""

    def new_head(
        self, recipients: Sequence[Recipient], *, context: Context, meta: Meta | None = None
    ) -> SealedHead:
        if len(recipients) not in self._first:
            self._first[len(recipients)] = new_head(recipients, context=context, meta=meta)
        first = self._first[len(recipients)]
        # The catalog wants each print to be new.
        return SealedHead(first.head, first.sealer, os.urandom(len(first.file_key_print)))


class _NotOpened:
    """Stands for an opened head and for its opener."""

    def check_context(self, _context: Context) -> None:
        pass

    def opener(self) -> "_NotOpened":
        return self

    def open_run_into(self, _first_chunk: int, sealed: bytes, out: bytearray, *, last: bool) -> int:
        del last
        source, target = memoryview(sealed), memoryview(out)
        for chunk in range(-(-len(source) // SEALED_CHUNK_SIZE)):
            piece = source[chunk * SEALED_CHUNK_SIZE : (chunk + 1) * SEALED_CHUNK_SIZE]
            start = chunk * CHUNK_SIZE
            target[start : start + len(piece) - len(NO_TAG)] = piece[: len(piece) - len(NO_TAG)]
        return len(out)


def _not_opening(_head: bytes, _identities: Sequence[Identity]) -> _NotOpened:
    return _NotOpened()


@contextmanager
def nothing_sealed() -> Iterator[None]:
    """Let nothing be sealed or opened here meanwhile; a step that has gone is an AttributeError."""
    heads = _Heads()
    with ExitStack() as stack:
        for module, names in (
            (write, {"sealing": _not_sealing, "new_head": heads.new_head}),
            (write, {"open_head": _not_opening}),
            (read, {"open_head": _not_opening}),
        ):
            stack.enter_context(patch.multiple(module, **names))
        yield


def main(arguments: Sequence[str]) -> int:
    """Serve until told to stop; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.null_sealer")
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--log-level", default="info")
    options = parser.parse_args(arguments)
    if options.data_dir.exists():
        parser.error(f"{options.data_dir} exists: what is there may be meant to be sealed")
    print("bench.null_sealer: NOTHING IS SEALED", file=sys.stderr, flush=True)
    with nothing_sealed():
        # One process: workers would be others, which seal.
        command = ["serve", "--data-dir", str(options.data_dir), "--workers", "1"]
        return run([*command, "--log-level", options.log_level])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
