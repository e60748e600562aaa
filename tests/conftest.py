"""What holds for every test: no network but loopback, no blocking call on an event loop, no setting
from the environment, repeatable randomness, and a plain word on what was not tested.
"""

import ipaddress
import os
import secrets
import socket
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TypeGuard

import pytest
from blockbuster import BlockBuster, BlockBusterFunction, BlockingError, blockbuster
from hypothesis import settings

from storage_gateway.catalog import PostgresCatalog
from storage_gateway.database_url import parse_database_url
from tests.databases import KINDS, ON_POSTGRESQL, databases
from tests.overheard import Overheard, note_keys, overheard
from tests.servers.ceph import Ceph, ceph
from tests.servers.ipfs import IpfsNode, ipfs_node
from tests.servers.openbao import OpenBao, openbao
from tests.servers.postgres import PostgresServer, postgres_server
from tests.servers.seaweedfs import SeaweedFS, seaweedfs

PACKAGES = ["storage_gateway", "crypto", "urn", "retention"]

# Blocking calls of ours that blockbuster does not know by itself.
ALSO_BLOCKING = ("os.fdatasync", "os.fsync", "os.ftruncate", "os.open", "os.pread", "os.pwrite")

_MEASURED: list[str] = []

_BLOCKED: list[str] = []

# Folders whose files take longest, longest first.
LONG_FILES = ("crash", "stress", "e2e", "simulation", "http", "contract")

