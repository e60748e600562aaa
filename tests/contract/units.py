"""Units that the tests of catalogs run: on `markers`, whose rows stand for themselves; objects."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from sqlalchemy import Connection, select

from storage_gateway.catalog import Catalog
from storage_gateway.catalog.tables import markers, objects, sessions

WITHIN_S = 20


def add(connection: Connection, name: str) -> str:
    connection.execute(markers.insert(), {"backend": name, "created_ms": 0})
    return name


def names(connection: Connection) -> list[str]:
    return sorted(connection.execute(select(markers.c.backend)).scalars())


class Held:
    """A unit that adds a row, and waits before its end until it is let go."""

    def __init__(self, name: str) -> None:
        self.entered, self.release = threading.Event(), threading.Event()
        self._name = name

    def __call__(self, connection: Connection) -> str:
        answer = add(connection, self._name)
        self.entered.set()
        assert self.release.wait(WITHIN_S)
        return answer


@contextmanager
def held(catalog: Catalog, name: str) -> Iterator[None]:
    """Keep a transaction that has added a row open for as long as the block takes."""
    unit = Held(name)
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(catalog.run_blocking, unit)
        try:
            assert unit.entered.wait(WITHIN_S)
            yield
        finally:
            unit.release.set()
        running.result(WITHIN_S)


def add_session(connection: Connection, session_id: str) -> None:
    connection.execute(
        sessions.insert(),
        {"session_id": session_id, "custody": "router", "key_class": "classic", "created_ms": 0},
    )


def object_named(number: int) -> str:
    """Return an object id, of the form that gateways make; they sort as their numbers."""
    tens, ones = divmod(number, 26)
    return f"{'o' * 30}{chr(97 + tens)}{chr(97 + ones)}"


def add_object(connection: Connection, number: int, session_id: str, head: bytes) -> None:
    connection.execute(
        objects.insert(),
        {
            "object_id": object_named(number),
            "session_id": session_id,
            "task_id": f"t{number:02}",
            "direction": "input",
            "miner": "",
            "state": "committed",
            "generation": 1,
            "payload_id": f"p{number:02}",
            "head": head,
            "cid": "c",
            "size": 1,
            "payload_size": 1,
            "sealed_size": 1,
            "key_class": "classic",
            "wrapped_for": [],
            "file_key_print": f"{number}".encode(),
            "sequence": number,
            "created_ms": 0,
            "erased_ms": None,
        },
    )
