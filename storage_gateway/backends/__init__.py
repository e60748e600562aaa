"""Stores of sealed bytes: the contract, and the stores that keep it."""

from .blocking import Shelf, shelf_of
from .contract import BlobInfo, Check, KeyedStore, Range, SegmentWriter
from .local import LocalStore
from .member import Member
from .replica_reads import OnBad
from .replicas import Replicas

__all__ = [
    "BlobInfo",
    "Check",
    "KeyedStore",
    "LocalStore",
    "Member",
    "OnBad",
    "Range",
    "Replicas",
    "SegmentWriter",
    "Shelf",
    "shelf_of",
]
