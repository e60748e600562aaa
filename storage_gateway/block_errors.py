"""Errors of requests for blocks by their CID; their statuses are those of the specification."""

from .errors import NotFound, RequestError


class InvalidCID(RequestError):
    """The path names no CID of the kinds that blocks of payloads have."""

    code = "invalid_cid"
    title = "Invalid CID"
    remedy = "Send a CIDv1 in lower-case base32, of codec raw or dag-pb, with a SHA-256 multihash."


class FormatNotServed(RequestError):
    """A block was asked for in no format in which blocks are served."""

    code = "format_not_served"
    status = 406
    title = "Format not served"
    remedy = "Ask for application/vnd.ipld.raw or application/vnd.ipld.car, or ?format=raw or car."


class UnknownBlock(NotFound):
    """No payload of this gateway has a block of that CID, or the block has no such path."""

    code = "unknown_block"
    title = "Unknown block"
    remedy = "Ask another provider of the CID: this gateway fetches nothing from others."


class NotCached(RequestError):
    """``Cache-Control: only-if-cached`` for a block that is not here."""

    code = "not_cached"
    status = 412
    title = "Not cached"
    remedy = UnknownBlock.remedy


class RangeNotSatisfiable(RequestError):
    """The range begins behind the end."""

    code = "range_not_satisfiable"
    status = 416
    title = "Range not satisfiable"
    remedy = "Ask for bytes below 'size'."
