"""Goal: `put` waits for an upload that has all but its write quorum, says so, and tells the truth.

Method: a gateway over two folders, as a process, whose second store hangs until a file is there;
the real command, which is told nothing of it. The file comes when the command has said that it
waits; or never, and the upload's time is over.
"""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gateway import gateway_process, open_session
from tests.hanging_store import GO_ON

CONTENT = b"content"
WAITS = "waiting until enough stores have it"


@pytest.mark.parametrize(("goes_on", "decide_within_s"), [(True, 20), (False, 1)])
async def test_put_waits_and_ends_as_the_upload_does(
    tmp_path: Path, goes_on: bool, decide_within_s: float
) -> None:
    backends = [{"kind": "local", "name": n, "path": str(tmp_path / n)} for n in ("one", "two")]
    settings = {
        "backends": json.dumps(backends),
        "answer_within_s": 0.05,
        "decide_within_s": decide_within_s,
        "reserve_bytes": 0,
    }
    module = "tests.hanging_store"
    async with gateway_process(tmp_path / "data", module=module, **settings) as gateway:
        session = await open_session(gateway, "101")
        (tmp_path / "token").write_text(session.user_token)
        (tmp_path / "content").write_bytes(CONTENT)
        put = [sys.executable, "-m", "storage_gateway", "put", "--url", gateway.url]
        put += ["--token-file", str(tmp_path / "token"), "--session", "101", "--task", "t1"]
        process = await asyncio.create_subprocess_exec(
            *put, str(tmp_path / "content"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stderr is not None
        said = (await asyncio.wait_for(process.stderr.readline(), 30)).decode()
        if goes_on:
            (tmp_path / GO_ON).touch()
        out, err = await asyncio.wait_for(process.communicate(), 30)
        (tmp_path / GO_ON).touch()

    assert WAITS in said
    if goes_on:
        assert (0, b"") == (process.returncode, err)
        assert out.decode().startswith("urn:blob:v4:")
    else:
        assert (1, b"") == (process.returncode, out)
        assert "[backend_unavailable]" in err.decode()
        assert "Send the upload again" in err.decode()
