"""The catalog: what exists, where it lies, who owns what is under way. SQL lives here only."""

from . import blind_tables, retention_tables  # noqa: F401 - else the metadata would lack them
from .clock import Clock, now_ms
from .contract import Catalog, Unit
from .postgres import PostgresCatalog
from .sqlite import SQLiteCatalog

__all__ = ["Catalog", "Clock", "PostgresCatalog", "SQLiteCatalog", "Unit", "now_ms"]
