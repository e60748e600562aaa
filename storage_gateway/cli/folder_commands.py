"""The commands that work on a data folder, and their options."""

import argparse
from pathlib import Path

from .parsers import Commands, add_command


def add_folder_commands(commands: Commands) -> None:
    """Add them all."""
    _add_serve(commands)
    _add_check(commands)
    _add_catalog(commands)
    _add_backends(commands)


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
        "--serve-ipfs",
        action="store_true",
        default=None,
        help="answer at /ipfs/{cid}, to anybody, with sealed blocks: docs/ipfs.md",
    )
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


def _add_check(commands: Commands) -> None:
    parser = add_command(
        commands,
        "check",
        "Verify everything in a data folder: every object, every byte, nothing left over.",
        "  storage-gateway check --data-dir ./data\n"
        "  storage-gateway check --data-dir ./data --json\n"
        "  storage-gateway check --data-dir ./data --config gateway.toml --repair",
    )
    parser.add_argument("--data-dir", type=Path, required=True, metavar="DIR")
    _add_catalog_option(parser)
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file with settings")
    parser.add_argument(
        "--repair",
        action="store_true",
        help="make copies that are missing or wrong in one store from right ones, and check again",
    )
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
        "Move the catalog to another database, or make it whole from the stores.",
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
    _add_rebuild(verbs)


def _add_rebuild(verbs: Commands) -> None:
    rebuild = add_command(
        verbs,
        "rebuild",
        "Complete a catalog that was lost, or is an old backup, from the copies in the stores."
        " Stop the gateways first. What the catalog has stays; what cannot come back is told.",
        "  storage-gateway catalog rebuild --data-dir ./data\n"
        "  storage-gateway catalog rebuild --config gateway.toml --recovery-identity ./key.txt",
    )
    verify = add_command(
        verbs,
        "verify",
        "Compare the catalog with the copies of its records in the stores.",
        "  storage-gateway catalog verify --data-dir ./data\n"
        "  storage-gateway catalog verify --data-dir ./data --repair",
    )
    for parser in (rebuild, verify):
        parser.add_argument("--data-dir", type=Path, metavar="DIR")
        parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file with settings")
        _add_catalog_option(parser)
        parser.add_argument(
            "--recovery-identity",
            type=Path,
            metavar="FILE",
            help="of recovery_recipient, if that is set",
        )
        parser.add_argument("--json", action="store_true", help="print the report as JSON")
        parser.add_argument("--quiet", action="store_true", help="no progress bar")
    rebuild.add_argument(
        "--deployment", metavar="ID", help="which one, where the stores hold several"
    )
    rebuild.add_argument(
        "--accept-refused",
        action="store_true",
        help="be done although copies were found that nobody here signed, of what is nowhere else",
    )
    verify.add_argument(
        "--repair", action="store_true", help="have what is missing or wrong brought again"
    )
    rebuild.set_defaults(command=_catalog_rebuild)
    verify.set_defaults(command=_catalog_verify)


# Imported when called: see commands.py.


def _serve(options: argparse.Namespace) -> int:
    from .serve import serve

    return serve(options)


def _check(options: argparse.Namespace) -> int:
    from .check import check

    return check(options)


def _backends_probe(options: argparse.Namespace) -> int:
    from .backends import probe

    return probe(options)


def _catalog_rebuild(options: argparse.Namespace) -> int:
    from .rebuild import rebuild

    return rebuild(options)


def _catalog_verify(options: argparse.Namespace) -> int:
    from .rebuild import verify

    return verify(options)


def _catalog_copy(options: argparse.Namespace) -> int:
    from .catalog import copy

    return copy(options)
