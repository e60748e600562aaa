"""Goal: the forgetful file system behaves as a real one until it crashes, and then forgets.

Method: Hypothesis does the same random operations on it and on `RealFs`; crashes by hand.
"""

import tempfile
from pathlib import Path
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from storage_gateway.backends.fs import Fs, RealFs
from tests.forgetful import BASE, ForgetfulFs

NAMES = st.sampled_from(["a", "b", "a/c", "a/c/d", "b/e"])
OPERATIONS = st.tuples(
    st.sampled_from(
        [
            "make_folder",
            "write",
            "remove",
            "remove_folder",
            "read_at",
            "size",
            "scan",
            "sync_folder",
        ]
    ),
    NAMES,
    st.integers(0, 3),
)


def _do(fs: Fs, base: Path, operation: str, name: str, offset: int) -> object:
    """Do one operation; return its answer, or the errno."""
    path = base / name
    try:
        match operation:
            case "write":
                descriptor = fs.create(path)
                fs.write_at(descriptor, memoryview(b"data"), offset)
                fs.sync(descriptor)
                fs.close(descriptor)
                return None
            case "read_at":
                return fs.read_at(path, offset, 3)
            case "scan":
                return sorted(fs.scan(path))
            case "size":
                size = fs.size(path)
                return "folder" if size == 4096 or path.is_dir() else size
            case _:
                return getattr(fs, operation)(path)
    except OSError as error:
        return error.errno


@given(st.lists(OPERATIONS, max_size=25))
def test_until_a_crash_it_is_like_a_real_one(operations: list[tuple[str, str, int]]) -> None:
    forgetful = ForgetfulFs()
    with tempfile.TemporaryDirectory() as real_base:
        for operation in operations:
            expected = _do(RealFs(), Path(real_base), *operation)
            assert expected == _do(forgetful, BASE, *operation), operation


def _write(fs: ForgetfulFs, path: Path, data: bytes, *, sync: bool) -> None:
    descriptor = fs.create(path)
    fs.write_at(descriptor, memoryview(data), 0)
    if sync:
        fs.sync(descriptor)
    fs.close(descriptor)


def test_a_synced_file_is_lost_with_its_name() -> None:
    fs = ForgetfulFs()
    _write(fs, BASE / "f", b"x", sync=True)

    assert [] == list(fs.crash().scan(BASE))

    fs.sync_folder(BASE)

    assert b"x" == fs.crash().read_at(BASE / "f", 0, 9)


def test_a_synced_name_is_that_of_an_empty_file() -> None:
    fs = ForgetfulFs()
    _write(fs, BASE / "f", b"x", sync=False)
    fs.sync_folder(BASE)

    assert [("f", False, 0)] == list(fs.crash().scan(BASE))


def test_a_synced_folder_is_lost_with_its_own_name() -> None:
    fs = ForgetfulFs()
    fs.make_folder(BASE / "d")
    _write(fs, BASE / "d" / "f", b"x", sync=True)
    fs.sync_folder(BASE / "d")

    assert [] == list(fs.crash().scan(BASE))


def test_a_removal_that_was_not_synced_is_undone() -> None:
    fs = ForgetfulFs()
    _write(fs, BASE / "f", b"x", sync=True)
    fs.sync_folder(BASE)
    fs.remove(BASE / "f")

    assert b"x" == fs.crash().read_at(BASE / "f", 0, 9)

    fs.sync_folder(BASE)

    assert [] == list(fs.crash().scan(BASE))


def test_by_chance_what_was_not_synced_may_also_be_there() -> None:
    fs = ForgetfulFs()
    _write(fs, BASE / "f", b"x", sync=False)
    outcomes = {tuple(fs.crash(Random(seed)).scan(BASE)) for seed in range(50)}

    assert {(), (("f", False, 0),), (("f", False, 1),)} == outcomes


def test_every_state_that_a_name_went_through_may_be_found() -> None:
    fs = ForgetfulFs()
    _write(fs, BASE / "f", b"x", sync=True)
    fs.remove(BASE / "f")
    outcomes = [
        [name for name, _, _ in fs.crash_choosing([chosen]).scan(BASE)] for chosen in range(3)
    ]

    assert [3] == fs.choices()
    assert [[], ["f"], []] == outcomes


def test_a_write_may_be_torn_and_either_half_is_found() -> None:
    fs = ForgetfulFs()
    _write(fs, BASE / "f", b"abc", sync=False)
    fs.sync_folder(BASE)
    found = [fs.crash_choosing(kept).read_at(BASE / "f", 0, 9) for kept in ([1, 0], [0, 1])]

    assert [2, 2] == fs.choices()
    assert [b"ab", b"\0\0c"] == found


def test_what_is_chosen_on_does_not_depend_on_what_was_chosen() -> None:
    """A folder that is lost with its name still has its choices, so that they can be counted."""
    fs = ForgetfulFs()
    fs.make_folder(BASE / "d")
    _write(fs, BASE / "d" / "f", b"abc", sync=False)
    _write(fs, BASE / "e", b"a", sync=True)

    assert [2, 2, 2, 2, 2] == fs.choices()
    assert [("e", False, 1)] == list(fs.crash_choosing([0, 1, 1, 1, 1]).scan(BASE))
    assert [("f", False, 3)] == list(fs.crash_choosing([1, 1, 1, 1, 0]).scan(BASE / "d"))


def test_a_copy_has_what_is_not_synced_and_goes_its_own_way() -> None:
    fs = ForgetfulFs()
    _write(fs, BASE / "f", b"abc", sync=False)
    copy = fs.copy()
    fs.sync_folder(BASE)
    fs.remove(BASE / "f")

    assert b"abc" == copy.read_at(BASE / "f", 0, 9)
    assert [2, 2, 2] == copy.choices()


def test_equal_disks_have_equal_fingerprints() -> None:
    fs = ForgetfulFs()
    _write(fs, BASE / "f", b"abc", sync=True)
    fs.make_folder(BASE / "d")

    assert fs.crash().fingerprint() == fs.crash_choosing([0, 0]).fingerprint()
    assert fs.crash().fingerprint() != fs.crash_choosing([0, 1]).fingerprint()
    assert fs.crash_choosing([1, 0]).fingerprint() != fs.crash_choosing([0, 1]).fingerprint()
