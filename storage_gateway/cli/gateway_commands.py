"""The commands that ask a running gateway, and their options."""

import argparse
import json
from pathlib import Path

from .durations import duration
from .parsers import (
    Commands,
    add_client_options,
    add_command,
    add_gateway_options,
    add_known_recipients,
)
from .retention_commands import add_session_retain


def add_gateway_commands(commands: Commands) -> None:
    """Add them all."""
    _add_session(commands)
    _add_put(commands)
    _add_get(commands)
    _add_passes(commands)
    _add_stress(commands)


def _add_passes(commands: Commands) -> None:
    examples = (
        "  storage-gateway passes run repair --url https://gateway.example --token-file operator\n"
        "  storage-gateway passes run scrub --json\n"
        "  storage-gateway passes run gc --confirm 4000\n"
        "  storage-gateway passes run sweep --dry-run"
    )
    parser = add_command(commands, "passes", "Run passes by hand (operator).", examples)
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    running = add_command(
        verbs,
        "run",
        "Run one to the end of its round: recovery (settle what was interrupted), repair (make"
        " copies again), scrub (read the copies that this round has not read yet, at the gateway's"
        " rate; what a store got in the last two minutes may be missing), gc (delete what lies in"
        " stores and was named by nothing for a week), sweep (let expire what nobody claims any"
        " more, and erase it after its grace), leftovers (remove old versions and what was"
        " never finished from buckets), copies (bring the copies of manifests that a store lacks),"
        " rebuild (complete a catalog that is behind from the copies in the stores)."
        " Exit 1 if something is wrong.",
        examples,
    )
    running.add_argument(
        "name",
        choices=("recovery", "repair", "scrub", "gc", "sweep", "leftovers", "copies", "rebuild"),
    )
    running.add_argument(
        "--confirm",
        metavar="NUMBER",
        type=int,
        default=0,
        help="so much may go, though it is suspiciously much: payloads of a store by gc, objects by"
        " sweep",
    )
    running.add_argument(
        "--dry-run",
        action="store_true",
        help="sweep: change nothing, and print what would be done",
    )
    add_client_options(running)
    running.set_defaults(command=_passes_run)


def _passes_run(options: argparse.Namespace) -> int:
    from .passes import run_pass

    return run_pass(options)


def _add_session(commands: Commands) -> None:
    parser = add_command(
        commands,
        "session",
        "Open sessions, and change how long what they get is kept (operator).",
        "  storage-gateway session open --user age1… --miner 0x…=age1… -o session.json\n"
        "  storage-gateway session retain 101 yearly",
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    opening = add_command(
        verbs,
        "open",
        "Open a session; its document has the tokens of its parties, which are shown this once.",
        "  storage-gateway session open --user age1… --miner 0x…=age1… -o session.json\n"
        "  storage-gateway session open --user age1… --session 101 \\\n"
        "    --backend disk-a --backend bucket-1 --write-quorum 2 -o session.json\n"
        "  storage-gateway session open --user age1… --router age1… -o session.json",
    )
    add_gateway_options(opening)
    opening.add_argument("--user", required=True, metavar="RECIPIENT", help="the user's")
    opening.add_argument(
        "--miner",
        type=_miner,
        action="append",
        default=[],
        metavar="0x…=RECIPIENT",
        help="a miner's address and its recipient; once for each miner",
    )
    opening.add_argument("--session", metavar="ID", help="session id (default: a new one)")
    opening.add_argument(
        "--router",
        metavar="RECIPIENT",
        help="the router's: the session's custody is blind then, and the gateway opens nothing",
    )
    opening.add_argument(
        "--backend",
        action="append",
        metavar="NAME",
        help="a store that payloads go to; once for each (default: all that the gateway has)",
    )
    opening.add_argument(
        "--write-quorum",
        type=int,
        metavar="N",
        help="failure domains that must have a payload before it counts as stored; at most as many"
        " as the stores are in (default: the gateway's)",
    )
    opening.add_argument(
        "--retention",
        metavar="POLICY",
        help="how long what is committed in it is kept: one of the gateway's retention_policies"
        " (default: the gateway's)",
    )
    opening.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="a new file, mode 0600 (default: stdout)"
    )
    opening.set_defaults(command=_session_open)
    add_session_retain(verbs)


