"""Randomness of the system, replaced by the seed's for as long as a history takes.

Functions of ours take `os.urandom` as the default of an argument, bound when they were defined: so
it is replaced there as well as in the modules. Only the thread of the history draws from the seed:
what others left running in this process (a test before, a library) draws from the system.
"""

import os
import secrets
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from types import FunctionType
from typing import Any

PACKAGES = ("crypto", "urn", "retention", "storage_gateway")

_TRUE_URANDOM = os.urandom
_source: Random | None = None
_thread = 0
"""Whose draws come from `_source`."""


def draw(size: int) -> bytes:
    """Return random bytes: from the seed within a history, else from the system."""
    if _source is None or threading.get_ident() != _thread:
        return _TRUE_URANDOM(size)
    return _source.randbytes(size)


def _token_hex(nbytes: int | None = None) -> str:
    return draw(nbytes or 16).hex()


def _functions() -> Iterator[FunctionType]:
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in PACKAGES:
            continue
        for value in list(vars(module).values()):
            if isinstance(value, FunctionType):
                yield value
            elif isinstance(value, type) and value.__module__ == name:
                for member in vars(value).values():
                    function = getattr(member, "__func__", member)
                    if isinstance(function, FunctionType):
                        yield function


def install() -> None:
    """Put `draw` in the place of `os.urandom` wherever ours have taken it as a default."""
    for function in _functions():
        if function.__defaults__:
            function.__defaults__ = tuple(map(_replaced, function.__defaults__))
        if function.__kwdefaults__:
            function.__kwdefaults__ = {k: _replaced(v) for k, v in function.__kwdefaults__.items()}


def _replaced(default: Any) -> Any:  # noqa: ANN401 - any default of any function
    return draw if default is _TRUE_URANDOM else default


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Have all randomness come from the seed."""
    global _source, _thread  # noqa: PLW0603 - the system's randomness is global, too
    kept: tuple[Callable[[int], bytes], Callable[..., str]] = (os.urandom, secrets.token_hex)
    _source, _thread = Random(f"{seed}/urandom"), threading.get_ident()
    os.urandom, secrets.token_hex = draw, _token_hex
    try:
        yield
    finally:
        _source = None
        os.urandom, secrets.token_hex = kept
