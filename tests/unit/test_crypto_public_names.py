"""Goal: the package shows exactly its public names, and is as pure as it says.
Method: `__all__` against what the package holds; the imports of its modules, read as syntax.
"""

from __future__ import annotations

import ast
import dataclasses
import types
from pathlib import Path

import crypto
from crypto import errors

PURE = {
    "__future__", "base64", "binascii", "collections", "crypto", "cryptography", "ctypes",
    "dataclasses", "datetime", "functools", "hashlib", "hmac", "io", "json", "mmap", "os", "re",
    "threading", "typing",
}  # fmt: skip


def test_all_is_exact_and_sorted() -> None:
    public = [
        name
        for name, value in vars(crypto).items()
        if not name.startswith("_")
        and not isinstance(value, types.ModuleType)
        and name != "annotations"
    ]

    # Constants, then classes, then functions.
    order = sorted(public, key=lambda word: (not word.isupper(), word[0].islower(), word))

    assert order == crypto.__all__


def test_every_error_is_public_and_in_the_drawn_tree() -> None:
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, Exception):
            assert name in crypto.__all__
            assert issubclass(value, crypto.CryptoError)
            assert name in (errors.__doc__ or "")


def test_records_are_frozen_and_slotted() -> None:
    records = [value for value in vars(crypto).values() if dataclasses.is_dataclass(value)]

    assert len(records) >= 9
    for record in records:
        assert vars(record)["__dataclass_params__"].frozen, record
        assert "__slots__" in vars(record), record


def _imports(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name.split(".")[0] for name in names}


def test_the_package_imports_nothing_that_does_io() -> None:
    for path in Path(crypto.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        used = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "os"
        }

        assert set() == _imports(tree) - PURE, path.name
        assert used <= {"urandom"}, path.name
