"""The commands that need no gateway, and their options."""

import argparse
from pathlib import Path

from .exits import EXIT_USAGE, help_text
from .output import fail
from .parsers import Commands, Parser, add_command, add_gateway_options, add_known_recipients
from .ranges import parse_range

PARALLEL_MAX = 100


def add_offline_commands(commands: Commands) -> None:
    """Add them all."""
    _add_keygen(commands)
    _add_seal(commands)
    _add_open(commands)
    _add_rewrap(commands)
    _add_inspect(commands)
    _add_cid(commands)
    _add_urn(commands)


def _add(commands: Commands, name: str, summary: str, examples: str) -> Parser:
    return add_command(commands, name, summary, examples, help_text())


def _add_keygen(commands: Commands) -> None:
    parser = _add(
        commands,
        "keygen",
        "Make an identity, in age-keygen's format; the recipient is in its comment.",
        "  storage-gateway keygen -o user.txt\n"
        "  storage-gateway keygen > miner.txt\n"
        "  storage-gateway keygen --pq -o user-pq.txt",
    )
    parser.add_argument("--pq", action="store_true", help="hybrid, post-quantum (age1pq1…)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="new file, mode 0600")
    parser.add_argument("--json", action="store_true", help="print recipient and file as JSON")
    parser.set_defaults(command=_keygen)


def _add_seal(commands: Commands) -> None:
    parser = _add(
        commands,
        "seal",
        "Seal a file for recipients, as any age tool opens it and put --sealed uploads it.",
        "  storage-gateway seal -r age1… -o prompt.age prompt.txt\n"
        "  tar c . | storage-gateway seal -R miners.txt -r age1… > all.age\n"
        "  storage-gateway seal -r age1… --filename a.png --content-type image/png a.png > a.age",
    )
    parser.add_argument(
        "-r", "--recipient", action="append", default=[], metavar="age1…", help="repeatable"
    )
    parser.add_argument(
        "-R",
        "--recipients-file",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="recipients one a line, # comments; repeatable",
    )
    parser.add_argument("--content-type", metavar="TYPE", help="kept sealed in the header")
    parser.add_argument("--filename", metavar="NAME", help="kept sealed in the header")
    _add_output(parser)
    parser.add_argument("file", metavar="FILE", nargs="?", default="-", help="default: stdin")
    parser.set_defaults(command=_seal)


def _add_open(commands: Commands) -> None:
    parser = _add(
        commands,
        "open",
        "Open a sealed file offline, without any gateway.",
        "  storage-gateway open -i user.txt object.age > prompt.txt\n"
        "  storage-gateway open -i user.txt --head head payload -o prompt.txt\n"
        "  storage-gateway open -i user.txt --range 0-1023 object.age\n"
        "  cat head payload | storage-gateway open -i user.txt -",
    )
    _add_identity(parser)
    parser.add_argument("--head", metavar="HEAD", help="the head, where FILE is a payload alone")
    parser.add_argument(
        "--range",
        type=parse_range,
        metavar="START-END",
        help="these bytes of the plaintext alone, counted from 0, END with them",
    )
    parser.add_argument("--json", action="store_true", help="print size and meta (needs -o)")
    _add_output(parser)
    parser.add_argument("file", metavar="FILE", help="an age file, or a payload; - for stdin")
    parser.set_defaults(command=_open)


def _add_rewrap(commands: Commands) -> None:
    parser = _add(
        commands,
        "rewrap",
        "Make another head for a sealed file, for other recipients; the payload stays. With"
        " --pending: of all objects of a session of blind custody that are for outdated keys.",
        "  storage-gateway rewrap -i user.txt --current age1a… --current age1b… \\\n"
        "      --wanted age1a… --wanted age1c… object.age -o object2.age\n"
        "  storage-gateway rewrap -i user.txt --current age1a… --wanted age1c… head > head2\n"
        "  storage-gateway rewrap --pending --session 101 --identity user.txt --dry-run\n"
        "  storage-gateway rewrap --pending --session 101 -i old.txt -i new.txt \\\n"
        "      --url https://gateway.example --token-file user.token -R parties.txt",
    )
    _add_identity(parser)
    for option, text in (
        ("--current", "whom the file is sealed for, in the order of its stanzas; repeatable"),
        ("--wanted", "who shall open it from now on; repeatable"),
    ):
        parser.add_argument(option, action="append", default=[], metavar="age1…", help=text)
    parser.add_argument("--head-only", action="store_true", help="leave the payload out")
    _add_output(parser)
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help="an age file, or a head alone; - for stdin"
    )
    pending = parser.add_argument_group("with a gateway, for a session of blind custody")
    pending.add_argument("--pending", action="store_true", help="all that is pending (the user)")
    pending.add_argument("--session", metavar="ID", help="session id")
    pending.add_argument("--dry-run", action="store_true", help="try all, and change nothing")
    pending.add_argument(
        "--parallel", type=_parallel, default=8, metavar="N", help="at one time (default 8)"
    )
    pending.add_argument("--json", action="store_true", help="print the report as JSON")
    add_known_recipients(pending)
    add_gateway_options(pending)
    parser.set_defaults(command=_rewrap)


