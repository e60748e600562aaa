"""`python -m bench`: measure, print a table, say whether the floors hold."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from . import (
    backends,
    ipfs,
    kernels,
    keys,
    memory,
    passes,
    plot,
    privacy,
    report,
    small,
    sweep,
    transfers,
)
from .figures import Row, Verdict
from .machine import NotMeasurable, describe
from .plan import Plan, full_plan, quick_plan
from .thin import TransferFailed

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
PLOT = DOCUMENT.with_name("kernels.svg")
RUNS = 5
EXIT_FLOOR_MISSED = 1
EXIT_USAGE = 2
EXIT_NOT_MEASURED = 3

Benchmarks = Mapping[str, tuple[Callable[[Plan], list[Row]], str]]

BENCHMARKS: Benchmarks = {
    "kernels": (kernels.measure, "seal and open, heads, against other libraries and age"),
    "uploads": (transfers.measure_uploads, "1 GiB in, against bare aiohttp and the limit"),
    "downloads": (transfers.measure_downloads, "1 GiB out, against bare aiohttp and the limit"),
    "memory": (memory.measure, "peak memory: 2 GiB in and out, 16 at once, 500 slow clients"),
    "small": (small.measure, "4 KiB objects a second, against bare aiohttp; one and two workers"),
    "backends": (backends.measure, "an S3 server, against its client alone, rclone crypt, age"),
    "ipfs": (ipfs.measure, "an IPFS node, against its own add and cat"),
    "passes": (passes.measure, "scrub, repair and rebuild, as objects grow in number"),
    "keys": (keys.measure, "heads wrapped anew after a rotation, and a census of keys"),
    "sweep": (sweep.measure, "what is due expires, what is to be kept is gone through"),
    "privacy": (privacy.measure, "an S3 server, against a gateway that seals nothing"),
}

EXAMPLES = """\
examples:
  python -m bench                       everything, about twenty minutes
  python -m bench kernels --runs 9      one benchmark, more runs
  python -m bench kernels --plot FILE   and draw it, as SVG
  python -m bench passes --full         over 100,000 objects, too: an hour
  python -m bench keys --full           100,000 heads, and a census over a million objects
  python -m bench sweep --full          sweeps over a million rows
  python -m bench --quick               a few MiB, seconds; floors are not judged
  python -m bench --json figures.json   every single value as JSON, too
  python -m bench --write               put the figures and the plot into docs/

Peers come with `make bench-tools`; what is not there is said and left out.

exit status: 0 all floors hold, 1 a floor is missed, 2 wrong usage, 3 could not measure
Files go to a temporary folder (TMPDIR chooses the disk) and are removed."""


def main(arguments: Sequence[str], benchmarks: Benchmarks = BENCHMARKS) -> int:
    """Run what the arguments ask for; return the exit status."""
    parser = _parser(benchmarks)
    options = parser.parse_args(arguments)
    if options.write and (options.quick or options.names):
        parser.error("--write records a full run: give it without names and without --quick")
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    unknown = [name for name in options.names if name not in benchmarks]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(benchmarks)}")
    try:
        return _measure(options, benchmarks, f"python -m bench {' '.join(arguments)}".strip())
    except (NotMeasurable, TransferFailed, report.RegionMissing, aiohttp.ClientError) as error:
        _say(f"bench: {error}")
        return EXIT_NOT_MEASURED


def _measure(options: argparse.Namespace, benchmarks: Benchmarks, command: str) -> int:
    machine, date = describe(), _now()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="storage-gateway-bench-") as scratch:
        folder = Path(scratch)
        plan = (
            quick_plan(folder, _say)
            if options.quick
            else full_plan(folder, options.runs, _say, most=options.full)
        )
        for name in options.names or benchmarks:
            rows += benchmarks[name][0](plan)
    judged = plan.judged
    notes = plan.notes
    about = {"machine": machine, "command": command, "date": date}
    print("\n".join([report.text_table(rows, judged=judged), *notes]))
    if options.json:
        document = report.as_json(rows, judged=judged, notes=notes, **about)
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if options.write:
        report.rewrite(DOCUMENT, report.markdown(rows, judged=judged, notes=notes, **about))
    for path in [options.plot] if options.plot else [PLOT] if options.write else []:
        path.write_text(plot.draw(rows, _caption(date, options.runs)), encoding="utf-8")
    missed = [row.name for row in rows if row.verdict(judged=judged) is Verdict.MISSED]
    for name in missed:
        _say(f"floor missed: {name}")
    return EXIT_FLOOR_MISSED if missed else 0


def _parser(benchmarks: Benchmarks) -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:<10} {text}" for name, (_, text) in benchmarks.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=f"Measure the storage gateway against peers and limits.\n\n{listed}",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which benchmarks (default: all)")
    parser.add_argument(
        "--runs", type=int, default=RUNS, metavar="N", help="of each side (%(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, one run, no floors")
    parser.add_argument("--full", action="store_true", help="passes, keys and sweeps over more")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every value to FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw seal and open as SVG")
    parser.add_argument("--write", action="store_true", help=f"rewrite docs/{DOCUMENT.name}")
    return parser


def _caption(date: str, runs: int) -> str:
    return f"{date}, medians of {runs} runs; the lines go from the least to the most of them"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