settings.register_profile(
    "check", max_examples=50, deadline=None, derandomize=True, database=None, print_blob=True
)
settings.register_profile("nightly", max_examples=2000, deadline=None, print_blob=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that `make nightly` and a person after a failure use."""
    parser.addoption("--nightly", action="store_true", help="full counts, random seeds")
    parser.addoption("--seed", type=int, help="the seed that a failed test printed")
    parser.addoption("--schedule", help="one schedule of tests/crash/schedules.py, instead of all")


def pytest_configure(config: pytest.Config) -> None:
    """Settle randomness and environment before any test module is imported."""
    settings.load_profile("nightly" if config.getoption("nightly") else "check")
    for name in list(os.environ):
        if name.startswith("GATEWAY_") and not name.startswith("GATEWAY_TEST_"):
            del os.environ[name]
    note_keys()
    # An audit hook sees connections made from C as well; it cannot be removed, nor should it.
    sys.addaudithook(_refuse_other_hosts)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave nightly tests out of an ordinary run; where cores share it, begin with long files."""
    if hasattr(config, "workerinput"):
        # Who is done takes the next file, so what is short evens out the end.
        items.sort(key=_by_length)
    if config.getoption("nightly"):
        return
    nightly = [item for item in items if item.get_closest_marker("nightly")]
    items[:] = [item for item in items if not item.get_closest_marker("nightly")]
    config.hook.pytest_deselected(items=nightly)


def _by_length(item: pytest.Item) -> int:
    folder = item.path.parent.name
    return LONG_FILES.index(folder) if folder in LONG_FILES else len(LONG_FILES)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give a report what was measured meanwhile: it finds its way to the end of the run, also from
    a worker of pytest-xdist.
    """
    report = yield
    report.user_properties += [("measured", line) for line in _MEASURED]
    _MEASURED.clear()
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say what tests have measured, and once for each reason what was skipped."""
    reports = [report for some in terminalreporter.stats.values() for report in some]
    for report in sorted(filter(_is_of_test, reports), key=lambda report: report.nodeid):
        for name, line in report.user_properties:
            if name == "measured":
                terminalreporter.write_line(f"measured: {line}")
    reasons = {
        report.longrepr[2].removeprefix("Skipped: ").removeprefix("not tested: ")
        for report in terminalreporter.getreports("skipped")
        if isinstance(report.longrepr, tuple)
    }
    for reason in sorted(reasons):
        terminalreporter.write_line(f"not tested: {reason}")


@pytest.fixture
def nightly(request: pytest.FixtureRequest) -> bool:
    """Tell whether this run has time for full counts."""
    return bool(request.config.getoption("nightly"))


@pytest.fixture(scope="session")
def measured() -> Callable[[str], None]:
    """Return what takes a line to be shown at the end of the run, also when all tests pass."""
    return _MEASURED.append


@pytest.fixture
def seed(request: pytest.FixtureRequest, nightly: bool) -> int:
    """Return the seed of this test's randomness: fixed by day, new by night, or as asked for."""
    asked: int | None = request.config.getoption("seed")
    chosen = asked if asked is not None else secrets.randbits(32) if nightly else 1
    # Captured, so shown for failed tests only.
    print(f"to repeat: pytest --seed {chosen} '{request.node.nodeid}'")  # noqa: T201
    return chosen


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked so on both databases; by night every test that is over HTTP as well."""
    nightly = metafunc.config.getoption("nightly")
    if ON_POSTGRESQL.mark in metafunc.definition.iter_markers("parametrize"):
        return
    marker = metafunc.definition.get_closest_marker("both_databases")
    both = marker is not None and (nightly or marker.kwargs.get("by_day", True))
    both = both or (nightly and metafunc.definition.path.parent.name == "http")
    if both and "database" in metafunc.fixturenames:
        metafunc.parametrize("database", KINDS, indirect=True, scope="module")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Run one server for all tests that need one; each has databases of its own on it."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[SeaweedFS]:
    """Run one S3 server for all tests that need one; each has a bucket of its own on it."""
    with seaweedfs() as server:
        yield server


@pytest.fixture(scope="session")
def ceph_server() -> Iterator[Ceph]:
    """Run one S3 server of the kind that providers run; each test has a bucket of its own on it."""
    with ceph() as server:
        yield server


@pytest.fixture(scope="session")
def openbao_server() -> Iterator[OpenBao]:
    """Run one key server for all tests that need one; each has a key of its own on it."""
    with openbao() as server:
        yield server


@pytest.fixture
def bao(openbao_server: OpenBao) -> Iterator[OpenBao]:
    """Lend it to a test, which may stop or kill it."""
    yield openbao_server
    openbao_server.resume()
    openbao_server.revive()


@pytest.fixture(scope="session")
def ipfs() -> Iterator[IpfsNode]:
    """Run one IPFS node for all tests that need one: each leaves no pin of its own on it."""
    with ipfs_node() as node:
        yield node


@pytest.fixture(scope="session")
def empty_catalog(postgres: PostgresServer) -> str:
    """Return a database with a catalog's tables in it, to be copied: quicker than making them."""
    name = postgres.new_database()
    PostgresCatalog.open(parse_database_url(postgres.url(name))).close()
    return name


@pytest.fixture(autouse=True, scope="module")
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """Say where the tests' catalogs are: ``sqlite``, or ``postgresql`` where they ask for it.

    Of a module, so that a gateway which a module shares is made for each database, not only once.
    """
    kind: str = getattr(request, "param", "sqlite")
    if kind == "postgresql":
        databases.server = request.getfixturevalue("postgres")
        databases.template = request.getfixturevalue("empty_catalog")
    databases.kind = kind
    yield kind
    databases.kind, databases.server, databases.template = None, None, ""
    databases.made.clear()


@pytest.fixture(scope="session", autouse=True)
def _no_blocking_on_the_loop() -> Iterator[None]:
    """Make a call that blocks an event loop an error when code of ours is what makes it."""
    guard = BlockBuster(scanned_modules=PACKAGES)
    for name in ALSO_BLOCKING:
        guard.functions[name] = BlockBusterFunction(None, name, scanned_modules=PACKAGES)
    for name, function in guard.functions.items():
        if name.startswith("io."):
            # A log line is written where it is said: lines that came late would be lost in a crash.
            function.can_block_in("logging/__init__.py", {"emit"})
    blockbuster.BlockingError = _NotedBlockingError  # type: ignore[misc]
    guard.activate()
    yield
    guard.deactivate()
    blockbuster.BlockingError = BlockingError  # type: ignore[misc]


class _NotedBlockingError(BlockingError):
    """Raised where the blocking call was made; noted, as a handler or a pass may swallow it."""

    def __init__(self, func: str) -> None:
        _BLOCKED.append(func)
        super().__init__(func)


@pytest.fixture(autouse=True)
def said() -> Iterator[Overheard]:
    """Return what gateways and commands have said in this test; a secret in it fails the test,
    unless it is taken out.
    """
    overheard.listen()
    yield overheard
    assert [] == overheard.take(), "a secret was said"


@pytest.fixture(autouse=True)
def blocked() -> Iterator[list[str]]:
    """Return the calls that blocked an event loop in this test; each one fails it, unless it is
    taken out of the list.
    """
    _BLOCKED.clear()
    yield _BLOCKED
    assert [] == _BLOCKED, "code of ours blocked an event loop"


def _is_of_test(report: object) -> TypeGuard[pytest.TestReport]:
    return isinstance(report, pytest.TestReport)


def _refuse_other_hosts(event: str, args: Sequence[object]) -> None:
    if event in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
        peer, address = args
        internet = isinstance(peer, socket.socket) and peer.family != socket.AF_UNIX
        if internet and isinstance(address, tuple) and not _is_here(address[0], literal=False):
            raise RuntimeError(f"a test may talk to loopback only, not to {address[0]}")
    elif event in {"socket.getaddrinfo", "socket.gethostbyname"} and not _is_here(
        args[0], literal=True
    ):
        raise RuntimeError(f"a test may not look up {args[0]!r}")


def _is_here(host: object, *, literal: bool) -> bool:
    """Tell whether `host` is this machine; looking up any `literal` address asks nobody."""
    if host is None or host in {"localhost", b"localhost"}:
        return True
    try:
        address = ipaddress.ip_address(host.decode() if isinstance(host, bytes) else str(host))
    except ValueError:
        return False
    return literal or address.is_loopback
