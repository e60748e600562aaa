"""The parameters that every case takes."""

from typing import Annotated

import msgspec

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Clients = Annotated[int, msgspec.Meta(ge=1, description="Clients at one time")]
Sizes = Annotated[
    tuple[Annotated[int, msgspec.Meta(ge=0)], ...],
    msgspec.Meta(min_length=1, max_length=16, description="Bodies, in bytes, by turns"),
]

SEED_MAX = (1 << 53) - 1
"""What every JSON reader keeps exactly."""


class Parameters(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What every case takes. Cases add their own, and set defaults."""

    seed: (
        Annotated[
            int, msgspec.Meta(ge=0, le=SEED_MAX, description="Of all choices; absent: a new one")
        ]
        | None
    ) = None
    duration_s: Annotated[
        float, msgspec.Meta(gt=0, le=86400, description="How long the load lasts")
    ] = 5.0
    clients: Clients = 4
    sizes: Sizes = (4096,)
