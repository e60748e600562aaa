"""Goal: what the calls of an IPFS node's RPC answer, of which this software asks for some, is as
the backend takes it. Method: each call by hand, when all is well and when it is not.

Where js-ipfs and Kubo differ, the test says so: by Kubo's documentation of the RPC and its source
(core/commands), for it was not run.
"""

import json
from collections.abc import Iterator
from typing import Any

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
    refusal,
    tree,
)
from tests.servers.ipfs import IpfsNode

TREE = tree()
MISSING = leaf(b"nobody has it")
HOLED = directory(missing=MISSING)


@pytest.fixture(autouse=True)
def _empty(ipfs: IpfsNode) -> Iterator[None]:
    yield
    ipfs.clear()


def told(node: IpfsNode, call: str) -> dict[str, Any]:
    status, answer = node.ask(call)
    assert 200 == status, answer
    result: dict[str, Any] = json.loads(answer)
    return result


def test_an_import_answers_a_line_for_each_root_that_is_pinned(ipfs: IpfsNode) -> None:
    """Kubo adds a line with `Stats` to either, where ``stats=true`` asks for it."""
    archive = car(TREE.wrapper, TREE.wrapper, *TREE.below)

    unpinned = import_car(ipfs, archive, "pin-roots=false&stats=true")
    pinned = import_car(ipfs, archive, "pin-roots=true&stats=true")

    assert (200, b"") == unpinned
    root = {"Cid": {"/": str(TREE.wrapper.cid)}, "PinErrorMsg": ""}
    assert (200, [{"Root": root}]) == (pinned[0], [json.loads(pinned[1])])
    assert {str(TREE.wrapper.cid)} == ipfs.pins()


@pytest.mark.parametrize("blocks", [[], [HOLED]], ids=["root", "below"])
def test_a_root_whose_tree_is_not_whole_is_told_of_and_not_pinned(
    ipfs: IpfsNode, blocks: list[Block]
) -> None:
    status, answer = import_car(ipfs, car(HOLED, *blocks))

    assert 200 == status
    assert json.loads(answer)["Root"]["PinErrorMsg"]
    assert set() == ipfs.pins()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (form(car(HOLED, HOLED)[:-1]), "Unexpected end of data"),
        (form(b"no archive"), "Unexpected end of data"),
        (form(car(HOLED, HOLED))[:-10], "stream ended unexpectedly"),
        (form(car(HOLED, HOLED), part_type=b""), "No content-type in multipart part"),
    ],
    ids=["archive cut short", "no archive", "form cut short", "part without a type"],
)
def test_what_is_no_whole_archive_is_refused(ipfs: IpfsNode, body: bytes, reason: str) -> None:
    """Kubo's reasons have other words, and it takes a part without a type."""
    status, message = refusal(ipfs.ask("dag/import", body, FORM))

    assert 500 == status
    assert reason in message


@pytest.mark.parametrize("call", ["block/get", "block/stat", "pin/add", "pin/rm", "cat"])
def test_what_is_missing_is_refused_at_once(ipfs: IpfsNode, call: str) -> None:
    """Kubo's reason ends with "block was not found locally (offline): ipld: could not find ..."."""
    status, message = refusal(ipfs.ask(f"{call}?arg={MISSING.cid}&offline=true"))

    assert 500 == status
    assert ("not pinned" if call == "pin/rm" else "ENOENT") in message


def test_a_block_is_answered_as_it_is(ipfs: IpfsNode) -> None:
    put(ipfs, TREE.wrapper, TREE.below)
    block = TREE.leaves[1]

    assert (200, block.content) == ipfs.ask(f"block/get?arg={block.cid}&offline=true")
    stat = told(ipfs, f"block/stat?arg={block.cid}&offline=true&cid-base=base32")
    assert {"Key": str(block.cid), "Size": len(block.content)} == stat
    # Kubo's is base32 for every CID of version 1 without being asked.
    assert told(ipfs, f"block/stat?arg={block.cid}")["Key"].startswith("zb2r")
    assert (200, block.content[5:12]) == ipfs.ask(f"cat?arg={block.cid}&offset=5&length=7")
    whole = car(TREE.shared, *TREE.below)
    assert (200, whole) == ipfs.ask(f"dag/export?arg={TREE.shared.cid}")


