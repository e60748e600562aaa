"""Goal: the IPFS node of the tests is what the tests take it for. Method: ask it by its RPC, and
spoil what it keeps.
"""

import json
from hashlib import sha256

from tests.servers.ipfs import IpfsNode, ipfs_node

FORM = {"Content-Type": "multipart/form-data; boundary=boundary"}
SHA2_256 = b"\x12\x20"


def form(content: bytes) -> bytes:
    return (
        b'--boundary\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n" + content + b"\r\n--boundary--\r\n"
    )


def put(node: IpfsNode, content: bytes) -> str:
    status, answer = node.ask("block/put?format=raw&cid-base=base32", form(content), FORM)
    assert 200 == status, answer
    return str(json.loads(answer)["Key"])


def test_a_pinned_block_outlives_a_kill_and_an_unpinned_one_goes_with_gc(ipfs: IpfsNode) -> None:
    kept, gone = put(ipfs, b"kept"), put(ipfs, b"gone")
    api = ipfs.api
    assert 200 == ipfs.ask(f"pin/add?arg={kept}")[0]

    ipfs.kill()
    ipfs.start()

    assert (api, (200, b"gone")) == (ipfs.api, ipfs.ask(f"block/get?arg={gone}"))
    assert gone in ipfs.gc()
    assert (200, b"kept") == ipfs.ask(f"block/get?arg={kept}")
    assert 500 == ipfs.ask(f"block/get?arg={gone}")[0]


def test_a_block_is_one_file_that_can_be_spoilt(ipfs: IpfsNode) -> None:
    cid = put(ipfs, b"content")
    file = ipfs.block_file(SHA2_256 + sha256(b"content").digest())
    assert b"content" == file.read_bytes()

    file.write_bytes(b"cOntent")

    assert (200, b"cOntent") == ipfs.ask(f"block/get?arg={cid}")


def test_nodes_do_not_meet_and_leave_nothing_behind(ipfs: IpfsNode) -> None:
    cid = put(ipfs, b"here")

    with ipfs_node() as other:
        assert 500 == other.ask(f"block/get?arg={cid}")[0]
        folder = other.folder

    assert not folder.exists()
