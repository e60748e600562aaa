"""What every command is started with here."""

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _no_stop_is_ignored() -> Iterator[None]:
    """Undo for what is started here what a test run under `nohup`, or with `&`, would hand on."""
    ignored = [
        number
        for number in (signal.SIGHUP, signal.SIGINT)
        if signal.getsignal(number) is signal.SIG_IGN
    ]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
