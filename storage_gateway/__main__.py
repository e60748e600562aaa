"""The program's entry. Refuses to run when one of the flat packages is shadowed by another's."""

import os
import sys
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
    """Give a standard stream that was closed a descriptor that still fails as a closed one does.

    Else the next file that is opened would become that stream, and take what is printed. So the
    null device is opened the wrong way round; only what goes to stderr is lost without an error,
    as there is nobody left to tell.
    """
    for descriptor, flags in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, flags)
    # Python has None for a stream that was closed when it began.
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def main() -> None:
    """Run the command line."""
    _fill_closed_streams()
    _refuse_shadowed_packages()
    from .cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
