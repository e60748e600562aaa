"""The cases, one file each. A new one: write its file, name it here, plant its bug in the tests."""

from typing import Any

from storage_gateway.stress.contract import Case

from .concurrent_same_session import CASE as CONCURRENT_SAME_SESSION
from .duplicate_submit import CASE as DUPLICATE_SUBMIT
from .partial_write import CASE as PARTIAL_WRITE
from .tiny_objects import CASE as TINY_OBJECTS

CASES: dict[str, Case[Any]] = {
    case.name: case
    for case in (
        CONCURRENT_SAME_SESSION,
        DUPLICATE_SUBMIT,
        PARTIAL_WRITE,
        TINY_OBJECTS,
    )
}
"""By name."""

__all__ = ["CASES"]
