"""Goal: a download that is told to stop leaves no file, even when its gateway has fallen silent.

Method: the real command against a server that sends the beginning of an object and no more.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.requirements import ROOT


@contextmanager
def slow_gateway() -> Iterator[str]:
    """Run what answers a download with its first bytes, and keeps the rest to itself."""
    done = threading.Event()

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            if self.path.endswith("/manifest"):
                body = json.dumps({"session_id": "101", "size": 9, "sealed_size": 9}).encode()
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                return
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"age-encryption.org/v1\n")
            done.wait(60)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        done.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_download_that_is_stopped_leaves_no_file(
    tmp_path: Path, number: int, status: int
) -> None:
    # Not ignored, even if the test run is, under `nohup`.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with slow_gateway() as url:
        arguments = ["get", "urn:blob:v4:" + "a" * 32, "-o", "out", "--url", url]
        process = subprocess.Popen(
            [sys.executable, "-m", "storage_gateway", *arguments],
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "GATEWAY_TOKEN": "token"},
        )
        signal.signal(signal.SIGHUP, before)
        while not any(path.name.endswith(".part") for path in tmp_path.iterdir()):
            assert process.poll() is None, "the download did not begin"
        process.send_signal(number)
        _, err = process.communicate(timeout=20)

    assert (status, b"") == (process.returncode, err)
    assert [] == list(tmp_path.iterdir())
