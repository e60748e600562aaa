"""Every domain-separation tag and stanza type, in one place; nothing else.

Each tag is part of a stored format: changing one makes every stored object unreadable. A new use
of a file key gets a new tag here, never an old one again.
"""

from __future__ import annotations

from typing import Final

# age v1 (https://age-encryption.org/v1), HKDF info.
HEADER_MAC: Final = b"header"
PAYLOAD: Final = b"payload"
X25519_WRAP: Final = b"age-encryption.org/v1/X25519"

# age v1, before the salt of scrypt.
SCRYPT_WRAP: Final = b"age-encryption.org/v1/scrypt"

# age v1, HPKE info.
HYBRID_WRAP: Final = b"age-encryption.org/mlkem768x25519"

# Ours, HKDF info under a file key. The first two are also stanza types.
CONTEXT: Final = b"storage-gateway/context-v1"
META: Final = b"storage-gateway/meta-v1"
FILE_KEY_PRINT: Final = b"storage-gateway/file-key-print-v1"

# Ours, HKDF info under an identity's key.
INTAKE: Final = b"storage-gateway/intake-v1"
INTAKE_HYBRID: Final = b"storage-gateway/intake-hybrid-v1"
RECOVERY: Final = b"storage-gateway/recovery-v1"
SIGNING: Final = b"storage-gateway/signing-v1"
COPY_NAMES: Final = b"storage-gateway/copy-names-v1"
POSSESSION: Final = b"storage-gateway/possession-v1"
COPY_RANDOM: Final = b"storage-gateway/copy-random-v1"

# Ours, HKDF info under a seed; the class of the identity follows it.
ROUTER_SEED: Final = b"storage-gateway/router-seed-v1"

STANZA_CONTEXT: Final = CONTEXT.decode("ascii")
STANZA_META: Final = META.decode("ascii")
STANZA_X25519: Final = "X25519"
STANZA_HYBRID: Final = "mlkem768x25519"
STANZA_SCRYPT: Final = "scrypt"
