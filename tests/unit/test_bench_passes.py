"""Goal: the figures of passes are of true objects, and their floors stand where they should.
Method: a deployment of a few objects is made, gone through and checked; rows of made-up values.
"""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from bench.figures import Verdict
from bench.pass_data import (
    REBUILD,
    STORES,
    config_of,
    fill,
    lose_catalog,
    lose_copies,
    write_copies,
)
from bench.pass_worker import run
from bench.passes import PASSES, _rows_of, _run_pass, _Values
from crypto import LEAF_PLAINTEXT_SIZE
from storage_gateway.backends import shelf_of
from storage_gateway.findings import CheckReport
from storage_gateway.parts import open_parts
from storage_gateway.verify import Checker


async def _check(folder: Path) -> CheckReport:
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as opened:
        parts = await open_parts(config_of(folder), opened)
        checker = Checker(
            catalog=parts.catalog,
            shelves={each.name: shelf_of(each.bare, loop) for each in parts.members},
            identities=parts.keyring.opening(),
            payloads=parts.payloads,
            marker=parts.marker,
        )
        return await asyncio.to_thread(checker.run)


async def test_what_passes_go_through_is_true(tmp_path: Path) -> None:
    size = LEAF_PLAINTEXT_SIZE + 1
    made: list[int] = []
    await fill(tmp_path, 3, size, made.append)
    scrubbed = await run("scrub", tmp_path)
    await lose_copies(tmp_path)
    lacking = [len(list((tmp_path / name).rglob("0"))) for name in STORES]
    repaired = await run("repair", tmp_path)
    await write_copies(tmp_path)
    lose_catalog(tmp_path)
    rebuilt = await asyncio.to_thread(_run_pass, REBUILD, tmp_path)
    report = await _check(tmp_path)

    assert [3] == made
    assert 6 == scrubbed["copies"]
    assert [3, 0] == lacking
    assert 3 == repaired["copies"]
    assert scrubbed["bytes"] == 2 * repaired["bytes"] > 6 * size
    assert 3 == rebuilt["copies"] == report.objects
    assert [] == report.findings


@pytest.mark.parametrize(
    ("rate", "peak", "expected"),
    [
        (90.0, 60.0, [Verdict.HOLDS, Verdict.HOLDS]),
        (70.0, 60.0, [Verdict.MISSED, Verdict.HOLDS]),
        (90.0, 70.0, [Verdict.HOLDS, Verdict.MISSED]),
    ],
)
def test_many_objects_are_held_against_few(
    rate: float, peak: float, expected: list[Verdict]
) -> None:
    few = _Values([100.0], [200.0], [1.0], [2.0], [50.0], [0.5])
    many = _Values([rate], [200.0], [1.0], [2.0], [peak], [0.5])

    rows = _rows_of(PASSES[0], {10: few, 1000: many})

    verdicts = [row.verdict(judged=True) for row in rows]
    assert [Verdict.NO_FLOOR, Verdict.NO_FLOOR, *expected] == verdicts


def test_a_few_alone_have_no_floor() -> None:
    few = _Values([100.0], [200.0], [1.0], [2.0], [50.0], [0.5])

    assert 1 == len(_rows_of(PASSES[0], {10: few}))
