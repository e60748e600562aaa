"""How long things stay and when they may be called gone. Pure: no I/O, no clock, no storage.

Policies, leases and holds come here; the first inhabitant is the decision when an erased, or
given-up, payload is truly gone.
"""

from .erasure import ErasureStep, next_erasure_step

__all__ = ["ErasureStep", "next_erasure_step"]
