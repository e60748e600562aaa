"""RFC 8141 URN syntax: parse, format, compare.

Pure text handling. Knows nothing of the names this project mints, resolves nothing, and never
repairs its input: what the grammar does not allow is refused with the position of the fault.
"""

from dataclasses import dataclass
from typing import Final

URN_LENGTH_MAX: Final = 2048

_SCHEME: Final = "urn:"
_NID_LENGTH_MIN: Final = 2
_NID_LENGTH_MAX: Final = 32

# Explicit ASCII sets: str.isalnum and friends also accept characters outside RFC 3986.
_DIGITS: Final = frozenset("0123456789")
_LETTERS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_HEX_DIGITS: Final = _DIGITS | frozenset("ABCDEFabcdef")
_ALPHANUMERIC: Final = _DIGITS | _LETTERS
_LDH: Final = _ALPHANUMERIC | {"-"}
# pchar without pct-encoded, which is checked apart (RFC 3986 section 3.3).
_PCHAR: Final = _ALPHANUMERIC | frozenset("-._~!$&'()*+,;=:@")
_NSS_REST: Final = _PCHAR | {"/"}
_COMPONENT_REST: Final = _PCHAR | frozenset("/?")


class URNError(ValueError):
    """Text that is not a URN: `reason` says what was expected at `position`.

    `position` is the 0-based index, in characters, of the first fault: some URN begins with the
    text before it, and none with the text up to the end of what stands there (one character, one
    percent-encoding, or a whole component). It is the length of the text when something is missing
    at its end. `reason` shows at most one character of the text, escaped to ASCII.
    """

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(reason, position)
        self.reason = reason
        self.position = position

    def __str__(self) -> str:
        return f"not a valid URN at position {self.position}: {self.reason}"


@dataclass(frozen=True, slots=True)
class URN:
    """The parts of a URN, as written (RFC 8141 section 2). Two URNs are == when spelled alike.

    `None` means that a component is absent. An empty f-component is allowed and is not the same as
    none; empty r- and q-components are not allowed. Raises `URNError` for parts that no URN can
    have, with the position of the fault in the URN that these parts would make.
    """

    nid: str
    nss: str
    r: str | None = None
    q: str | None = None
    f: str | None = None

    def __post_init__(self) -> None:
        position = len(_SCHEME)
        _check_nid(self.nid, position)
        position += len(self.nid) + len(":")
        _check_part(self.nss, position, _PCHAR, _NSS_REST, "the NSS")
        position += len(self.nss)
        if self.r is not None:
            position += len("?+")
            _check_part(self.r, position, _PCHAR, _COMPONENT_REST, "the r-component")
            if "?=" in self.r:
                fault = position + self.r.index("?=")
                raise URNError("'?=' ends the r-component and cannot be part of it", fault)
            position += len(self.r)
        if self.q is not None:
            position += len("?=")
            _check_part(self.q, position, _PCHAR, _COMPONENT_REST, "the q-component")
            position += len(self.q)
        if self.f is not None:
            position += len("#")
            _check_characters(self.f, position, _COMPONENT_REST, "the f-component")
        _check_length(str(self))

    def __str__(self) -> str:
        return (
            f"{_SCHEME}{self.nid}:{self.nss}"
            + ("" if self.r is None else f"?+{self.r}")
            + ("" if self.q is None else f"?={self.q}")
            + ("" if self.f is None else f"#{self.f}")
        )

    @property
    def canonical(self) -> str:
        """The assigned name in the one spelling that all equivalent URNs share.

        RFC 8141 section 3.1: scheme and NID in lower case, hex digits of percent-encodings in upper
        case, components left out. Percent-encodings are never decoded.
        """
        return f"{_SCHEME}{self.nid.lower()}:{_upper_percent_encodings(self.nss)}"


