"""Goal: the house rules hold without anyone remembering them. Method: read the tree as text, as
syntax and as a graph of imports, and list every place that breaks a rule.
"""

import ast
import graphlib
import importlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import grimp
import pytest

from tests.requirements import ROOT

KERNELS = ("crypto", "retention", "urn")
OURS = ("storage_gateway", *KERNELS)
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = {"source": 400, "tests": 600, "bench": 600}
LEFT_OUT = {".git", ".venv", ".venv-lock", ".hypothesis", "__pycache__", "data", "dist"}

# Who may ask for the world's state. Everyone else is given it as an argument.
MAY_ASK = {
    "storage_gateway/app.py": {"os.environ"},
    "storage_gateway/config.py": {"os.environ"},
    "storage_gateway/cli/backends.py": {"os.environ"},
    "storage_gateway/cli/check.py": {"os.environ"},
    "storage_gateway/cli/rebuild.py": {"os.environ"},
    "storage_gateway/cli/parsers.py": {"os.environ"},  # defaults that the help shows
    "storage_gateway/cli/offline.py": {"datetime.now"},  # the creation date in a key file
    "storage_gateway/cli/serve.py": {"os.environ"},
    "storage_gateway/cli/supervisor.py": {"os.environ"},  # what its workers inherit
    "storage_gateway/cli/worker.py": {"os.environ"},  # as cli/serve
    "storage_gateway/cli/transfer.py": {"os.environ"},  # the token, which no option may carry
    "storage_gateway/custody.py": {"datetime.now"},  # as cli/offline
    "storage_gateway/key_provider.py": {"datetime.now"},  # as cli/offline
    "storage_gateway/key_seed.py": {"datetime.now"},  # as cli/offline
    "storage_gateway/stores.py": {"datetime.now"},  # which signatures for S3 bear
    "storage_gateway/stress/children.py": {"os.environ"},  # what a run's processes inherit
}
STATE = re.compile(
    r"os\.(environb?|getenvb?|putenv)|(datetime\.)?datetime\.(now|utcnow|today)"
    r"|(datetime\.)?date\.today|time\.(time|time_ns|localtime|gmtime|ctime)|random\.\w+"
)
WORLD_MODULES = {"os", "time", "random"}


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_imports_point_down() -> None:
    run = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-logo", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stdout


def test_no_module_imports_itself_through_others() -> None:
    graph = grimp.build_graph(*OURS, cache_dir=None)
    order = graphlib.TopologicalSorter(
        {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    )

    order.prepare()  # raises CycleError, which names the cycle


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_functions_fit_a_screen() -> None:
    too_long = [
        f"{name(path)}:{function.lineno} {function.name}: {lines} lines"
        for path in python_files(*OURS, "tests", "bench")
        for function in functions(ast.parse(path.read_text()))
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > FUNCTION_LINES_MAX
    ]

    assert [] == too_long


def test_files_stay_small() -> None:
    too_long = [
        f"{name(path)}: {lines} lines"
        for path in python_files(*OURS, "tests", "bench")
        if (lines := len(path.read_text().splitlines()))
        > FILE_LINES_MAX.get(path.relative_to(ROOT).parts[0], FILE_LINES_MAX["source"])
    ]

    assert [] == too_long


def world_state(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and name of each use of the environment, the wall clock or global randomness."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and STATE.fullmatch(ast.unparse(node)):
            yield node.lineno, ast.unparse(node).removeprefix("datetime.datetime.")
        elif isinstance(node, ast.ImportFrom) and node.module in WORLD_MODULES:
            for alias in node.names:
                if STATE.fullmatch(f"{node.module}.{alias.name}"):
                    yield node.lineno, f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, "random") for alias in node.names if alias.name == "random")


def test_clock_environment_and_randomness_are_arguments() -> None:
    asked = [
        f"{name(path)}:{line} {what}"
        for path in python_files(*OURS)
        for line, what in world_state(ast.parse(path.read_text()))
        if what not in MAY_ASK.get(name(path), set())
    ]

    assert [] == asked


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.environ['A']",
        "from os import environ",
        "import os\nos.getenv('A')",
        "from datetime import datetime\ndatetime.now()",
        "import datetime\ndatetime.datetime.now()",
        "from time import time",
        "import time\ntime.time()",
        "import random",
        "from random import Random",
    ],
)
def test_the_rule_on_the_world_sees(source: str) -> None:
    assert list(world_state(ast.parse(source)))


def public_names(module: ModuleType) -> set[str]:
    return {
        bound
        for bound, value in vars(module).items()
        if not bound.startswith("_")
        and not isinstance(value, ModuleType)
        and type(value).__module__ != "__future__"
    }


@pytest.mark.parametrize("package", KERNELS)
def test_what_a_kernel_exports_is_what_it_names(package: str) -> None:
    module = importlib.import_module(package)

    assert public_names(module) == set(module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)


@pytest.mark.parametrize("package", KERNELS)
def test_what_a_kernel_exports_is_sorted(package: str) -> None:
    exported = importlib.import_module(package).__all__

    # Constants, then classes, then functions, as ruff's RUF022 sorts.
    assert exported == sorted(
        exported, key=lambda word: (0 if word.isupper() else 1 if word[0].isupper() else 2, word)
    )


def test_no_folder_of_tests_bears_the_name_of_a_package() -> None:
    # pytest would bind `crypto` to tests/.../crypto, see docs/decisions/0003-flat-packages.md.
    folders = [path for path in (ROOT / "tests").rglob("*") if path.is_dir()]

    assert [] == [name(path) for path in folders if path.name.casefold() in OURS]
    assert [] == [
        name(path)
        for path in folders
        if any(path.glob("*.py")) and not (path / "__init__.py").exists()
    ]


def test_every_test_file_says_its_goal() -> None:
    silent = [
        name(path)
        for path in python_files("tests")
        if path.name.startswith("test_") and not ast.get_docstring(ast.parse(path.read_text()))
    ]

    assert [] == silent


def text_files() -> Iterator[tuple[str, str]]:
    """Yield path and text of what git tracks, or of all files where this is no git checkout."""
    git = shutil.which("git")
    listed = git and subprocess.run(
        [git, "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed and listed.returncode == 0 and listed.stdout:
        paths = [ROOT / entry for entry in listed.stdout.split("\0") if entry]
    else:
        paths = [p for p in ROOT.rglob("*") if not LEFT_OUT & set(p.relative_to(ROOT).parts)]
    for path in paths:
        if path.is_file():
            try:
                yield name(path), path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


def test_nothing_names_a_path_of_one_machine() -> None:
    # Spelled in pieces, or this file would name them.
    one_machine = re.compile("|".join(("/" + "work/", "/" + "root/", r"/home/(?!user\b|\$)\w+/")))

    assert [] == [
        f"{path}:{text.count(chr(10), 0, found.start()) + 1} {found.group()}"
        for path, text in text_files()
        for found in one_machine.finditer(text)
    ]


def test_no_cache_server_holds_a_head() -> None:
    """docs/retention.md says so: what is searched after an erasure is all there is."""
    cache = re.compile(r"(?i)redis|valkey|memcache|aiocache|diskcache")
    imported = [
        (name(path), alias)
        for path in python_files(*OURS)
        for alias in _imported_modules(path)
        if cache.search(alias)
    ]
    locked = [
        line
        for lock in sorted((ROOT / "requirements").glob("*.lock"))
        for line in lock.read_text().splitlines()
        if cache.match(line)
    ]
    assert ([], []) == (imported, locked)


def _imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
