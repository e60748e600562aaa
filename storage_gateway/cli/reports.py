"""``inspect``, ``cid`` and ``urn parse``: what can be told without any key.

They show types and sizes, never a stanza's arguments or body.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256

from crypto import (
    LEAF_SIZE,
    NONCE_SIZE,
    SEALED_CHUNK_SIZE,
    SEGMENT_SIZE,
    STANZA_CONTEXT,
    STANZA_META,
    STANZA_SCRYPT,
    PayloadError,
    Stanza,
    opened_size,
    parse_header,
    stanza_class,
)
from urn import CID, DAGBuilder, NameFormatError, ObjectName, parse, parse_name

from .exits import EXIT_OK, Failure, about
from .streams import Source, pieces_of, read_head, run_offline, source_of

_ROLES = {STANZA_CONTEXT: "context", STANZA_META: "meta", STANZA_SCRYPT: "passphrase"}
_TYPE_LENGTH_MAX = 40


@dataclass(frozen=True, slots=True)
class StanzaReport:
    """What a stanza shows to anyone; sizes in bytes."""

    type: str
    role: str
    key_class: str | None
    argument_sizes: list[int]
    body_size: int


@dataclass(frozen=True, slots=True)
class FileReport:
    """What an age file shows to anyone; sizes in bytes.

    `head_size` counts header and nonce. Without a payload (a head alone) all that follows is None.
    `fault` says why the payload's length cannot be right.
    """

    key_class: str | None
    has_context: bool
    has_meta: bool
    header_size: int
    head_size: int
    stanzas: list[StanzaReport]
    payload_size: int | None
    plaintext_size: int | None
    chunks: int | None
    leaves: int | None
    segments: int | None
    cid: str | None
    fault: str | None


def inspect(options: argparse.Namespace) -> int:
    """Show what a sealed file shows to anyone."""
    return run_offline("inspect", _inspect, options)


def cid(options: argparse.Namespace) -> int:
    """Print the content identifier of a file's bytes."""
    return run_offline("cid", _cid, options)


def urn_parse(options: argparse.Namespace) -> int:
    """Show the parts of a URN, and what kind of name it is."""
    return run_offline("urn parse", _urn_parse, options)


def _inspect(options: argparse.Namespace) -> int:
    quiet = options.quiet or not options.cid
    with source_of(options.file, "inspect", quiet=quiet) as source, about(source.name):
        head, rest = read_head(source)
        payload_size, payload_cid = _payload_of(source, len(head), rest, with_cid=options.cid)
    report = _report_of(head, payload_size, payload_cid)
    if options.json:
        print(json.dumps(asdict(report), indent=2))
    else:
        _print_report(report)
    if report.fault is not None:
        raise Failure(source.name, PayloadError(report.fault))
    return EXIT_OK


def _payload_of(
    source: Source, head_size: int, rest: bytes, *, with_cid: bool
) -> tuple[int, str | None]:
    """Return the payload's size, and its CID when asked for; read it only where it must be."""
    if source.size is not None and not with_cid:
        return source.size - head_size, None
    if not with_cid:
        return sum(len(piece) for piece in pieces_of(source, LEAF_SIZE, rest)), None
    found, size = _cid_of(pieces_of(source, LEAF_SIZE, rest))
    return size, str(found) if size else None


def _cid_of(leaves: Iterator[bytes]) -> tuple[CID, int]:
    builder = DAGBuilder()
    size = 0
    for leaf in leaves:
        builder.add_leaf(sha256(leaf).digest(), len(leaf))
        size += len(leaf)
    return builder.finish(), size


def _report_of(head: bytes, payload_size: int, payload_cid: str | None) -> FileReport:
    stanzas = [_stanza_report(stanza) for stanza in parse_header(head[:-NONCE_SIZE]).stanzas]
    classes = {stanza.key_class for stanza in stanzas} - {None}
    plaintext_size, fault = None, None
    if payload_size:
        try:
            plaintext_size = opened_size(payload_size)
        except PayloadError as error:
            fault = str(error)
    present = payload_size > 0
    return FileReport(
        key_class="mixed" if len(classes) > 1 else next(iter(classes), None),
        has_context=any(stanza.role == "context" for stanza in stanzas),
        has_meta=any(stanza.role == "meta" for stanza in stanzas),
        header_size=len(head) - NONCE_SIZE,
        head_size=len(head),
        stanzas=stanzas,
        payload_size=payload_size if present else None,
        plaintext_size=plaintext_size,
        chunks=-(-payload_size // SEALED_CHUNK_SIZE) if present else None,
        leaves=-(-payload_size // LEAF_SIZE) if present else None,
        segments=-(-payload_size // SEGMENT_SIZE) if present else None,
        cid=payload_cid,
        fault=fault,
    )


def _stanza_report(stanza: Stanza) -> StanzaReport:
    key_class = stanza_class(stanza)
    role = "recipient" if key_class is not None else _ROLES.get(stanza.type, "foreign")
    sizes = [len(argument) for argument in stanza.args]
    return StanzaReport(stanza.type, role, key_class, sizes, len(stanza.body))


def _print_report(report: FileReport) -> None:
    print(f"{'stanza':<7} {'role':<10} {'class':<8} {'arguments':<14} {'body':>6}  type")
    for number, stanza in enumerate(report.stanzas, start=1):
        sizes = " ".join(str(size) for size in stanza.argument_sizes)
        kind = stanza.type[:_TYPE_LENGTH_MAX]
        print(
            f"{number:<7} {stanza.role:<10} {stanza.key_class or '-':<8} {sizes or '-':<14}"
            f" {stanza.body_size:>6}  {kind}"
        )
    print()
    rows = asdict(report)
    del rows["stanzas"]
    _print_rows(rows)


def _print_rows(rows: dict[str, object]) -> None:
    for label, value in rows.items():
        shown = "-" if value is None else str(value)
        if isinstance(value, bool):
            shown = "yes" if value else "no"
        elif isinstance(value, int):
            shown = f"{value:,}"
        print(f"{label.replace('_', ' '):<15} {shown}")


def _cid(options: argparse.Namespace) -> int:
    with source_of(options.file, "cid", quiet=options.quiet) as source, about(source.name):
        found, size = _cid_of(pieces_of(source, LEAF_SIZE))
    print(json.dumps({"cid": str(found), "size": size}) if options.json else found)
    return EXIT_OK


def _urn_parse(options: argparse.Namespace) -> int:
    with about("the text"):
        parts = parse(options.text)
    rows: dict[str, object] = {
        "nid": parts.nid,
        "nss": parts.nss,
        "r": parts.r,
        "q": parts.q,
        "f": parts.f,
        "canonical": parts.canonical,
    }
    fault: NameFormatError | None = None
    try:
        rows |= _name_rows(options.text)
    except NameFormatError as error:
        rows |= {"kind": None}
        fault = error
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        _print_rows(rows)
    if fault is not None:
        raise Failure("the text", fault)
    return EXIT_OK


def _name_rows(text: str) -> dict[str, object]:
    name = parse_name(text)
    kind = "object" if isinstance(name, ObjectName) else "foreign"
    # The name in our minted spelling: what a queue record or a catalog holds.
    return {"kind": kind, "name": name.urn, **asdict(name)}
