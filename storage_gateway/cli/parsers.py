"""How every command's parser begins: a summary, examples, and an end of its own."""

import argparse
from collections.abc import Callable
from typing import TypeAlias

Command = Callable[[argparse.Namespace], int]
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - has no other name


def add_command(
    commands: Commands, name: str, summary: str, examples: str, ending: str = ""
) -> argparse.ArgumentParser:
    """Add a command; `ending` follows the examples in its help."""
    return commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"examples:\n{examples}" + (f"\n\n{ending}" if ending else ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
