"""How long things stay and when they may be called gone. Pure: no I/O, no clock, no storage."""

from .claims import Claims, Hold, Lease
from .erasure import ErasureStep, next_erasure_step
from .leaps import Anchor, Clock, judge_clock, may_go
from .policy import (
    FOREVER,
    LIFETIME_S_MAX,
    LifetimeTooLong,
    LifetimeTooShort,
    Mode,
    Policy,
    PolicyError,
    RetentionError,
)
from .verdict import Action, Reason, Verdict, verdict_on

__all__ = [
    "FOREVER",
    "LIFETIME_S_MAX",
    "Action",
    "Anchor",
    "Claims",
    "Clock",
    "ErasureStep",
    "Hold",
    "Lease",
    "LifetimeTooLong",
    "LifetimeTooShort",
    "Mode",
    "Policy",
    "PolicyError",
    "Reason",
    "RetentionError",
    "Verdict",
    "judge_clock",
    "may_go",
    "next_erasure_step",
    "verdict_on",
]
