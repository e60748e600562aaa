"""Stores of sealed bytes: the contract, and the stores that keep it."""

from .contract import BlobInfo, KeyedStore, SegmentWriter
from .local import LocalStore

__all__ = ["BlobInfo", "KeyedStore", "LocalStore", "SegmentWriter"]
