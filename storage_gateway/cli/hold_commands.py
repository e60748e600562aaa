"""The commands about holds, and their options."""

import argparse

from .parsers import Commands, Parser, add_client_options, add_command

_PLACE = (
    '  storage-gateway hold place urn:blob:v4:… --who "the court" --why "case 7"\n'
    '  storage-gateway hold place --session 101 --who "the court" --why "case 8"'
)
_RELEASE = (
    '  storage-gateway hold release HOLD urn:blob:v4:… --who "the clerk" --why "case 7 is over"\n'
    '  storage-gateway hold release HOLD --session 101 --who "the clerk" --why "case 8 is over"'
)
_LIST = (
    "  storage-gateway hold list urn:blob:v4:…\n  storage-gateway hold list --session 101 --json"
)


def add_hold_commands(commands: Commands) -> None:
    """Add them all."""
    parser = add_command(
        commands,
        "hold",
        "Have an object, or a whole session, stay, whoever wants it gone (operator).",
        f"{_PLACE}\n{_LIST}\n{_RELEASE}",
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    placing = add_command(
        verbs,
        "place",
        "Place a hold, and print its id: what is held is neither erased nor does it expire.",
        _PLACE,
    )
    _add_scope(placing)
    _add_reason(placing, "who holds it", "why")
    placing.set_defaults(command=_place)
    releasing = add_command(
        verbs,
        "release",
        "Release a hold, which stays on record. What is held by another one, too, stays held.",
        _RELEASE,
    )
    releasing.add_argument("hold", metavar="HOLD", help="its id")
    _add_scope(releasing)
    _add_reason(releasing, "who releases it", "why")
    releasing.set_defaults(command=_release)
    listing = add_command(
        verbs,
        "list",
        "Print the holds on an object and on its session, or on a session as a whole, also those"
        " that were released.",
        _LIST,
    )
    _add_scope(listing)
    listing.set_defaults(command=_list)


def _add_scope(parser: Parser) -> None:
    parser.add_argument("urn", metavar="URN", nargs="?", help="of an object")
    parser.add_argument("--session", metavar="ID", help="on all that is, or comes, in this one")
    add_client_options(parser)


def _add_reason(parser: Parser, who: str, why: str) -> None:
    parser.add_argument("--who", required=True, metavar="TEXT", help=f"{who}: up to 200 characters")
    parser.add_argument(
        "--why", required=True, metavar="TEXT", help=f"{why}: up to 1,000 characters"
    )


# Imported when called: see commands.py.


def _place(options: argparse.Namespace) -> int:
    from .hold import place

    return place(options)


def _release(options: argparse.Namespace) -> int:
    from .hold import release

    return release(options)


def _list(options: argparse.Namespace) -> int:
    from .hold import show

    return show(options)
