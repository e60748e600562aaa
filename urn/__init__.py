"""Names: RFC 8141 syntax, the names we mint and read, content identifiers.

Pure: does no I/O, reads no clock and no environment, draws no randomness, and never imports the
gateway or another kernel.
"""

from urn.cid import CID, CIDError, Codec
from urn.dag import LEAF_SIZE, DAGBuilder, LeafError, cid_of, cid_of_leaves
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
from urn.node import LINKS_MAX, Entry, Link, NodeError, NodeType, encode_directory
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
    "Entry",
    "ForeignName",
    "LeafError",
    "Link",
    "NameFormatError",
    "NodeError",
    "NodeType",
    "ObjectName",
    "URNError",
    "cid_of",
    "cid_of_leaves",
    "encode_directory",
    "equivalent",
    "format",
    "mint",
    "new_object_id",
    "parse",
    "parse_name",
]
