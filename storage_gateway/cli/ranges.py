"""``open --range``: a part of a plaintext, out of a file that is read only where it must be."""

import argparse
import re
from dataclasses import dataclass

from crypto import LEAF_PLAINTEXT_SIZE, OpenedHead, RangeOpener

from .exits import UsageFault
from .streams import Source, Writer

_RANGE = re.compile(r"([0-9]{1,18})-([0-9]{1,18})?")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes `start` up to and with `last`, counted from 0; without `last` up to the end."""

    start: int
    last: int | None


def parse_range(text: str) -> ByteRange:
    """Return the range that START-END or START- says, as in an HTTP Range header.

    Raises argparse.ArgumentTypeError.
    """
    match = _RANGE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError("expected START-END or START-, counted from 0")
    start, last = int(match[1]), None if match[2] is None else int(match[2])
    if last is not None and last < start:
        raise argparse.ArgumentTypeError(f"{last}, the end, is before {start}, the start")
    return ByteRange(start, last)


def open_range(
    opened: OpenedHead, source: Source, payload_start: int, target: Writer, wanted: ByteRange
) -> int:
    """Open a range of the payload that begins at `payload_start`; return its plaintext size.

    Reads the last chunk, and those that cover the range, a leaf at a time.

    Raises PayloadError, Failure, UsageFault for a pipe and for a range that begins past the end.
    """
    if source.size is None:
        raise UsageFault("--range needs a file that can be read at any place, not a pipe")

    def read(offset: int, size: int) -> bytes:
        return source.read_at(payload_start + offset, size)

    opener = RangeOpener(opened.opener(), read, source.size - payload_start)
    end = opener.size if wanted.last is None else min(wanted.last + 1, opener.size)
    if wanted.start >= end:
        raise UsageFault(f"--range begins at {wanted.start}, the plaintext ends at {opener.size}")
    position = wanted.start
    while position < end:
        stop = min(end, (position // LEAF_PLAINTEXT_SIZE + 1) * LEAF_PLAINTEXT_SIZE)
        target.write(opener.open_range(position, stop))
        position = stop
    return end - wanted.start
