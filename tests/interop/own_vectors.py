"""The envelopes of tests/vectors/envelopes.json as whole age files, for other implementations.

For tests only. Payloads that the file does not hold are sealed anew from its fixed randomness.
"""

import base64
import json
from dataclasses import dataclass, field

from crypto import Sealer, Secret
from crypto.head import payload_key
from tests.unit.crypto_samples import plaintext_of
from tests.vectors.make_envelopes import FILE


@dataclass(frozen=True, slots=True)
class OwnVector:
    """An age file, the texts of those who can open it, and of one who cannot."""

    name: str
    data: bytes = field(repr=False)
    identities: tuple[str, ...]
    stranger: str
    plaintext_sha256: str


def _read(key_class: str) -> list[OwnVector]:
    vectors = json.loads(FILE.read_text("ascii"))
    texts = {party["name"]: party["identity"] for party in vectors["parties"]}
    classes = {party["name"]: party["class"] for party in vectors["parties"]}
    stranger = {"classic": "outsider", "hybrid": "hybrid outsider"}[key_class]
    return [
        OwnVector(
            name=entry["name"],
            data=base64.b64decode(entry["head"]) + _payload(entry),
            identities=tuple(dict.fromkeys(texts[name] for name in entry["recipients"])),
            stranger=texts[stranger],
            plaintext_sha256=entry["plaintext_sha256"],
        )
        for entry in vectors["envelopes"]
        if classes[entry["recipients"][0]] == key_class
    ]


def _payload(entry: dict[str, str | int]) -> bytes:
    file_key, nonce = (bytes.fromhex(str(entry[name])) for name in ("file_key", "nonce"))
    sealer = Sealer(payload_key(Secret(file_key), nonce))
    return sealer.update(plaintext_of(int(entry["plaintext_size"]))) + sealer.finish()


CLASSIC = _read("classic")
HYBRID = _read("hybrid")
