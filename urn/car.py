"""Content addressable archives, version 1: written piece by piece, read strictly and verified.

Source: ipld.io/specs/transport/car/carv1. A header with the roots, then sections: a length, a CID,
the bytes of the block. Only CIDs of our profile occur (`urn.cid`), and each number and the header
have one encoding. Pure: takes pieces of bytes as they come, and holds at most one block.
"""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Final

from urn.binary import NUMBER_SIZE_MAX, Fault, Reader, encode_number
from urn.cid import CID, CID_SIZE, CIDError

CAR_HEADER_MAX: Final = 8_192  # bytes, some 199 roots
CAR_BLOCK_MAX: Final = 2_097_152  # bytes, what IPFS nodes hand on at most

# dag-cbor: a map of two, its shorter key first; a CID is tag 42 and 37 bytes, the first of them 0.
_ROOTS: Final = b"\xa2\x65roots"
_ROOT: Final = b"\xd8\x2a\x58\x25\x00"
_VERSION: Final = b"\x67version\x01"
_ROOT_SIZE: Final = len(_ROOT) + CID_SIZE
_TAG_SIZE: Final = 2
_ROOTS_MAX: Final = 65_535
_ARRAY: Final = 0x80
_ARRAY_ONE_BYTE: Final = 24  # from here on the length stands in bytes of its own
_MORE: Final = 0x80


class CARError(ValueError):
    """Bytes that are not an archive of the profile: `reason` says what was expected.

    `position` is the 0-based index of the first fault, in bytes from the beginning of the archive.
    """

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(reason, position)
        self.reason = reason
        self.position = position

    def __str__(self) -> str:
        return f"not a CAR of this profile at position {self.position}: {self.reason}"


class CARTruncated(CARError):
    """An archive that is right as far as it goes, and ends too early."""


class CARForeignCID(CARError):
    """A CID that is none of our profile; other archives may hold it."""


class CARWrongBlock(CARError):
    """A block that is not what its CID says; `position` is that of the block's first byte."""


def car_header(roots: Sequence[CID]) -> bytes:
    """The beginning of an archive of these roots; raises `ValueError` unless 1 to 65,535."""
    header = _ROOTS + _array_head(len(roots))
    header += b"".join(_ROOT + root.bytes for root in roots) + _VERSION
    return encode_number(len(header)) + header


def car_section(cid: CID, size: int) -> bytes:
    """What stands before a block of `size` bytes; the block itself follows as it is."""
    return encode_number(CID_SIZE + size) + cid.bytes


def car_size(block_sizes: Iterable[int], *, roots: int = 1) -> int:
    """How many bytes an archive of blocks of these sizes takes, under so many roots."""
    header = len(_ROOTS) + len(_array_head(roots)) + roots * _ROOT_SIZE + len(_VERSION)
    sections = (CID_SIZE + size for size in block_sizes)
    return sum(len(encode_number(length)) + length for length in (header, *sections))