def _parallel(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= PARALLEL_MAX):
        raise argparse.ArgumentTypeError(f"a number from 1 to {PARALLEL_MAX}")
    return int(text)


def _add_inspect(commands: Commands) -> None:
    parser = _add(
        commands,
        "inspect",
        "Show what a sealed file shows to anyone who has it. Nothing is verified.",
        "  storage-gateway inspect object.age\n  storage-gateway inspect --cid --json object.age",
    )
    parser.add_argument("--cid", action="store_true", help="also the CID of its payload")
    _add_report(parser)
    parser.add_argument("file", metavar="FILE", help="an age file, or a head alone; - for stdin")
    parser.set_defaults(command=_inspect)


def _add_cid(commands: Commands) -> None:
    parser = _add(
        commands,
        "cid",
        "Print the CID of a file's bytes, as ipfs add --cid-version=1 --raw-leaves "
        "--chunker=size-983280 does.",
        "  storage-gateway cid payload\n  storage-gateway cid - < payload",
    )
    _add_report(parser)
    parser.add_argument("file", metavar="FILE", nargs="?", default="-", help="default: stdin")
    parser.set_defaults(command=_cid)


def _add_urn(commands: Commands) -> None:
    parser = _add(
        commands,
        "urn",
        "Read names.",
        "  storage-gateway urn parse urn:blob:v4:aaaqeayeaudaocajbifqydiob4ibceqt",
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    parse = _add(
        verbs,
        "parse",
        "Show the parts of a URN, its canonical form, and what kind of name it is.",
        "  storage-gateway urn parse urn:blob:v4:aaaqeayeaudaocajbifqydiob4ibceqt\n"
        "  storage-gateway urn parse --json urn:blob:v1:s3:hippius:inputs:7.json",
    )
    parse.add_argument("--json", action="store_true", help="print as JSON")
    parse.add_argument("text", metavar="URN")
    parse.set_defaults(command=_urn_parse)


def _add_identity(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-i",
        "--identity",
        type=Path,
        action="append",
        required=True,
        metavar="FILE",
        help="identity file, - for stdin; repeatable",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: stdout")
    parser.add_argument("--force", action="store_true", help="overwrite an existing output file")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


# Imported when called: see commands.py.


def _keygen(options: argparse.Namespace) -> int:
    from .offline import keygen

    return keygen(options)


def _seal(options: argparse.Namespace) -> int:
    from .sealing import seal

    return seal(options)


def _open(options: argparse.Namespace) -> int:
    from .offline import open_file

    return open_file(options)


def _rewrap(options: argparse.Namespace) -> int:
    if options.pending:
        return _rewrap_pending(options)
    from .sealing import rewrap_file

    return rewrap_file(options)


def _rewrap_pending(options: argparse.Namespace) -> int:
    of_files = [options.current, options.wanted, options.file, options.output, options.head_only]
    if any(of_files) or options.session is None:
        fail("rewrap", "--pending takes --session, and no file, --current, --wanted or -o")
        return EXIT_USAGE
    from .rewrapping import rewrap_pending

    return rewrap_pending(options)


def _inspect(options: argparse.Namespace) -> int:
    from .reports import inspect

    return inspect(options)


def _cid(options: argparse.Namespace) -> int:
    from .reports import cid

    return cid(options)


def _urn_parse(options: argparse.Namespace) -> int:
    from .reports import urn_parse

    return urn_parse(options)
