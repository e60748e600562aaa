"""How every command's parser begins: a summary, examples, and an end of its own."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeAlias

from .output import redacted

Command = Callable[[argparse.Namespace], int]
Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # noqa: SLF001 - has no other name


class Parser(argparse.ArgumentParser):
    """argparse repeats what it does not understand; an identity must not be repeated."""

    def error(self, message: str) -> NoReturn:
        """Exit with usage and message, without any identity in it."""
        super().error(redacted(message))


def add_command(
    commands: Commands, name: str, summary: str, examples: str, ending: str = ""
) -> Parser:
    """Add a command; `ending` follows the examples in its help."""
    return commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"examples:\n{examples}" + (f"\n\n{ending}" if ending else ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_gateway_options(parser: argparse._ActionsContainer) -> None:
    """Add which gateway is asked, and with which token."""
    parser.add_argument(
        "--url",
        default=os.environ.get("GATEWAY_URL"),
        help="base URL of the gateway (default $GATEWAY_URL)",
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="file with the token (default: the token in $GATEWAY_TOKEN)",
    )
    parser.add_argument(
        "--plain-http", action="store_true", help="send the token in clear over a network"
    )


def add_client_options(parser: argparse.ArgumentParser) -> None:
    """Add those, and how the answer is shown."""
    add_gateway_options(parser)
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def add_known_recipients(parser: argparse._ActionsContainer) -> None:
    """Add the list of those whom a client seals for, whatever a gateway says."""
    parser.add_argument(
        "-R",
        "--recipients-file",
        action="append",
        type=Path,
        metavar="FILE",
        help="blind custody: the parties' recipients, one a line, # comments; repeatable. Nobody"
        " else is sealed for (default: whom the gateway names)",
    )