class CARReader:
    """Reads an archive from pieces of any size, and verifies each block before it hands it out.

    `for cid, block in reader.feed(piece)` for each piece, then `finish()`. Whether the roots are
    among the blocks, and what is below them, is for the caller to see; blocks may come twice. Holds
    one section at most (the block once more while it is handed out) besides the piece. After an
    error each call raises that error again.
    """

    def __init__(self, *, header_max: int = CAR_HEADER_MAX, block_max: int = CAR_BLOCK_MAX) -> None:
        self._header_max = header_max
        self._block_max = block_max
        self._piece = memoryview(b"")  # what was fed and not looked at yet
        self._held = (
            bytearray()
        )  # of what is being read: the length of a section, or the rest of it
        self._start = 0  # the position of that
        self._size: int | None = None  # of the rest of the section, once its length was read
        self._cid: CID | None = None  # of the section, once it is there
        self._roots: tuple[CID, ...] = ()
        self._found_block = False
        self._error: CARError | None = None

    @property
    def roots(self) -> tuple[CID, ...]:
        """The roots that the header names, one or more; empty until it is there."""
        return self._roots

    def feed(self, piece: bytes | bytearray | memoryview) -> Iterator[tuple[CID, bytes]]:
        """Read on, and yield each block that this piece completes.

        The iterator is to be run to its end before the next call, which raises `RuntimeError`
        otherwise, and the piece left unchanged until then. The iterator raises `CARError`, or one
        of its kinds, after all blocks that come before the fault, however the pieces are cut.
        """
        self._check()
        self._piece = memoryview(piece).cast("B")
        return self._blocks()

    def finish(self) -> None:
        """Make sure that the archive may end here; raises `CARTruncated` when it may not."""
        self._check()
        end = self._start + len(self._held)
        if self._size is not None:
            reason = f"expected {self._size - len(self._held)} bytes more of a section"
        elif self._held or not self._roots:
            reason = "expected the length of a section"
        elif not self._found_block:
            reason = "expected one block or more"
        else:
            return
        self._error = CARTruncated(reason, end)
        raise self._error

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self._piece:
            raise RuntimeError("not all blocks of the piece before were taken")

    def _blocks(self) -> Iterator[tuple[CID, bytes]]:
        while self._piece:
            try:
                found = self._step()
            except CARError as error:
                self._error, self._piece = error, memoryview(b"")
                self._held.clear()
                raise
            if found is not None:
                yield found
        self._piece = memoryview(b"")  # lets go of the piece, which even an empty view of it holds

    def _step(self) -> tuple[CID, bytes] | None:
        if self._size is not None:
            return self._read_section(self._size)
        self._read_length()
        return None

    def _take(self, size: int) -> None:
        self._held += self._piece[:size]
        self._piece = self._piece[size:]

    def _restart(self, size: int | None) -> None:
        """Go on with what follows what is held."""
        self._start += len(self._held)
        self._held = bytearray()
        self._size = size
        self._cid = None

    def _read_length(self) -> None:
        self._take(1)
        if self._held[-1] >= _MORE and len(self._held) < NUMBER_SIZE_MAX:
            return
        try:
            size = Reader(bytes(self._held), 0, len(self._held)).number("the length of a section")
        except Fault as fault:
            raise CARError(fault.reason, self._start + fault.position) from None
        size_max = CID_SIZE + self._block_max if self._roots else self._header_max
        if not 1 <= size <= size_max:
            raise CARError(
                f"expected a section of 1 to {size_max} bytes, found {size}", self._start
            )
        if self._roots and size < CID_SIZE:
            raise CARForeignCID(f"expected a CID of {CID_SIZE} bytes, found {size}", self._start)
        self._restart(size)

    def _read_section(self, size: int) -> tuple[CID, bytes] | None:
        if self._roots and self._cid is None:
            # Before the block, so that nothing is held for a CID that will not do.
            self._take(CID_SIZE - len(self._held))
            if len(self._held) < CID_SIZE:
                return None
            self._cid = _read_cid(bytes(self._held), self._start)
        self._take(size - len(self._held))
        if len(self._held) < size:
            return None
        if self._cid is None:
            self._roots = _read_header(bytes(self._held), self._start)
            self._restart(None)
            return None
        found = self._cid, bytes(memoryview(self._held)[CID_SIZE:])
        if sha256(found[1]).digest() != self._cid.digest:
            raise CARWrongBlock(f"expected the block of {self._cid}", self._start + CID_SIZE)
        self._found_block = True
        self._restart(None)
        return found


def _read_cid(binary: bytes, position: int) -> CID:
    try:
        return CID.from_bytes(binary)
    except CIDError as error:
        raise CARForeignCID(error.reason, position + error.position) from None


def _read_header(header: bytes, position: int) -> tuple[CID, ...]:
    """The roots that a header names; `position` is that of its first byte in the archive."""
    reader = Reader(header, 0, len(header))
    try:
        reader.literal(_ROOTS, "a map of roots and version, as in CARv1")
        roots = tuple(_read_root(reader, position) for _ in range(_read_array_head(reader)))
        reader.literal(_VERSION, "version 1")
        reader.end("the end of the header after its version")
    except Fault as fault:
        raise CARError(fault.reason, position + fault.position) from None
    return roots


def _read_root(reader: Reader, position: int) -> CID:
    reader.literal(_ROOT[:_TAG_SIZE], "a CID")
    binary = reader.at + len(_ROOT) - _TAG_SIZE
    if not reader.next_is(_ROOT[_TAG_SIZE:]):
        raise CARForeignCID(f"expected a CID of {CID_SIZE} bytes", position + reader.at)
    reader.literal(_ROOT[_TAG_SIZE:], "a CID")
    return _read_cid(reader.part(CID_SIZE, "a CID").rest(), position + binary)


def _array_head(length: int) -> bytes:
    """The first bytes of a dag-cbor array: as few as can be."""
    if not 1 <= length <= _ROOTS_MAX:
        raise ValueError(f"expected 1 to {_ROOTS_MAX} roots, got {length}")
    if length < _ARRAY_ONE_BYTE:
        return bytes([_ARRAY | length])
    size = 1 if length <= 0xFF else 2  # noqa: PLR2004 - what a byte holds
    return bytes([_ARRAY | _ARRAY_ONE_BYTE - 1 + size]) + length.to_bytes(size, "big")


def _read_array_head(reader: Reader) -> int:
    what = "an array of one root or more"
    first = reader.part(1, what).rest()[0]
    size = {_ARRAY | _ARRAY_ONE_BYTE: 1, _ARRAY | _ARRAY_ONE_BYTE + 1: 2}.get(first, 0)
    length = int.from_bytes(reader.part(size, what).rest(), "big") if size else first - _ARRAY
    start = reader.at - size - 1
    if not 1 <= length <= _ROOTS_MAX or _array_head(length)[:1] != bytes([first]):
        raise Fault(f"expected {what}", start)
    return length
