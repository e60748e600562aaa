"""What a test needs from the machine: commands, servers, the vectors kept beside the checkout.

A test that lacks something is skipped, and the end of the run says what was not tested and how to
test it. With ``GATEWAY_TEST_REQUIRE=all`` (CI) a missing command or server is a failure instead;
the vectors are exempt, since a stranger's clone has no folder beside it.
"""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent


def need(tool: str, how: str) -> str:
    """Return the path of the command `tool`; without it, skip or fail saying `how` to get it."""
    found = shutil.which(tool)
    if found is None:
        absent(f"what needs the command {tool}", how)
    return found


def absent(what: str, how: str) -> NoReturn:
    """Skip, or fail under ``GATEWAY_TEST_REQUIRE=all``: `how` would test `what`."""
    sentence = f"not tested: {what}; to test it: {how}"
    if os.environ.get("GATEWAY_TEST_REQUIRE") == "all":
        pytest.fail(f"{sentence} (GATEWAY_TEST_REQUIRE=all allows no gap)", pytrace=False)
    pytest.skip(sentence, allow_module_level=True)


def vectors(folder: str) -> Path:
    """Return `folder` of the public test vectors: under ``AGE_VECTORS``, or beside the checkout."""
    home = Path(os.environ.get("AGE_VECTORS") or ROOT.parent / "shared" / "vectors")
    if not (home / folder).is_dir():
        pytest.skip(
            f"not tested: the public {folder} vectors; to test them: let AGE_VECTORS name the"
            f" folder that holds {folder}/",
            allow_module_level=True,
        )
    return home / folder
