"""Times as arguments say them."""

import argparse
import re

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]{1,12})([smhd])", re.ASCII)
FOREVER = "forever"


def duration(text: str) -> int:
    """Return the seconds of ``30d``, ``12h``, ``45m`` or ``90s``."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError("write it like 30d, 12h, 45m or 90s")
    return int(found[1]) * _SECONDS[found[2]]


def lifetime(text: str) -> int | None:
    """As `duration`, or None for ``forever``."""
    return None if text == FOREVER else duration(text)
