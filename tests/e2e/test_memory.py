"""Goal: the memory of the real process stays within budget and 64 MiB, under many at one time.

Method: `serve`, real sockets, and the kernel's own VmHWM; by day few clients and small budgets, at
night the full numbers. The figures are printed.
"""

from pathlib import Path

import pytest

from bench.figures import MIB
from bench.memory import cases, peak_over_idle
from bench.plan import Plan, full_plan

BY_DAY = {"memory_size": 48 * MIB, "memory_clients": 150, "memory_budget": 16 * MIB}


@pytest.fixture
def plan(tmp_path: Path, nightly: bool) -> Plan:
    full = full_plan(tmp_path, 1, print)
    return full if nightly else full.smaller(**BY_DAY)


def test_the_process_stays_within_its_budgets(plan: Plan) -> None:
    found = {case: peak_over_idle(plan, case) for case in cases(plan)}

    assert 5 == len(found)
    for case, peak in found.items():
        assert 0 < peak < case.most_mib, case.name
