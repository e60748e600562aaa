"""Coverage-guided fuzzing of every target in turn: `python -m tests.fuzz --seconds 60`.

The seconds are shared by the targets. Inputs that reached something new are kept in .venv/fuzz and
used by the next run. Exit status: 0 nothing found, 1 a finding, 2 wrong usage, 3 no atheris here.
"""

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS
from tests.requirements import ROOT

CORPUS = ROOT / ".venv" / "fuzz"
PROGRESS = ("#", "INFO:", "WARNING:")
EXIT_FOUND = 1
EXIT_NO_ATHERIS = 3
HOW = "nothing was fuzzed: atheris is not installed; run make fuzz, on Linux on x86-64"


def main(arguments: list[str]) -> int:
    """Fuzz the targets named, or all; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="target", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together")
    options = parser.parse_args(arguments)
    names = options.names or list(TARGETS)
    unknown = sorted(set(names) - TARGETS.keys())
    if unknown or options.seconds < 1:
        parser.error(f"no such target: {', '.join(unknown)}" if unknown else "seconds: 1 or more")
    if importlib.util.find_spec("atheris") is None:
        print(HOW, file=sys.stderr)  # noqa: T201 - a command
        return EXIT_NO_ATHERIS
    seconds = max(1, options.seconds // len(names))
    faulty = [name for name in names if not fuzz(name, seconds)]
    return EXIT_FOUND if faulty else 0


def fuzz(name: str, seconds: int) -> bool:
    """Fuzz one target; return whether nothing was found. What was found is told on stderr."""
    corpus = CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(name)):
        (corpus / f"seed-{number}").write_bytes(seed)
    command = [sys.executable, "-m", "tests.fuzz.guided", name, f"-max_total_time={seconds}"]
    # Headers reach their limit; texts and contexts beyond theirs are only slow.
    length = 70_000 if name in {"header", "head"} else 4096 if name == "urn" else 2048
    options = [f"-max_len={length}", "-timeout=10", f"-artifact_prefix={CORPUS / name}-found-"]
    run = subprocess.run(
        [*command, *options, str(corpus)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    # Without libFuzzer's own account of its progress.
    lines = [line for line in run.stdout.splitlines() if line and not line.startswith(PROGRESS)]
    if run.returncode == 0:
        done = next((line for line in reversed(lines) if line.startswith("Done ")), "Done")
        print(f"{name}: nothing found. {done}")  # noqa: T201 - a command
        return True
    print(f"{name}: FOUND\n" + "\n".join(lines[-40:]), file=sys.stderr)  # noqa: T201 - a command
    keep = Path("tests", "fuzz", "found", name)
    print(f"move the input named above to {keep}/ and mend what it breaks", file=sys.stderr)  # noqa: T201
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
