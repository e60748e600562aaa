"""Goal: the log is taken for what it means. Method: write lines of it, look at the windows."""

import json
from pathlib import Path

import pytest

from tests.crash.trace import COMMIT_BEGAN, COMMITTED, SETTLING, UPLOAD_BEGAN, Trace, Window

PAYLOAD = "p1"


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([UPLOAD_BEGAN], {PAYLOAD: Window.UPLOAD}),
        ([UPLOAD_BEGAN, COMMIT_BEGAN], {PAYLOAD: Window.COMMIT}),
        ([UPLOAD_BEGAN, SETTLING], {PAYLOAD: Window.ABORT}),
        ([UPLOAD_BEGAN, COMMIT_BEGAN, COMMITTED], {}),
        # A pass had read the intent before the commit, and looks at it afterwards.
        ([UPLOAD_BEGAN, COMMIT_BEGAN, COMMITTED, SETTLING], {}),
    ],
)
def test_a_process_is_in_the_midst_of_what_it_told_last(
    tmp_path: Path, events: list[str], expected: dict[str, Window]
) -> None:
    log = tmp_path / "log"
    lines = [json.dumps({"event": e, "payload_id": PAYLOAD, "step": "abort"}) for e in events]
    log.touch()
    trace = Trace(log)
    log.write_text("\n".join(lines) + "\n")

    assert expected == trace.windows()
