"""Bugs in what is made of stores that answer late, in part, or not at all; see `planted`."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from storage_gateway.backends.member import Member
from storage_gateway.backends.replica_reads import _Asking
from storage_gateway.errors import BackendUnavailable


def silence_is_final(patch: pytest.MonkeyPatch) -> None:
    """A store that does not answer a read is not replaced by another one."""
    real = _Asking.run

    async def run(
        self: _Asking[Any], ranked: Iterable[Member], *, goes_on: tuple[type[Exception], ...]
    ) -> Any:  # noqa: ANN401
        others = tuple(kind for kind in goes_on if kind is not BackendUnavailable)
        return await real(self, ranked, goes_on=others)

    patch.setattr(_Asking, "run", run)


SILENCE_BUGS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "timeout-read": (silence_is_final, "while one store hangs every read is right"),
}
