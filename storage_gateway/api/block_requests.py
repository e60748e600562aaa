"""What a request for a block asks for: format, scope and bytes, as the IPFS specifications say.

Source: specs.ipfs.tech/http-gateways, path-gateway and trustless-gateway of 2026-03-05.
"""

import enum
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from aiohttp import hdrs, web

from storage_gateway.block_errors import FormatNotServed, RangeNotSatisfiable
from storage_gateway.blocks import Span
from storage_gateway.errors import InvalidRequest

RAW_TYPE = "application/vnd.ipld.raw"
CAR_TYPE = "application/vnd.ipld.car"
FILENAME_LENGTH_MAX = 255

_SCOPES = frozenset({"all", "entity", "block"})
_VARIANTS: Mapping[str, frozenset[str]] = {
    "version": frozenset({"", "1"}),
    "order": frozenset({"", "dfs", "unk"}),
    "dups": frozenset({"", "y", "n"}),
}
"""What an archive may be asked to be like; empty is as we like it. Of depth first, which is always
sent, unknown order is no contradiction.
"""
_LOCATED = ("dag-scope", "entity-bytes", "filename", "download")
_ENTITY_BYTES = re.compile(r"(-?[0-9]{1,18}):(\*|-?[0-9]{1,18})", re.ASCII)
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.ASCII)
_NOT_PRINTED = re.compile(r'[^ -~]|["\\]', re.ASCII)


class Format(enum.StrEnum):
    """In which form blocks are served."""

    RAW = "raw"
    CAR = "car"


_TYPES = {RAW_TYPE: Format.RAW, CAR_TYPE: Format.CAR}