def test_pins_of_each_kind_are_told_apart(ipfs: IpfsNode) -> None:
    put(ipfs, TREE.wrapper, TREE.below)
    told(ipfs, f"pin/add?arg={TREE.leaves[0].cid}&recursive=false")

    assert {str(TREE.wrapper.cid)} == ipfs.pins("recursive")
    assert {str(TREE.leaves[0].cid)} == ipfs.pins("direct")
    one = told(ipfs, f"pin/ls?arg={TREE.wrapper.cid}&type=recursive&cid-base=base32")
    assert {"Keys": {str(TREE.wrapper.cid): {"Type": "recursive"}}} == one  # Kubo: "Name" as well
    below = told(ipfs, f"pin/ls?arg={TREE.shared.cid}&cid-base=base32")
    assert f"indirect through {TREE.wrapper.cid}" == below["Keys"][str(TREE.shared.cid)]["Type"]
    for block in (TREE.shared, TREE.leaves[0], MISSING):
        status, message = refusal(ipfs.ask(f"pin/ls?arg={block.cid}&type=recursive"))
        assert (500, f"path '{block.cid}' is not pinned") == (status, message)


def test_a_shared_tree_lives_as_long_as_one_pin_holds_it(ipfs: IpfsNode) -> None:
    put(ipfs, TREE.wrapper, TREE.below)
    put(ipfs, TREE.other)

    told(ipfs, f"pin/rm?arg={TREE.wrapper.cid}")

    assert [TREE.wrapper.cid.digest] == [cid.digest for cid in ipfs.gc()]
    assert all(has(ipfs, block) for block in (TREE.other, *TREE.below))
    told(ipfs, f"pin/rm?arg={TREE.other.cid}")
    ipfs.gc()
    assert not any(has(ipfs, block) for block in (TREE.other, *TREE.below))


def test_pins_below_ours_outlive_ours(ipfs: IpfsNode) -> None:
    put(ipfs, TREE.wrapper, TREE.below)
    told(ipfs, f"pin/add?arg={TREE.shared.cid}")
    told(ipfs, f"pin/add?arg={TREE.leaves[0].cid}&recursive=false")

    told(ipfs, f"pin/rm?arg={TREE.wrapper.cid}")
    ipfs.gc()

    assert all(has(ipfs, block) for block in TREE.below)
    told(ipfs, f"pin/rm?arg={TREE.shared.cid}")
    ipfs.gc()
    assert [False, True, False] == [has(ipfs, block) for block in TREE.below]


def test_a_cid_has_one_pin_whoever_made_it(ipfs: IpfsNode) -> None:
    """What is pinned already must not become ours: to remove ours would remove that pin."""
    root = TREE.leaves[0]
    put(ipfs, root, pin=False)
    told(ipfs, f"pin/add?arg={root.cid}&recursive=false")

    put(ipfs, root)
    assert (set(), {str(root.cid)}) == (ipfs.pins("direct"), ipfs.pins("recursive"))
    told(ipfs, f"pin/rm?arg={root.cid}")
    assert set() == ipfs.pins("direct") | ipfs.pins("recursive")

    told(ipfs, f"pin/add?arg={root.cid}&recursive=false")
    told(ipfs, f"pin/rm?arg={root.cid}&recursive=true")
    assert set() == ipfs.pins("direct")


def test_what_is_not_pinned_itself_cannot_be_unpinned(ipfs: IpfsNode) -> None:
    """Kubo's reason is "not pinned or pinned indirectly" for both."""
    put(ipfs, TREE.wrapper, TREE.below)

    for block in (TREE.shared, MISSING):
        status, message = refusal(ipfs.ask(f"pin/rm?arg={block.cid}"))
        assert 500 == status
        assert "pinned" in message
    assert {str(TREE.wrapper.cid)} == ipfs.pins()


def test_the_node_tells_of_itself_and_its_storage(ipfs: IpfsNode) -> None:
    put(ipfs, TREE.leaves[1])

    stat = told(ipfs, "repo/stat")

    # Kubo's are numbers, and its limit is the setting Datastore.StorageMax.
    assert int(stat["RepoSize"]) >= len(TREE.leaves[1].content)
    assert int(stat["StorageMax"]) > int(stat["RepoSize"])
    assert {"ID", "AgentVersion"} <= set(told(ipfs, "id"))
    assert "0.18.1" == told(ipfs, "version")["Version"]


def test_what_is_no_call_is_refused(ipfs: IpfsNode) -> None:
    get = ipfs.ask("id", method="GET")

    assert (405, "Method Not Allowed") == refusal(get)
    assert (404, "Not Found") == refusal(ipfs.ask("no/such/call"))
    assert 400 == refusal(ipfs.ask("block/get?arg=no-cid"))[0]
    assert 403 == refusal(ipfs.ask("id", headers={"Origin": "http://elsewhere.example"}))[0]
