"""The commands and their options. Each command's work is in a module of its own."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from storage_gateway import __version__

from .exits import EXIT_FAILED, EXIT_INTERRUPTED
from .offline_commands import add_offline_commands
from .output import give_up_stdout
from .parsers import Command, Commands, Parser, add_command


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
    _add_serve(commands)
    _add_demo(commands)
    _add_session(commands)
    _add_put(commands)
    _add_get(commands)
    _add_check(commands)
    _add_catalog(commands)
    _add_backends(commands)
    _add_stress(commands)
    add_offline_commands(commands)
    return parser


def _add_serve(commands: Commands) -> None:
    parser = add_command(
        commands,
        "serve",
        "Run a gateway. The first line on stdout is its base URL.",
        "  storage-gateway serve --data-dir ./data --port 8420\n"
        "  GATEWAY_PORT=8420 storage-gateway serve --data-dir ./data\n"
        "  storage-gateway serve --data-dir ./data --workers 4\n"
        "  storage-gateway serve --config gateway.toml",
    )
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="where everything is kept")
    _add_catalog_option(parser)
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (default 0: any free one)")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default 1)")
    parser.add_argument(
        "--admin-port", type=int, metavar="N", help="metrics, for this machine only"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file with settings")
    parser.add_argument("--behind-proxy", metavar="CIDR", help="the proxy that ends TLS")
    parser.add_argument("--tls-certificate", type=Path, metavar="FILE", help="PEM, with the chain")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="PEM")
    parser.add_argument("--log-level", help="debug, info, warning or error (default info)")
    parser.add_argument(
        "--enable-stress",
        action="store_true",
        default=None,
        help="allow the operator stress runs, which load this machine: docs/stress.md",
    )
    parser.set_defaults(command=_serve)


def _add_catalog_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--catalog-url",
        metavar="URL",
        help="PostgreSQL, without the password (default: a file in the data folder)",
    )


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


def _add_gateway_options(parser: argparse.ArgumentParser) -> None:
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


def _add_client_options(parser: argparse.ArgumentParser) -> None:
    _add_gateway_options(parser)
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _add_session(commands: Commands) -> None:
    parser = add_command(
        commands,
        "session",
        "Open sessions (operator).",
        "  storage-gateway session open --user age1… --miner 0x…=age1… -o session.json",
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    opening = add_command(
        verbs,
        "open",
        "Open a session; its document has the tokens of its parties, which are shown this once.",
        "  storage-gateway session open --user age1… --miner 0x…=age1… -o session.json\n"
        "  storage-gateway session open --user age1… --session 101 \\\n"
        "    --backend disk-a --backend bucket-1 --write-quorum 2 -o session.json",
    )
    _add_gateway_options(opening)
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
        "-o", "--output", type=Path, metavar="FILE", help="a new file, mode 0600 (default: stdout)"
    )
    opening.set_defaults(command=_session_open)


def _miner(text: str) -> tuple[str, str]:
    address, equals, recipient = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError("write it like 0x…=age1…")
    return address, recipient


def _add_put(commands: Commands) -> None:
    parser = add_command(
        commands,
        "put",
        "Upload a file as a task's input or output; prints the URN.",
        "  storage-gateway put --session 101 --task 7 prompt.txt\n"
        "  storage-gateway put --session 101 --task 7 --output result.json\n"
        "  tar c . | storage-gateway put --session 101 --task 8 -",
    )
    _add_client_options(parser)
    parser.add_argument("--session", required=True, help="session id")
    parser.add_argument("--task", required=True, help="task id")
    parser.add_argument("--output", action="store_true", help="an output (default: an input)")
    parser.add_argument("--miner", metavar="0x…", help="whose output (a miner's token implies it)")
    parser.add_argument("--sealed", action="store_true", help="FILE is an age file already")
    parser.add_argument("--content-type", default="application/octet-stream")
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
    _add_client_options(parser)
    parser.add_argument("urn", metavar="URN")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: stdout")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("-i", "--identity", type=Path, metavar="FILE", help="open here with this")
    how.add_argument("--plaintext", action="store_true", help="let the gateway open it")
    parser.set_defaults(command=_get)


def _add_check(commands: Commands) -> None:
    parser = add_command(
        commands,
        "check",
        "Verify everything in a data folder: every object, every byte, nothing left over.",
        "  storage-gateway check --data-dir ./data\n"
        "  storage-gateway check --data-dir ./data --json",
    )
    parser.add_argument("--data-dir", type=Path, required=True, metavar="DIR")
    _add_catalog_option(parser)
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file with settings")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(command=_check)


def _add_backends(commands: Commands) -> None:
    parser = add_command(
        commands,
        "backends",
        "Find out what stores can do.",
        "  storage-gateway backends probe --data-dir ./data --config gateway.toml",
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    probe = add_command(
        verbs,
        "probe",
        "Try every configured bucket and node, also before the first start; what it writes goes.",
        "  storage-gateway backends probe --data-dir ./data --config gateway.toml\n"
        "  storage-gateway backends probe --data-dir ./data --config gateway.toml --json",
    )
    probe.add_argument("--data-dir", type=Path, metavar="DIR")
    _add_catalog_option(probe)
    probe.add_argument("--config", type=Path, metavar="FILE", help="TOML file with settings")
    probe.add_argument("--json", action="store_true", help="print the reports as JSON")
    probe.set_defaults(command=_backends_probe)


def _add_catalog(commands: Commands) -> None:
    parser = add_command(
        commands,
        "catalog",
        "Move the catalog to another database.",
        "  storage-gateway catalog copy --data-dir ./data --to postgresql://gateway@db/gateway",
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    copy = add_command(
        verbs,
        "copy",
        "Copy the SQLite catalog of a data folder to an empty PostgreSQL database, and retire it.",
        "  storage-gateway catalog copy --data-dir ./data --password-file ./password \\\n"
        "    --to 'postgresql://gateway@db.example/gateway?sslmode=verify-full'",
    )
    copy.add_argument("--data-dir", type=Path, required=True, metavar="DIR")
    copy.add_argument("--to", required=True, metavar="URL", help="without the password")
    copy.add_argument("--password-file", type=Path, metavar="FILE")
    copy.add_argument("--quiet", action="store_true", help="no progress bar")
    copy.set_defaults(command=_catalog_copy)


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
    _add_client_options(listing)
    listing.set_defaults(command=_stress_list)
    running = add_command(
        verbs,
        "run",
        "Run a case to its end; exit status 0 only when it passed. Ctrl-C stops the run.",
        "  storage-gateway stress run tiny-objects\n"
        "  storage-gateway stress run slow-client --clients 8 --set idle_s=0.5 --json",
    )
    _add_client_options(running)
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


# Imported when called, so that --help and tab completion do not wait for aiohttp.


def _serve(options: argparse.Namespace) -> int:
    from .serve import serve

    return serve(options)


def _demo(options: argparse.Namespace) -> int:
    from .demo import demo

    return demo(options)


def _session_open(options: argparse.Namespace) -> int:
    from .session import open_session

    return open_session(options)


def _put(options: argparse.Namespace) -> int:
    from .transfer import put

    return put(options)


def _get(options: argparse.Namespace) -> int:
    from .transfer import get

    return get(options)


def _catalog_copy(options: argparse.Namespace) -> int:
    from .catalog import copy

    return copy(options)


def _backends_probe(options: argparse.Namespace) -> int:
    from .backends import probe

    return probe(options)


def _check(options: argparse.Namespace) -> int:
    from .check import check

    return check(options)


def _stress_list(options: argparse.Namespace) -> int:
    from .stress import list_cases

    return list_cases(options)


def _stress_run(options: argparse.Namespace) -> int:
    from .stress import run_case

    return run_case(options)
