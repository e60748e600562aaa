"""Stress runs: one edge case each, provoked on a gateway of the run's own, and judged.

`service.Stress` is all that the serving gateway sees. docs/stress.md says how to add a case.
"""

from .service import Stress

__all__ = ["Stress"]
