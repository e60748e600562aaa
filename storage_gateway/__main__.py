"""The program's entry. Refuses to run when one of the flat packages is shadowed by another's."""

import os
import sys
from contextlib import suppress
from pathlib import Path

import crypto
import retention
import storage_gateway
import urn


def _refuse_shadowed_packages() -> None:
    homes = {
        package.__name__: Path(package.__file__ or "").parent.parent
        for package in (storage_gateway, crypto, urn, retention)
    }
    if len(set(homes.values())) != 1:
        listed = ", ".join(f"{name} from {home}" for name, home in homes.items())
        raise SystemExit(
            f"storage-gateway: another distribution shadows one of its packages: {listed}."
            " Install storage-gateway into a virtual environment of its own"
        )


def _fill_closed_streams() -> None:
    """Keep the next file that is opened from becoming a standard stream that was closed."""
    for descriptor in range(3):
        with suppress(OSError):
            os.fstat(descriptor)
            continue
        os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - to the end


def main() -> None:
    """Run the command line."""
    _fill_closed_streams()
    _refuse_shadowed_packages()
    from .cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
