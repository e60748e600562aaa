"""The program's entry. Refuses to run when one of the flat packages is shadowed by another's."""

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


def main() -> None:
    """Run the command line."""
    _refuse_shadowed_packages()
    from .cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
