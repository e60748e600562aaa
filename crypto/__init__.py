"""Sealed envelopes: age v1 files cut into an erasable head and a payload that never changes.

Pure: bytes in, bytes out. No I/O, no clock, no environment, no logging; randomness is an argument.
The format, with all that a reader must refuse, is in docs/format.md.
"""

from __future__ import annotations

from crypto.context import Context, parse_context
from crypto.copies import CopySealer, recovery_identity
from crypto.envelope import Envelope, open_envelope, open_file, seal, seal_file
from crypto.errors import (
    ClassMismatch,
    ContextError,
    ContextMismatch,
    CopyError,
    CryptoError,
    EnvelopeError,
    HeaderError,
    HeaderMACError,
    HeaderSizeError,
    IdentityError,
    LeafMismatch,
    MetaError,
    NoIdentityMatch,
    PayloadError,
    PossessionError,
    RecipientError,
    SealerReuse,
    SelfCheckError,
    StanzaLimitError,
)
from crypto.geometry import (
    CHUNK_SIZE,
    FILE_KEY_SIZE,
    HEADER_SIZE_MAX,
    LEAF_CHUNKS,
    LEAF_PLAINTEXT_SIZE,
    LEAF_SIZE,
    NONCE_SIZE,
    SEALED_CHUNK_SIZE,
    SEGMENT_LEAVES,
    SEGMENT_SIZE,
    STANZAS_MAX,
    TAG_SIZE,
    chunk_count,
    chunk_offset,
    covering_chunks,
    leaf_of,
    leaf_offset,
    opened_size,
    sealed_size,
    segment_of,
    segment_offset,
)
from crypto.head import (
    OpenedHead,
    SealedHead,
    check_types,
    new_bare_head,
    new_head,
    open_head,
)
from crypto.header import Header, Stanza, parse_header, scan_head, stanza_class
from crypto.hybrid import HybridIdentity, HybridRecipient
from crypto.intake import intake_identity
from crypto.keyfile import format_identity_file, parse_identities, parse_recipient
from crypto.keys import CLASSIC, HYBRID, Identity, Recipient
from crypto.labels import STANZA_CONTEXT, STANZA_META, STANZA_SCRYPT
from crypto.leaf_tags import LEAF_TAG_SIZE, LeafTagger, check_leaf, leaf_tag, new_tag_key
from crypto.meta import Meta
from crypto.opener import Opener
from crypto.possession import Challenger
from crypto.primitives import Buffer, Random
from crypto.ranges import RangeOpener, Read
from crypto.rewrap import AdoptedHead, adopt_head, rewrap
from crypto.scrypt import open_with_passphrase, seal_with_passphrase
from crypto.sealer import Run, Sealer
from crypto.secret import Secret
from crypto.seeded import SALT_SIZE, SEED_SIZE_MIN, seeded_identity
from crypto.x25519 import X25519Identity, X25519Recipient

__all__ = [
    "CHUNK_SIZE",
    "CLASSIC",
    "FILE_KEY_SIZE",
    "HEADER_SIZE_MAX",
    "HYBRID",
    "LEAF_CHUNKS",
    "LEAF_PLAINTEXT_SIZE",
    "LEAF_SIZE",
    "LEAF_TAG_SIZE",
    "NONCE_SIZE",
    "SALT_SIZE",
    "SEALED_CHUNK_SIZE",
    "SEED_SIZE_MIN",
    "SEGMENT_LEAVES",
    "SEGMENT_SIZE",
    "STANZAS_MAX",
    "STANZA_CONTEXT",
    "STANZA_META",
    "STANZA_SCRYPT",
    "TAG_SIZE",
    "AdoptedHead",
    "Buffer",
    "Challenger",
    "ClassMismatch",
    "Context",
    "ContextError",
    "ContextMismatch",
    "CopyError",
    "CopySealer",
    "CryptoError",
    "Envelope",
    "EnvelopeError",
    "Header",
    "HeaderError",
    "HeaderMACError",
    "HeaderSizeError",
    "HybridIdentity",
    "HybridRecipient",
    "Identity",
    "IdentityError",
    "LeafMismatch",
    "LeafTagger",
    "Meta",
    "MetaError",
    "NoIdentityMatch",
    "OpenedHead",
    "Opener",
    "PayloadError",
    "PossessionError",
    "Random",
    "RangeOpener",
    "Read",
    "Recipient",
    "RecipientError",
    "Run",
    "SealedHead",
    "Sealer",
    "SealerReuse",
    "Secret",
    "SelfCheckError",
    "Stanza",
    "StanzaLimitError",
    "X25519Identity",
    "X25519Recipient",
    "adopt_head",
    "check_leaf",
    "check_types",
    "chunk_count",
    "chunk_offset",
    "covering_chunks",
    "format_identity_file",
    "intake_identity",
    "leaf_of",
    "leaf_offset",
    "leaf_tag",
    "new_bare_head",
    "new_head",
    "new_tag_key",
    "open_envelope",
    "open_file",
    "open_head",
    "open_with_passphrase",
    "opened_size",
    "parse_context",
    "parse_header",
    "parse_identities",
    "parse_recipient",
    "recovery_identity",
    "rewrap",
    "scan_head",
    "seal",
    "seal_file",
    "seal_with_passphrase",
    "sealed_size",
    "seeded_identity",
    "segment_of",
    "segment_offset",
    "stanza_class",
]
