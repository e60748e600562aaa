"""How every command's parser begins: a summary, examples, and an end of its own."""

import argparse
from collections.abc import Callable
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
