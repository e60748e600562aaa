"""``catalog copy``: move the catalog of a data folder from SQLite to PostgreSQL."""

import argparse
from pathlib import Path

from storage_gateway.catalog import PostgresCatalog, SQLiteCatalog
from storage_gateway.catalog.copying import CopyRefused, copy_catalog, count_rows
from storage_gateway.config import ConfigError, check_catalog_url
from storage_gateway.custody import read_secret, sync_folder
from storage_gateway.database_url import DatabaseURL, parse_database_url
from storage_gateway.errors import GatewayError
from storage_gateway.parts import CATALOG_FILE, COPIED_FILE

from .output import EXIT_FAILED, EXIT_OK, EXIT_USAGE, fail, progress

COMMAND = "catalog copy"


def copy(options: argparse.Namespace) -> int:
    """Copy; exit 0 only when all is there and the old file is out of use."""
    file = options.data_dir / CATALOG_FILE
    try:
        url = _target(options.to, options.password_file)
    except (ValueError, ConfigError) as error:
        fail(COMMAND, f"--to: {error}")
        return EXIT_USAGE
    if not file.exists():
        fail(COMMAND, f"{options.data_dir} holds no catalog ({CATALOG_FILE}): not a data folder")
        return EXIT_FAILED
    try:
        copied = _copy(file, url, quiet=options.quiet)
    except (CopyRefused, GatewayError) as error:
        fail(COMMAND, error)
        return EXIT_FAILED
    kept = file.with_name(COPIED_FILE)
    file.rename(kept)
    sync_folder(file.parent)
    for table, rows in copied.items():
        print(f"{table:<14} {rows:>10} rows")
    print(f"copied and compared. Start the gateway with catalog_url = {url}")
    print(
        f"{kept} still holds every head: remove it once you rely on the copy, or erasing misses it"
    )
    return EXIT_OK


def _target(text: str, password_file: Path | None) -> DatabaseURL:
    url = parse_database_url(text)
    check_catalog_url(url)
    if url.has_password:
        raise ConfigError("a password in an option is seen by everybody: give --password-file")
    return url.with_password(read_secret(password_file).strip()) if password_file else url


def _copy(file: Path, url: DatabaseURL, *, quiet: bool) -> dict[str, int]:
    source = SQLiteCatalog.open(file)
    try:
        target = PostgresCatalog.open(url)
        try:
            with progress(count_rows(source), COMMAND, unit="rows", quiet=quiet) as advance:
                return copy_catalog(source, target, advance)
        finally:
            target.close()
    finally:
        source.close()