@dataclass(frozen=True, slots=True)
class EntityBytes:
    """Bytes of a file: from one on up to another one, or its end; negative ones count from it."""

    first: int
    last: int | None

    def of(self, size: int) -> Span | None:
        """Return what that is of a file of so many bytes, None where it is nothing.

        Raises:
            InvalidRequest: it is all before the file's beginning, or behind its end.

        """
        first = self.first + size if self.first < 0 else self.first
        last = size - 1 if self.last is None else self.last
        last = last + size if last < 0 else last
        if first >= size or last < 0:
            raise InvalidRequest(f"entity-bytes: the file has {size} bytes, none of them is there")
        first, last = max(0, first), min(size - 1, last)
        return Span(first, last) if first <= last else None

    def __str__(self) -> str:
        return f"{self.first}:{'*' if self.last is None else self.last}"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be sent of a CID."""

    format: Format
    scope: str
    entity_bytes: EntityBytes | None
    again: bool
    """Blocks that are alike, each of them."""
    query: str | None
    """That of the URL by which the same is asked for without Accept, unless it was asked for so."""
    filename: str | None

    def etag(self, cid: str) -> str:
        """Return what names these bytes, which are the same each time."""
        if self.format is Format.RAW:
            return f'"{cid}.raw"'
        scope = self.scope if self.entity_bytes is None else f"entity.{self.entity_bytes}"
        return f'"{scope}.dups-{"y" if self.again else "n"}.{cid}.car"'

    @property
    def content_type(self) -> str:
        """The media type with all that is known of it."""
        if self.format is Format.RAW:
            return RAW_TYPE
        return f"{CAR_TYPE}; version=1; order=dfs; dups={'y' if self.again else 'n'}"

    def disposition(self, cid: str) -> str:
        """Return how it is to be saved; a name that was asked for is made harmless."""
        if self.filename is None:
            return f'attachment; filename="{cid}.{"bin" if self.format is Format.RAW else "car"}"'
        plain = _NOT_PRINTED.sub("_", self.filename)
        shown = f'attachment; filename="{plain}"'
        if plain == self.filename:
            return shown
        return f"{shown}; filename*=UTF-8''{quote(self.filename, safe='', errors='replace')}"


def asked_of(request: web.Request) -> Asked:
    """Read what is asked for; the URL's ``format`` counts more than Accept.

    Raises:
        InvalidRequest: no format is named, or a parameter is malformed.
        FormatNotServed: none of those that are named is served.

    """
    query = request.query
    header = ", ".join(request.headers.getall(hdrs.ACCEPT, []))
    accepted = list(_served(header))
    named = query.get("format")
    if named is None:
        if not header:
            raise InvalidRequest("no format is asked for: send Accept, or ?format=raw or car")
        if not accepted:
            raise FormatNotServed("Accept names no format in which blocks are served")
        chosen, variant = accepted[0]
    else:
        if named not in set(Format):
            raise FormatNotServed("the format in the URL is not served")
        chosen = Format(named)
        variant = next((found for kind, found in accepted if kind is chosen), {})
    in_url = {name: query[f"car-{name}"] for name in _VARIANTS if f"car-{name}" in query}
    if chosen is Format.RAW:
        in_url = variant = {}
    elif not _is_served(in_url):
        raise FormatNotServed("an archive of this version, order or dups is not served")
    contradicted = any(in_url.get(name, value) != value for name, value in variant.items())
    agrees = named is not None and not contradicted
    if agrees and (not accepted or accepted[0][0] is chosen):
        location = None
    else:
        location = _query_of(request, chosen, variant | in_url)
    entity_bytes, scope = _scope_of(query) if chosen is Format.CAR else (None, "all")
    return Asked(
        format=chosen,
        scope=scope,
        entity_bytes=entity_bytes,
        again=(variant | in_url).get("dups") == "y",
        query=location,
        filename=_filename_of(query),
    )


def range_of(header: str | None, size: int) -> Span | None:
    """Return the bytes that a Range header asks for, None where it asks for none that is served.

    One range is; several, and what is malformed, are ignored, as RFC 9110 (section 14.2) allows.

    Raises:
        RangeNotSatisfiable: it begins behind the end.

    """
    found = _RANGE.fullmatch((header or "").strip())
    if found is None or found.group(0).endswith("=-"):
        return None
    first, last = found.groups()
    if not first:
        span = Span(max(0, size - int(last)), size - 1)
    else:
        span = Span(int(first), min(int(last), size - 1) if last else size - 1)
        if last and int(last) < int(first):
            return None
    if span.first >= size:
        raise RangeNotSatisfiable(f"the block has {size} bytes", size=size)
    return span


def _served(accept: str) -> Iterator[tuple[Format, dict[str, str]]]:
    """Yield what of Accept can be sent, the best first; a wildcard asks for no block."""
    found: list[tuple[float, Format, dict[str, str]]] = []
    for part in accept.split(","):
        kind, *pieces = (piece.strip() for piece in part.split(";"))
        parameters = {}
        for piece in pieces:
            name, _, value = piece.partition("=")
            parameters[name.strip().lower()] = value.strip().strip('"').lower()
        served = _TYPES.get(kind.lower())
        quality = _quality(parameters.get("q", "1"))
        if served is not None and quality > 0:
            car = served is Format.CAR
            variant = {name: parameters[name] for name in _VARIANTS if car and name in parameters}
            if _is_served(variant):
                found.append((quality, served, variant))
    found.sort(key=lambda each: -each[0])  # of those alike the first stays first
    yield from ((kind, variant) for _, kind, variant in found)


def _quality(text: str) -> float:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 0.0


def _is_served(variant: Mapping[str, str]) -> bool:
    return all(value in _VARIANTS[name] for name, value in variant.items())


def _scope_of(query: Mapping[str, str]) -> tuple[EntityBytes | None, str]:
    scope = query.get("dag-scope", "all")
    if scope not in _SCOPES:
        raise InvalidRequest("dag-scope must be block, entity or all")
    text = query.get("entity-bytes")
    if text is None:
        return None, scope
    found = _ENTITY_BYTES.fullmatch(text)
    if found is None:
        raise InvalidRequest("entity-bytes must be FROM:TO, two numbers, or FROM:*")
    first, last = int(found[1]), None if found[2] == "*" else int(found[2])
    if last is not None and first > last and (first < 0) == (last < 0):
        raise InvalidRequest("entity-bytes must not end before it begins")
    return EntityBytes(first, last), "entity"


def _filename_of(query: Mapping[str, str]) -> str | None:
    filename = query.get("filename") or None
    if filename is not None and len(filename) > FILENAME_LENGTH_MAX:
        raise InvalidRequest(f"filename must have at most {FILENAME_LENGTH_MAX} characters")
    return filename


def _query_of(request: web.Request, chosen: Format, variant: Mapping[str, str]) -> str:
    members = {"format": chosen.value}
    members |= {name: request.query[name] for name in _LOCATED if name in request.query}
    members |= {f"car-{name}": value for name, value in variant.items()}
    return urlencode(members, errors="replace")
