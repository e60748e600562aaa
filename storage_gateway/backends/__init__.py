"""Stores of sealed bytes: the contract, and the stores that keep it."""

from .blocking import Shelf, shelf_of
from .contract import BlobInfo, Check, KeyedStore, Range, SegmentWriter
from .local import LocalStore
from .replicas import Member, Replicas

__all__ = [
    "BlobInfo",
    "Check",
    "KeyedStore",
    "LocalStore",
    "Member",
    "Range",
    "Replicas",
    "SegmentWriter",
    "Shelf",
    "shelf_of",
]