def _miner(text: str) -> tuple[str, str]:
    address, equals, recipient = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError("write it like 0x…=age1…")
    return address, recipient


def _add_put(commands: Commands) -> None:
    parser = add_command(
        commands,
        "put",
        "Upload a file as a task's input or output; prints the URN. Where the session's custody is"
        " blind it is sealed here.",
        "  storage-gateway put --session 101 --task 7 prompt.txt\n"
        "  storage-gateway put --session 101 --task 7 --output result.json\n"
        "  tar c . | storage-gateway put --session 101 --task 8 -\n"
        "  storage-gateway put --session 101 --task 10 --lifetime 30d prompt.txt\n"
        "  storage-gateway put --session 101 --task 9 -R parties.txt prompt.txt",
    )
    add_client_options(parser)
    parser.add_argument("--session", required=True, help="session id")
    parser.add_argument("--task", required=True, help="task id")
    parser.add_argument("--output", action="store_true", help="an output (default: an input)")
    parser.add_argument("--miner", metavar="0x…", help="whose output (a miner's token implies it)")
    parser.add_argument("--sealed", action="store_true", help="FILE is an age file already")
    parser.add_argument("--content-type", default="application/octet-stream")
    parser.add_argument(
        "--lifetime",
        type=duration,
        metavar="DURATION",
        help="how long it is kept, from its commit, like 30d, 12h, 90s (default: as the session's"
        " policy says)",
    )
    add_known_recipients(parser)
    parser.add_argument("file", metavar="FILE", help="what to upload; - for stdin")
    parser.set_defaults(command=_put)


def _add_get(commands: Commands) -> None:
    parser = add_command(
        commands,
        "get",
        "Fetch an object by URN: sealed, opened here with -i, or opened by the gateway.",
        "  storage-gateway get urn:blob:v4:… -o object.age\n"
        "  storage-gateway get urn:blob:v4:… -i user.txt -o prompt.txt\n"
        "  storage-gateway get urn:blob:v4:… --plaintext > prompt.txt",
    )
    add_client_options(parser)
    parser.add_argument("urn", metavar="URN")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: stdout")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("-i", "--identity", type=Path, metavar="FILE", help="open here with this")
    how.add_argument("--plaintext", action="store_true", help="let the gateway open it")
    parser.set_defaults(command=_get)


def _add_stress(commands: Commands) -> None:
    parser = add_command(
        commands,
        "stress",
        "List and run the stress cases of a gateway that has them enabled (operator).",
        "  storage-gateway stress list\n"
        "  storage-gateway stress run partial-write --seed 7 --duration 20",
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = add_command(
        verbs, "list", "Print the cases, and what each may break.", "  storage-gateway stress list"
    )
    add_client_options(listing)
    listing.set_defaults(command=_stress_list)
    running = add_command(
        verbs,
        "run",
        "Run a case to its end; exit status 0 only when it passed. Ctrl-C stops the run.",
        "  storage-gateway stress run tiny-objects\n"
        "  storage-gateway stress run slow-client --clients 8 --set idle_s=0.5 --json",
    )
    add_client_options(running)
    running.add_argument("case", metavar="CASE")
    running.add_argument("--seed", type=int, help="of all choices (default: a new one)")
    running.add_argument("--duration", type=float, metavar="S", help="how long the load lasts")
    running.add_argument("--clients", type=int, metavar="N", help="clients at one time")
    running.add_argument(
        "--set",
        type=_parameter,
        action="append",
        default=[],
        metavar="NAME=JSON",
        help="a further parameter of the case, as stress list --json has them",
    )
    running.set_defaults(command=_stress_run)


def _parameter(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError("write it like idle_s=0.5")
    try:
        return name, json.loads(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"the value of {name} is not JSON") from None


# Imported when called: see commands.py.


def _session_open(options: argparse.Namespace) -> int:
    from .session import open_session

    return open_session(options)


def _put(options: argparse.Namespace) -> int:
    from .transfer import put

    return put(options)


def _get(options: argparse.Namespace) -> int:
    from .transfer import get

    return get(options)


def _stress_list(options: argparse.Namespace) -> int:
    from .stress import list_cases

    return list_cases(options)


def _stress_run(options: argparse.Namespace) -> int:
    from .stress import run_case

    return run_case(options)
