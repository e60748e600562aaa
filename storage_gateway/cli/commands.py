"""What is run for a command line. Options are in a module for each kind of command, each command's
work is in one of its own, imported when it is called: --help does not wait for aiohttp.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from storage_gateway import __version__

from .exits import EXIT_FAILED, EXIT_INTERRUPTED
from .folder_commands import add_folder_commands
from .gateway_commands import add_gateway_commands
from .hold_commands import add_hold_commands
from .key_commands import add_key_commands
from .offline_commands import add_offline_commands
from .output import give_up_stdout
from .parsers import Command, Commands, Parser, add_command
from .retention_commands import add_retention_commands


def run(arguments: Sequence[str]) -> int:
    """Run one command; return the exit status (docs/cli.md has the table)."""
    try:
        try:
            options = _parser().parse_args(arguments)
            command: Command = options.command
            return command(options)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        give_up_stdout()
        return EXIT_INTERRUPTED
    except OSError as error:
        # The reader of our output has seen enough, or what is printed cannot be written.
        if not give_up_stdout() and not isinstance(error, BrokenPipeError):
            raise
        if not isinstance(error, BrokenPipeError):
            print(f"storage-gateway: standard output: {error.strerror}", file=sys.stderr)
        return EXIT_FAILED


def _parser() -> Parser:
    parser = Parser(
        prog="storage-gateway",
        description="Seals inputs and results for three parties, keeps them, hands back URNs.",
        epilog="Try: storage-gateway demo",
    )
    parser.add_argument("--version", action="version", version=f"storage-gateway {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_demo(commands)
    add_folder_commands(commands)
    add_gateway_commands(commands)
    add_retention_commands(commands)
    add_key_commands(commands)
    add_hold_commands(commands)
    add_offline_commands(commands)
    return parser


def _add_demo(commands: Commands) -> None:
    parser = add_command(
        commands,
        "demo",
        "Do the main job once on a gateway of its own, and show what happens.",
        "  storage-gateway demo\n  storage-gateway demo --size-mib 16 --keep ./demo-data",
    )
    parser.add_argument("--size-mib", type=int, default=256, help="large input (default 256)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the data folder here")
    parser.add_argument("--json", action="store_true", help="print the account as JSON")
    parser.set_defaults(command=_demo)


def _demo(options: argparse.Namespace) -> int:
    from .demo import demo

    return demo(options)
