"""Goal: the IPFS node of the tests is what the tests take it for. Method: ask it by its RPC, spoil
what it keeps, kill it in the middle of an import.
"""

import json
import socket
import time
from collections.abc import Iterator
from itertools import starmap

import pytest

from tests.contract.ipfs_node import (
    FORM,
    Block,
    car,
    directory,
    form,
    has,
    import_car,
    leaf,
    put,
    tree,
)
from tests.servers.ipfs import IpfsNode, ipfs_node

TREE = tree()
MANY = [leaf(bytes([number]) * 900) for number in range(120)]
"""More than the node collects before it writes any."""
ROOT = directory(**{str(number): block for number, block in enumerate(MANY)})
END = 100
"""Bytes of an archive that are held back: less than its root."""


@pytest.fixture(autouse=True)
def _empty(ipfs: IpfsNode) -> Iterator[None]:
    yield
    ipfs.revive()
    ipfs.clear()


def test_what_was_imported_outlives_a_kill(ipfs: IpfsNode) -> None:
    put(ipfs, TREE.wrapper, TREE.below)
    api = ipfs.api

    ipfs.kill()
    ipfs.start()

    assert api == ipfs.api
    assert {str(TREE.wrapper.cid)} == ipfs.pins()
    assert all(has(ipfs, block) for block in (TREE.wrapper, *TREE.below))


def request(node: IpfsNode, call: str, body: bytes = b"") -> socket.socket:
    """Send a call, the body of which may go on; return the connection that will have its answer."""
    headers = {"Host": "node", "Connection": "close", "Content-Length": str(len(body))}
    headers |= FORM if body else {}
    head = "".join(starmap("{}: {}\r\n".format, headers.items()))
    connection = socket.create_connection(("127.0.0.1", node.port), timeout=20)
    connection.sendall(f"POST /api/v0/{call} HTTP/1.1\r\n{head}\r\n".encode() + body[:-END])
    return connection


def begin_import(node: IpfsNode) -> tuple[socket.socket, bytes]:
    """Send all but the end of an archive; return when some of it is on disk, with that end."""
    body = form(car(ROOT, *MANY, ROOT))
    connection = request(node, "dag/import", body)
    until = time.monotonic() + 20
    while not node.block_file(MANY[0].cid).exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    return connection, body[-END:]


def test_a_kill_in_mid_import_leaves_blocks_and_no_pin(ipfs: IpfsNode) -> None:
    connection, _ = begin_import(ipfs)
    with connection:
        ipfs.kill()
    ipfs.start()

    assert set() == ipfs.pins()
    assert has(ipfs, MANY[0])
    put(ipfs, ROOT, MANY)
    assert {str(ROOT.cid)} == ipfs.pins()
    assert [] == ipfs.gc()


def test_an_import_ends_with_its_client_and_gc_goes_on(ipfs: IpfsNode) -> None:
    connection, _ = begin_import(ipfs)
    connection.close()

    assert MANY[0].cid in ipfs.gc()
    assert set() == ipfs.pins()


def test_gc_waits_for_an_import_and_takes_nothing_of_it(ipfs: IpfsNode) -> None:
    connection, end = begin_import(ipfs)
    with connection, request(ipfs, "repo/gc") as collecting:
        collecting.settimeout(0.5)  # far longer than it takes when nothing holds it up
        with pytest.raises(TimeoutError):
            collecting.recv(1)
        collecting.settimeout(20)
        connection.sendall(end)
        assert b'"PinErrorMsg":""' in answer(connection)
        collected = answer(collecting)
        assert collected.startswith(b"HTTP/1.1 200 ")
        assert b"bafkrei" not in collected

    assert all(has(ipfs, block) for block in (ROOT, *MANY))


def answer(connection: socket.socket) -> bytes:
    """Return all that comes, to the end."""
    with connection.makefile("rb") as file:
        return file.read()


def test_a_block_is_one_file_that_can_be_spoilt(ipfs: IpfsNode) -> None:
    block = TREE.leaves[0]
    put(ipfs, block)
    file = ipfs.block_file(block.cid)
    assert block.content == file.read_bytes()

    file.write_bytes(b"spoilt")

    assert (200, b"spoilt") == ipfs.ask(f"block/get?arg={block.cid}")
    put(ipfs, block)
    # Kubo writes it anew where its setting Datastore.WriteThrough is on.
    assert b"spoilt" == file.read_bytes()


def test_a_block_that_was_lost_comes_back_with_an_import(ipfs: IpfsNode) -> None:
    block = TREE.leaves[0]
    put(ipfs, block)
    ipfs.block_file(block.cid).unlink()
    assert not has(ipfs, block)

    put(ipfs, block)

    assert has(ipfs, block)


def test_nodes_do_not_meet_and_leave_nothing_behind(ipfs: IpfsNode) -> None:
    put(ipfs, TREE.leaves[0])

    with ipfs_node(waits=True) as other:
        status, answer = other.ask(f"block/get?arg={TREE.leaves[0].cid}&timeout=100ms")
        assert (500, "Failed to get block: request timed out") == (
            status,
            json.loads(answer)["Message"],
        )
        assert [] == json.loads(other.ask("id")[1])["Addresses"]
        folder = other.folder

    assert not folder.exists()


def test_a_block_that_an_archive_names_wrongly_is_taken(ipfs: IpfsNode) -> None:
    """Kubo refuses it; who relies on that would not be found out here."""
    wrong = Block(TREE.leaves[0].cid, b"wrong")

    assert 200 == import_car(ipfs, car(wrong, wrong))[0]
    assert (200, b"wrong") == ipfs.ask(f"block/get?arg={wrong.cid}")
