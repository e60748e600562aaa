"""One side in a process of its own, asked over pipes: `python -m bench.worker SIDE FOLDER`.

The first line on stdout is `{"version": …}` or `{"missing": why}`. Then one JSON object a line:
`{"work": name, "size": bytes, "seconds": least}` is answered by `{"count": calls, "seconds": …}`.
bench/worker.mjs speaks the same for Node.js.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import sides


def _make(name: str, folder: Path) -> sides.Side:
    if name in {"classic", "hybrid"}:
        from .ours import Ours  # noqa: PLC0415 - crypto is not in the peers' environment

        return Ours(folder, name)
    if name == "leaves":
        from .ours import OursByLeaf  # noqa: PLC0415 - as above

        return OursByLeaf(folder)
    makers: dict[str, Callable[[Path], sides.Side]] = {
        "pyrage": sides.Pyrage,
        "age": sides.AgeCommand,
        "crypt4gh": sides.Crypt4GH,
        "aws": sides.AWSEncryptionSDK,
        "tink": sides.Tink,
    }
    return makers[name](folder)


def timed(side: sides.Side, work: str, size: int, seconds_min: float) -> dict[str, float]:
    """Call a work at least once and for that long; check what came out, off the clock."""
    if len(side.plaintext) != size:
        side.take(os.urandom(size))
        side.seal()
        _check(side)
    call = side.works()[work]
    count, began = 0, time.perf_counter()
    while True:
        call()
        count += 1
        seconds = time.perf_counter() - began
        if seconds >= seconds_min:
            break
    if work == "open":
        assert side.gave_back(), "what was opened is not the plaintext"
    if work == "seal":
        _check(side)
    return {"count": count, "seconds": seconds}


def _check(side: sides.Side) -> None:
    side.opened = None
    side.open()
    assert side.gave_back(), "what was sealed does not open to the plaintext"


def main(name: str, folder: str) -> None:
    """Answer until stdin ends."""
    try:
        side = _make(name, Path(folder))
    except sides.SideMissing as error:
        _answer({"missing": str(error)})
        return
    _answer({"version": side.version})
    for line in sys.stdin:
        asked = json.loads(line)
        _answer(timed(side, asked["work"], asked["size"], asked["seconds"]))


def _answer(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
