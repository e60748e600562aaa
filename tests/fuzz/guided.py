"""One target under atheris, in a process of its own, as libFuzzer ends the process when it is done.

Run by `tests.fuzz`: `python -m tests.fuzz.guided TARGET [libFuzzer options] CORPUS`.
"""

import sys

import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]

with atheris.instrument_imports(include=["crypto", "urn"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()
