"""The commands about how long things stay, and their options."""

import argparse

from .durations import duration, lifetime
from .parsers import Commands, add_client_options, add_command

_EXAMPLES = (
    "  storage-gateway retention show urn:blob:v4:…\n"
    "  storage-gateway retention set urn:blob:v4:… 90d\n"
    "  storage-gateway retention renew urn:blob:v4:… 12h\n"
    "  storage-gateway retention let-go urn:blob:v4:…"
)


def add_retention_commands(commands: Commands) -> None:
    """Add them all."""
    parser = add_command(
        commands, "retention", "Show and change how long an object lives.", _EXAMPLES
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    showing = add_command(
        verbs,
        "show",
        "Print what is claimed of an object, until when, and what a sweep would do with it now.",
        "  storage-gateway retention show urn:blob:v4:…\n"
        "  storage-gateway retention show urn:blob:v4:… --json",
    )
    _add_object(showing)
    showing.set_defaults(command=_show)
    setting = add_command(
        verbs,
        "set",
        "Give an object another lifetime, counted from its commit: longer always, up to its"
        " policy's longest; shorter under governance only.",
        "  storage-gateway retention set urn:blob:v4:… 90d\n"
        "  storage-gateway retention set urn:blob:v4:… forever",
    )
    _add_object(setting)
    setting.add_argument(
        "lifetime", type=lifetime, metavar="LIFETIME", help="like 30d, 12h, 90s; or forever"
    )
    setting.set_defaults(command=_set)
    renewing = add_command(
        verbs,
        "renew",
        "Have the token's lease (the user's, or the operator's) last so long from now; it is never"
        " made shorter. An object that expired is readable again.",
        "  storage-gateway retention renew urn:blob:v4:… 30d",
    )
    _add_object(renewing)
    renewing.add_argument(
        "duration", type=duration, metavar="DURATION", help="like 30d, 12h, 45m, 90s"
    )
    renewing.set_defaults(command=_renew)
    letting = add_command(
        verbs,
        "let-go",
        "Give up the token's lease; under compliance only once it has ended.",
        "  storage-gateway retention let-go urn:blob:v4:…",
    )
    _add_object(letting)
    letting.set_defaults(command=_let_go)


def add_session_retain(verbs: Commands) -> None:
    """Add ``session retain``."""
    parser = add_command(
        verbs,
        "retain",
        "Have a session go over to another policy, for what is committed later; under compliance"
        " only to one that promises as much.",
        "  storage-gateway session retain 101 yearly",
    )
    parser.add_argument("session", metavar="SESSION")
    parser.add_argument("policy", metavar="POLICY", help="one of the gateway's retention_policies")
    add_client_options(parser)
    parser.set_defaults(command=_retain)


def _add_object(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("urn", metavar="URN")
    add_client_options(parser)


# Imported when called: see commands.py.


def _show(options: argparse.Namespace) -> int:
    from .retention import show

    return show(options)


def _set(options: argparse.Namespace) -> int:
    from .retention import change

    return change(options)


def _renew(options: argparse.Namespace) -> int:
    from .retention import renew

    return renew(options)


def _let_go(options: argparse.Namespace) -> int:
    from .retention import let_go

    return let_go(options)


def _retain(options: argparse.Namespace) -> int:
    from .retention import retain

    return retain(options)
