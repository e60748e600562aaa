"""Goal: four packages with common names stay ours, wherever and beside whatever they are installed.
Method: ask the environment who owns which name, build the wheel offline, unpack it elsewhere and
run it, put a stranger's package in front, look for what must not be in it, and read the locks.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_string
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

import pytest

import crypto
import retention
import storage_gateway
import urn
from tests.requirements import ROOT

OURS = {"storage_gateway", "crypto", "urn", "retention"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DECLARED = PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"]
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)( ; [^\\]+)? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")


def strangers(installed: list[Distribution]) -> set[tuple[str, str]]:
    """Return (top-level name, owner) of all that would share a folder with ours.

    Names are casefolded: where file names ignore case, pycryptodome's Crypto is our crypto.
    """
    return {
        (file.parts[0], owner.name)
        for owner in installed
        if owner.name != "storage-gateway"
        for file in owner.files or ()
        if file.parts[0].removesuffix(".py").casefold() in OURS
    }


def test_no_other_distribution_owns_one_of_our_names() -> None:
    assert set() == strangers(list(distributions()))


@pytest.mark.parametrize("path", ["Crypto/__init__.py", "urn.py", "retention/__init__.py"])
def test_a_stranger_with_one_of_our_names_is_seen(tmp_path: Path, path: str) -> None:
    record = tmp_path / "stranger-1.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1\n")
    (record / "RECORD").write_text(f"{path},,\n")
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).touch()

    assert {(path.split("/", maxsplit=1)[0], "stranger")} == strangers([Distribution.at(record)])


def test_the_four_packages_are_siblings() -> None:
    homes = {
        Path(package.__file__ or "").parent.parent
        for package in (storage_gateway, crypto, urn, retention)
    }

    assert {ROOT} == homes


def test_a_shadowed_package_stops_the_program(tmp_path: Path) -> None:
    (tmp_path / "urn").mkdir()
    (tmp_path / "urn" / "__init__.py").write_text("")

    run = run_module(tmp_path, ROOT)

    assert run.returncode not in {0, None}
    assert "shadows one of its packages" in run.stderr


def run_module(*search: Path) -> subprocess.CompletedProcess[str]:
    """Run ``python -m storage_gateway --help`` outside the checkout, with `search` going first."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, search))}
    return subprocess.run(
        [sys.executable, "-P", "-m", "storage_gateway", "--help"],
        cwd=search[0],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Build the wheel with the backend that the lock brings; nothing is fetched."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_holds_the_four_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in OURS
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    packed = {entry for entry in wheel.namelist() if ".dist-info/" not in entry}

    assert expected == packed
    assert {f"{package}/py.typed" for package in OURS} <= packed


def test_the_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    (entry,) = (entry for entry in wheel.namelist() if entry.endswith(".dist-info/METADATA"))
    metadata = message_from_string(wheel.read(entry).decode())

    assert metadata["Version"] == storage_gateway.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "Private :: Do Not Upload" in (metadata.get_all("Classifier") or [])
    assert any(entry.endswith("/licenses/LICENSE") for entry in wheel.namelist())


def test_the_unpacked_wheel_runs_by_itself(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)

    run = run_module(tmp_path)

    assert run.returncode == 0, run.stderr
    assert "usage" in run.stdout.casefold()


def not_sealing(package: Path) -> list[str]:
    """Return the files that bring the bench's null sealer, know of it, or patch what seals."""
    return sorted(
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(
            r"null.?sealer|nothing_sealed|^ *(from|import) (bench|tests|unittest)\b",
            f"{path.relative_to(package)}\n{path.read_text()}",
            re.MULTILINE | re.IGNORECASE,
        )
    )


def test_what_is_shipped_has_no_way_not_to_seal(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    # Without site-packages: there the checkout is installed, which has the bench.
    run = subprocess.run(
        [sys.executable, "-P", "-S", "-m", "bench.null_sealer"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert [] == not_sealing(tmp_path)
    assert run.returncode != 0
    assert "No module named 'bench'" in run.stderr


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("bench/null_sealer.py", ""),
        ("storage_gateway/null_sealer.py", ""),
        ("storage_gateway/write.py", "from bench.null_sealer import nothing_sealed"),
        ("storage_gateway/cli/serve.py", "if True:\n    import bench.null_sealer"),
        ("storage_gateway/app.py", "from unittest.mock import patch"),
        ("storage_gateway/producing.py", "class NullSealer: pass"),
    ],
)
def test_a_way_not_to_seal_is_seen(tmp_path: Path, path: str, source: str) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(source)

    assert [path] == not_sealing(tmp_path)
    assert [] == [found for package in OURS for found in not_sealing(ROOT / package)]


def test_the_installed_version_is_the_one_in_the_source() -> None:
    assert distribution("storage-gateway").version == storage_gateway.__version__, "run make again"


def test_the_command_is_installed() -> None:
    command = shutil.which("storage-gateway", path=str(Path(sys.executable).parent))

    assert command is not None, "run make again"


def pins(lock: str) -> dict[str, set[str]]:
    """Return the versions of each name in a lock; complain about a line that is not a pin."""
    found: dict[str, set[str]] = {}
    hashes = 1
    for line in (ROOT / "requirements" / lock).read_text().splitlines():
        if line.startswith("#"):
            continue
        if pin := PIN.match(line):
            assert hashes, f"{lock}: the pin before {line} has no hash"
            hashes = 0
            found.setdefault(pin[1], set()).add(pin[2])
        else:
            # Neither an index nor a path nor an option may hide in a lock.
            assert HASH.match(line), f"{lock}: {line}"
            hashes += 1
    assert hashes
    return found


def test_locks_pin_exact_versions_by_hash() -> None:
    runtime, dev, build = pins("runtime.lock"), pins("dev.lock"), pins("build.lock")

    assert runtime.items() <= dev.items()
    assert build.items() <= dev.items()
    # Peers are measured with the library that we have.
    assert runtime["cryptography"] == pins("bench.lock")["cryptography"]


def test_locks_hold_every_declared_dependency() -> None:
    groups = PROJECT["dependency-groups"]
    declared = {
        "runtime.lock": PROJECT["project"]["dependencies"],
        "dev.lock": groups["dev"] + groups["build"],
        "build.lock": groups["build"],
        "fuzz.lock": groups["fuzz"],
        "servers.lock": groups["servers"],
        "bench.lock": groups["bench"],
    }

    for lock, requirements in declared.items():
        names = {re.split(r"[^A-Za-z0-9._-]", text)[0].casefold() for text in requirements}
        assert names <= pins(lock).keys(), f"{lock}: run make lock"


def test_what_runs_is_what_is_locked() -> None:
    locked = pins("dev.lock")
    other = {
        (name, distribution(name).version)
        for name in (re.split(r"[^A-Za-z0-9._-]", text)[0] for text in DECLARED)
        if distribution(name).version not in locked[name.casefold()]
    }

    assert set() == other, "run make again"
