"""Seal and open in memory, against pyrage (the Rust implementation), on one core."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyrage  # type: ignore[import-untyped]  # it ships no stubs

from crypto import CLASSIC, Context, X25519Identity, open_envelope, seal

from .figures import Row, interleave
from .machine import cores, pinned
from .plan import Plan

RATIO_MIN = 3.0
PARTIES = 3
CONTEXT = Context(
    object_id="a" * 32,
    payload_id="b" * 32,
    session_id="101",
    task_id="1",
    direction="input",
    miner=None,
    key_class=CLASSIC,
)


def measure(plan: Plan) -> list[Row]:
    """Return seal and open of one large plaintext for the same three recipients."""
    plaintext = os.urandom(plan.envelope_size)
    ours = [X25519Identity.generate() for _ in range(PARTIES)]
    recipients = [identity.recipient() for identity in ours]
    theirs = [pyrage.x25519.Identity.from_str(identity.to_text()) for identity in ours]
    their_recipients = [pyrage.x25519.Recipient.from_str(str(each)) for each in recipients]
    envelope = seal(plaintext, recipients, context=CONTEXT)
    file = pyrage.encrypt(plaintext, their_recipients)
    head, payload, last, their_last = envelope.head, envelope.payload, ours[-1:], theirs[-1:]
    assert plaintext == open_envelope(head, payload, last) == pyrage.decrypt(file, their_last)
    sealing: dict[str, Callable[[], object]] = {
        "crypto.seal": lambda: seal(plaintext, recipients, context=CONTEXT),
        "pyrage": lambda: pyrage.encrypt(plaintext, their_recipients),
    }
    opening: dict[str, Callable[[], object]] = {
        "crypto.open_envelope": lambda: open_envelope(head, payload, last),
        "pyrage": lambda: pyrage.decrypt(file, their_last),
    }
    size = f"{plan.envelope_size >> 20} MiB"
    with _one_core():
        return [
            _row(plan, f"seal {size}, 3 recipients", sealing),
            _row(plan, f"open {size}, 3 recipients", opening),
        ]


@contextmanager
def _one_core() -> Iterator[None]:
    _, core = cores()
    with pinned(core):
        yield


def _row(plan: Plan, name: str, sides: dict[str, Callable[[], object]]) -> Row:
    timed = {side: _rate(plan.envelope_size, work) for side, work in sides.items()}
    samples = interleave(timed, plan.runs, plan.note(name))
    (_, ours), (_, theirs) = samples.items()
    return Row(name, "MB/s", ours, "pyrage", theirs, ratio_min=RATIO_MIN)


def _rate(size: int, work: Callable[[], object]) -> Callable[[], float]:
    def measure_once() -> float:
        began = time.perf_counter()
        work()
        return size / (time.perf_counter() - began) / 1e6

    return measure_once
