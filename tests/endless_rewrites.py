"""The program without a limit on how long PostgreSQL rewrites the manifests: run it with
``python -m``. Else a stop that waits for a rewrite would end with it, soon enough to seem right.
"""

from storage_gateway.__main__ import main
from storage_gateway.catalog import postgres_pages

FULL_MS_MAX = 1_000_000
"""Longer than anything that waits for the process."""

if __name__ == "__main__":
    postgres_pages.FULL_MS_MAX = FULL_MS_MAX
    main()
