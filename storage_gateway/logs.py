"""Structured logs: one JSON object a line on stderr. Secrets never get here; see THREAT_MODEL.md.

Only the fields that a log call names are written. Nothing of a request but method, path and
request id is ever named: no header, no query, no body.
"""

import json
import logging
import sys
from datetime import UTC, datetime

_encode = json.JSONEncoder(default=str).encode
"""Made once: `json.dumps` makes an encoder for every line."""
_PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JSONFormatter(logging.Formatter):
    """Formats a record as one line of JSON: time, level, event, worker, fields, trace."""

    def __init__(self, worker: int | None = None) -> None:
        """``worker`` is the number of this process where several share one log."""
        super().__init__()
        self._common = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
            **self._common,
        }
        line |= {
            name: value
            for name, value in record.__dict__.items()
            if name not in _PLAIN and value is not None
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return _encode(line)


def configure_logs(level: str, worker: int | None = None) -> None:
    """Send the logs of this program, and warnings of libraries, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONFormatter(worker))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("storage_gateway").setLevel(level.upper())
