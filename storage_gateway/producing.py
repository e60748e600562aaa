"""How the parts of a body become sealed bytes: sealed here, verified as they came, or taken as they
came, where nobody here could open them.
"""

from crypto import LEAF_CHUNKS, SEALED_CHUNK_SIZE, Opener, Sealer

from .leaves import Part
from .placing import Produce


def sealing(sealer: Sealer, part: Part) -> Produce:
    """Return what seals a part. To be called part by part, in the order of the body."""
    # Claimed here, in order; sealed in a thread, in any order.
    run = sealer.claim(len(part.data), last=part.last)

    def produce() -> bytearray:
        sealed = bytearray(run.sealed_size)
        run.seal_into(part.data, sealed)
        return sealed

    return produce


def verifying(opener: Opener, part: Part) -> Produce:
    """Return what checks every chunk of a part that came sealed, and leaves it as it is.

    It raises PayloadError.
    """
    first_chunk = part.leaf * LEAF_CHUNKS + part.offset // SEALED_CHUNK_SIZE

    def produce() -> bytes:
        opener.open_run_into(first_chunk, part.data, bytearray(len(part.data)), last=part.last)
        return part.data

    return produce


def passing(part: Part) -> Produce:
    """Return what leaves a part that came sealed as it is, unopened."""
    return lambda: part.data
