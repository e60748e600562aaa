"""Names: RFC 8141 syntax, the names we mint and read; content identifiers, nodes, archives.

Pure: does no I/O, reads no clock and no environment, draws no randomness, and never imports the
gateway or another kernel.
"""

from urn.car import (
    CAR_BLOCK_MAX,
    CAR_HEADER_MAX,
    CARError,
    CARForeignCID,
    CARReader,
    CARTruncated,
    CARWrongBlock,
    car_header,
    car_section,
    car_size,
)
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
from urn.node import (
    LINKS_MAX,
    DirectoryNode,
    Entry,
    FileNode,
    Link,
    NodeError,
    encode_directory,
    parse_node,
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
    "CAR_BLOCK_MAX",
    "CAR_HEADER_MAX",
    "CID",
    "LEAF_SIZE",
    "LINKS_MAX",
    "OBJECT_ID_LENGTH",
    "OBJECT_ID_SIZE",
    "URN",
    "URN_LENGTH_MAX",
    "CARError",
    "CARForeignCID",
    "CARReader",
    "CARTruncated",
    "CARWrongBlock",
    "CIDError",
    "Codec",
    "DAGBuilder",
    "DirectoryNode",
    "Entry",
    "FileNode",
    "ForeignName",
    "LeafError",
    "Link",
    "NameFormatError",
    "NodeError",
    "ObjectName",
    "URNError",
    "car_header",
    "car_section",
    "car_size",
    "cid_of",
    "cid_of_leaves",
    "encode_directory",
    "equivalent",
    "format",
    "mint",
    "new_object_id",
    "parse",
    "parse_name",
    "parse_node",
]
