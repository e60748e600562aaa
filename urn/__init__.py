"""Names: RFC 8141 syntax, the names we mint and read, content identifiers.

Pure: does no I/O, reads no clock and no environment, draws no randomness, and never imports the
gateway or another kernel.
"""

from urn.cid import (
    CID,
    LEAF_SIZE,
    LINKS_MAX,
    CIDError,
    Codec,
    DAGBuilder,
    LeafError,
    cid_of,
    cid_of_leaves,
)
from urn.names import (
    ACCEPTED,
    OBJECT_ID_LENGTH,
    OBJECT_ID_SIZE,
    ForeignName,
    NameFormatError,
    ObjectName,
    mint,
    new_object_id,
    parse_name,
)
from urn.syntax import (
    URN,
    URN_LENGTH_MAX,
    URNError,
    equivalent,
    format,  # noqa: A004 - the pair of parse; modules are read as urn.format
    parse,
)

__all__ = [
    "ACCEPTED",
    "CID",
    "LEAF_SIZE",
    "LINKS_MAX",
    "OBJECT_ID_LENGTH",
    "OBJECT_ID_SIZE",
    "URN",
    "URN_LENGTH_MAX",
    "CIDError",
    "Codec",
    "DAGBuilder",
    "ForeignName",
    "LeafError",
    "NameFormatError",
    "ObjectName",
    "URNError",
    "cid_of",
    "cid_of_leaves",
    "equivalent",
    "format",
    "mint",
    "new_object_id",
    "parse",
    "parse_name",
]
