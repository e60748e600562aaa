"""The commands about keys and jobs of a running gateway, and their options."""

import argparse
from pathlib import Path

from .parsers import Commands, Parser, add_client_options, add_command

JOBS = {
    "rewrap": "Wrap all heads anew that are not for the active keys; payloads stay as they are.",
    "reseal": "Seal objects anew, with new file keys: what a leaked key has seen stays seen.",
    "migrate": "Bring objects of one key class into the other.",
}


def add_key_commands(commands: Commands) -> None:
    """Add them all."""
    examples = (
        "  storage-gateway keys census --session 101\n"
        "  storage-gateway keys rotate --session 101 --party user --identity user-2.txt\n"
        "  storage-gateway keys rewrap --dry-run"
    )
    parser = add_command(
        commands, "keys", "Show, rotate and retire keys of a running gateway.", examples
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_census(verbs)
    _add_rotate(verbs)
    _add_state(verbs)
    for kind, summary in JOBS.items():
        _add_kind(verbs, kind, summary)
    _add_jobs(commands)


def _add_census(verbs: Commands) -> None:
    parser = add_command(
        verbs,
        "census",
        "Print each key version, and how many heads and uploads are wrapped for it.",
        "  storage-gateway keys census --session 101\n"
        "  storage-gateway keys census --json      # the router's own (operator)",
    )
    parser.add_argument("--session", metavar="ID", help="of this one (default: the router's own)")
    add_client_options(parser)
    parser.set_defaults(command=_census)


def _add_rotate(verbs: Commands) -> None:
    parser = add_command(
        verbs,
        "rotate",
        "Register a new key version, which new heads are made for from then on, and wrap the old"
        " heads anew.",
        "  storage-gateway keys rotate --session 101 --party user --identity user-2.txt\n"
        "  storage-gateway keys rotate --session 101 --party miner --miner 0x… \\\n"
        "    --recipient age1… --no-rewrap\n"
        "  storage-gateway keys rotate --router",
    )
    _add_holder(parser)
    parser.add_argument(
        "--class",
        dest="key_class",
        choices=("classic", "hybrid"),
        default="classic",
        help="of the router's new key (default classic)",
    )
    key = parser.add_mutually_exclusive_group()
    key.add_argument(
        "--identity",
        type=Path,
        metavar="FILE",
        help="file with the new identity, which never leaves here: it proves that it is at hand",
    )
    key.add_argument("--recipient", metavar="age1…", help="the new recipient, unproven")
    parser.add_argument(
        "--no-rewrap", action="store_true", help="leave the old heads to a job that comes later"
    )
    _add_rate(parser)
    add_client_options(parser)
    parser.set_defaults(command=_rotate)


def _add_state(verbs: Commands) -> None:
    parser = add_command(
        verbs,
        "state",
        "Bring a key version into its next state: retiring, disabled, destroyed.",
        "  storage-gateway keys state --session 101 --party user --version 1 --state disabled\n"
        "  storage-gateway keys state --router --version 1 --state disabled --urgent",
    )
    _add_holder(parser)
    parser.add_argument("--version", type=int, required=True, metavar="N", dest="number")
    parser.add_argument("--state", required=True, choices=("retiring", "disabled", "destroyed"))
    parser.add_argument(
        "--urgent",
        action="store_true",
        help="disable it at once, though it has not been retiring for long: it leaked",
    )
    add_client_options(parser)
    parser.set_defaults(command=_state)


def _add_kind(verbs: Commands, kind: str, summary: str) -> None:
    parser = add_command(
        verbs,
        kind,
        f"{summary} Ctrl-C leaves the job running. Exit 1 if anything could not be done.",
        f"  storage-gateway keys {kind} --dry-run\n"
        f"  storage-gateway keys {kind} --session 101 --rate 50",
    )
    parser.add_argument("--session", metavar="ID", help="in this one (default: in all)")
    parser.add_argument("--dry-run", action="store_true", help="only count what there is to do")
    _add_rate(parser)
    add_client_options(parser)
    parser.set_defaults(command=_run_kind, kind=kind)


def _add_jobs(commands: Commands) -> None:
    examples = (
        "  storage-gateway jobs list\n"
        "  storage-gateway jobs show ID --follow\n"
        "  storage-gateway jobs stop ID"
    )
    parser = add_command(
        commands, "jobs", "Look at jobs of a running gateway, stop them.", examples
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = add_command(verbs, "list", "Print the jobs, the newest first.", examples)
    add_client_options(listing)
    listing.set_defaults(command=_jobs_list)
    showing = add_command(
        verbs, "show", "Print how far a job is, and what it could not do.", examples
    )
    showing.add_argument("id", metavar="ID")
    showing.add_argument(
        "--follow", action="store_true", help="until it ends; exit 1 if anything failed"
    )
    add_client_options(showing)
    showing.set_defaults(command=_jobs_show)
    stopping = add_command(verbs, "stop", "Stop a job; what it has done stays done.", examples)
    stopping.add_argument("id", metavar="ID")
    add_client_options(stopping)
    stopping.set_defaults(command=_jobs_stop)


def _add_holder(parser: Parser) -> None:
    whose = parser.add_mutually_exclusive_group(required=True)
    whose.add_argument("--session", metavar="ID", help="of a party of this session")
    whose.add_argument("--router", action="store_true", help="of the gateway's own (operator)")
    parser.add_argument(
        "--party", choices=("user", "miner", "router"), help="whose, in the session (router: blind)"
    )
    parser.add_argument("--miner", metavar="0x…", help="which miner's")


def _add_rate(parser: Parser) -> None:
    parser.add_argument(
        "--rate",
        type=float,
        default=0.0,
        metavar="N",
        help="at most so many objects a second (default: as many as go)",
    )


# Imported when called: see commands.py.


def _census(options: argparse.Namespace) -> int:
    from .rotation import census

    return census(options)


def _rotate(options: argparse.Namespace) -> int:
    from .rotation import rotate

    return rotate(options)


def _state(options: argparse.Namespace) -> int:
    from .rotation import change_state

    return change_state(options)


def _run_kind(options: argparse.Namespace) -> int:
    from .jobs import run_job

    return run_job(options)


def _jobs_list(options: argparse.Namespace) -> int:
    from .jobs import list_jobs

    return list_jobs(options)


def _jobs_show(options: argparse.Namespace) -> int:
    from .jobs import show_job

    return show_job(options)


def _jobs_stop(options: argparse.Namespace) -> int:
    from .jobs import stop_job

    return stop_job(options)
