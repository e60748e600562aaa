"""What only the cyclic collector would free: how many bytes, and who holds them in a cycle."""

import gc
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the collector from running by itself, and begin without any garbage.

    What is there already is frozen: what an earlier test left, and lets go of only now, is no find.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def held_by_cycles(size_min: int) -> list[str]:
    """Return the cycles of errors, if garbage holds any bytes of that size; it is collected."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        garbage = {id(found): found for found in gc.garbage}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    held = [
        f"{len(data)} bytes in a {_called(holder)}"
        for holder in garbage.values()
        for data in gc.get_referents(holder)
        if isinstance(data, bytes | bytearray) and len(data) >= size_min
    ]
    if not held:
        return []
    errors = [found for found in garbage.values() if isinstance(found, BaseException)]
    return held + sorted({_cycle_of(error, garbage) for error in errors})


def _cycle_of(error: BaseException, garbage: Mapping[int, object]) -> str:
    """Return the shortest way from an error back to itself."""
    paths: deque[tuple[object, ...]] = deque([(error,)])
    seen = {id(error)}
    while paths:
        path = paths.popleft()
        for found in gc.get_referents(path[-1]):
            if found is error:
                return " -> ".join(map(_called, path))
            if id(found) in garbage and id(found) not in seen:
                seen.add(id(found))
                paths.append((*path, found))
    return f"{_called(error)}, in no cycle itself"


def _called(found: object) -> str:
    if isinstance(found, FrameType):
        return f"frame of {found.f_code.co_qualname}, line {found.f_lineno}"
    return type(found).__qualname__