def parse(text: str) -> URN:
    """Parse a URN by the grammar of RFC 8141 section 2.

    Raises `URNError` for anything else. Text of more than `URN_LENGTH_MAX` characters is refused
    for its length before anything else is looked at, so that hostile text costs nothing.
    """
    _check_length(text)
    for index, expected in enumerate(_SCHEME):
        if text[index : index + 1].lower() != expected:
            raise URNError(f"expected the scheme '{_SCHEME}'", index)
    nid, colon, rest = text[len(_SCHEME) :].partition(":")
    if not colon:
        _check_nid(nid, len(_SCHEME))
        raise URNError("expected ':' and an NSS after the NID", len(text))
    rest, f = _split(rest, "#")
    # r comes before q, so the first "?=" ends the r-component; a "?+" after it belongs to q.
    rest, q = _split(rest, "?=")
    nss, r = _split(rest, "?+")
    return URN(nid, nss, r, q, f)


def format(urn: URN) -> str:  # noqa: A001 - the pair of parse; modules are read as urn.format
    """Write a URN as text, spelled as its parts are; `parse` gives back an equal value."""
    return str(urn)


def equivalent(a: str | URN, b: str | URN) -> bool:
    """Whether two URNs name the same resource by spelling alone (RFC 8141 section 3.1).

    Scheme, NID and percent-encoding hex digits compare without case, all else exactly;
    r-, q- and f-components are ignored. Raises `URNError` when given text that is not a URN.
    """
    return _parsed(a).canonical == _parsed(b).canonical


def _parsed(urn: str | URN) -> URN:
    return parse(urn) if isinstance(urn, str) else urn


def _split(text: str, mark: str) -> tuple[str, str | None]:
    head, found, tail = text.partition(mark)
    return head, tail if found else None


def _check_length(text: str) -> None:
    if len(text) > URN_LENGTH_MAX:
        reason = f"expected at most {URN_LENGTH_MAX} characters, there are {len(text)}"
        raise URNError(reason, URN_LENGTH_MAX)


def _check_nid(nid: str, position: int) -> None:
    # One look from left to right: of several faults the first is the one told.
    for index, character in enumerate(nid):
        if index == _NID_LENGTH_MAX:
            reason = f"expected an NID of at most {_NID_LENGTH_MAX} characters"
            raise URNError(reason, position + index)
        if character not in _LDH:
            reason = f"expected a letter, digit or '-' in the NID, found {character!a}"
            raise URNError(reason, position + index)
        if character == "-" and index == 0:
            raise URNError("an NID cannot begin with '-'", position)
    if len(nid) < _NID_LENGTH_MIN:
        reason = f"expected an NID of at least {_NID_LENGTH_MIN} characters"
        raise URNError(reason, position + len(nid))
    if nid.endswith("-"):
        raise URNError("an NID cannot end with '-'", position + len(nid) - 1)


def _check_part(
    part: str, position: int, first: frozenset[str], rest: frozenset[str], name: str
) -> None:
    if not part:
        raise URNError(f"expected at least one character in {name}", position)
    if part[0] != "%" and part[0] not in first:
        raise URNError(f"{name} cannot begin with {part[0]!a}", position)
    _check_characters(part, position, rest, name)


def _check_characters(part: str, position: int, allowed: frozenset[str], name: str) -> None:
    index = 0
    while index < len(part):
        character = part[index]
        if character == "%":
            hex_digits = part[index + 1 : index + 3]
            if len(hex_digits) < len("FF") or not _HEX_DIGITS.issuperset(hex_digits):
                reason = f"expected two hex digits after '%' in {name}"
                raise URNError(reason, position + index)
            index += len("%FF")
        elif character in allowed:
            index += 1
        else:
            reason = f"{character!a} is not allowed in {name}; percent-encode it"
            raise URNError(reason, position + index)


def _upper_percent_encodings(part: str) -> str:
    head, *encoded = part.split("%")
    return head + "".join(f"%{piece[:2].upper()}{piece[2:]}" for piece in encoded)
