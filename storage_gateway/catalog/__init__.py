"""The catalog: what exists, where it lies, who owns what is under way. SQL lives here only."""

from .engine import Catalog, Unit, now_ms

__all__ = ["Catalog", "Unit", "now_ms"]
