"""Run simulated histories: one seed with its trace, or many in a row.

Examples:
  python -m tests.simulation --seed 1075              replay one history, showing what happened
  python -m tests.simulation --histories 5000         seeds 0 to 4999
  python -m tests.simulation --histories 500 --seed-from 90000

Exit status: 0 nothing found, 1 something that must not happen, 2 wrong usage.
"""

import argparse
import sys
import time

from tqdm import tqdm

from .history import Outcome, Simulator

EXIT_FOUND = 1


def main(arguments: list[str]) -> int:
    """Do what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, help="replay one history and show its trace")
    parser.add_argument("--histories", type=int, default=1000, help="how many (default 1000)")
    parser.add_argument("--seed-from", type=int, default=0, help="the first seed (default 0)")
    options = parser.parse_args(arguments)
    if options.histories < 1:
        parser.error("--histories: 1 or more")
    with Simulator() as simulator:
        if options.seed is not None:
            outcome = simulator.run(options.seed)
            print("\n".join(lines(outcome)))  # noqa: T201 - a command
            return EXIT_FOUND if outcome.trouble else 0
        return many(simulator, range(options.seed_from, options.seed_from + options.histories))


def many(simulator: Simulator, seeds: range) -> int:
    """Run the histories of many seeds; tell of those that went wrong, and how fast it was."""
    found = requests = 0
    virtual_s = 0.0
    began = time.process_time()
    for seed in tqdm(seeds, unit="history", disable=not sys.stderr.isatty()):
        outcome = simulator.run(seed)
        requests += outcome.requests
        virtual_s += outcome.virtual_s
        if outcome.trouble:
            found += 1
            tqdm.write(report(outcome), file=sys.stderr)
    minutes = (time.process_time() - began) / 60
    print(  # noqa: T201 - a command
        f"{len(seeds)} histories, {requests} requests, {virtual_s / 3600:.1f} hours of virtual"
        f" time: {len(seeds) / minutes:.0f} histories a minute of one core; {found} went wrong"
    )
    return EXIT_FOUND if found else 0


def report(outcome: Outcome) -> str:
    """Return what went wrong and how to see it again."""
    told = "\n  ".join(outcome.trouble)
    return f"python -m tests.simulation --seed {outcome.seed}\n  {told}"


def lines(outcome: Outcome) -> list[str]:
    """Return the trace, and the verdict."""
    traced = [f"{when:9.3f} {who:<14} {what}" for when, who, what in outcome.trace]
    if not outcome.trouble:
        return [*traced, f"seed {outcome.seed}: all as it must be"]
    return [*traced, f"seed {outcome.seed}: THIS MUST NOT BE", *outcome.trouble]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
