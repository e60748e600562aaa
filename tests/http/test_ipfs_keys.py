"""Goal: where nodes of IPFS are the only stores, which hold no copies of manifests, a key version
can be destroyed once nothing is wrapped for it; beside a folder that lacks copies it cannot.

Method: a real gateway over a real node; a key is rotated, and all wrapped anew.
"""

from pathlib import Path

from crypto import open_file
from tests.gateway import OpenSession, RunningGateway, open_session, running_gateway
from tests.http.steps import fetch, uploaded
from tests.http.test_ipfs import HORIZON_S, disk_backend, ipfs_backend
from tests.http.test_jobs import run_job
from tests.http.test_keys import keys_of, rotated, set_state
from tests.servers.ipfs import IpfsNode

AT_ONCE = {"key_retiring_s": 0, "key_disabled_s": 0, "late_write_horizon_s": HORIZON_S}
NEVER_S = 86400


async def _wrapped_anew(gateway: RunningGateway, session: OpenSession) -> None:
    """Rotate the user's key under an object, and wrap that anew."""
    urn = (await uploaded(gateway, session.path("t1"), session.user_token, b"a prompt"))["urn"]
    identity = await rotated(gateway, session)
    assert 200 == (await set_state(gateway, session, 1, "disabled")).status
    (await set_state(gateway, session, 1, "destroyed")).problem(409, "key_in_use")
    assert "done" == (await run_job(gateway, session.user_token))["state"]
    sealed = await fetch(gateway, urn, session.user_token)
    assert b"a prompt" == open_file(sealed.body, [identity])


async def test_a_version_is_destroyed_where_nodes_are_the_only_stores(
    tmp_path: Path, ipfs: IpfsNode
) -> None:
    async with running_gateway(tmp_path, backends=[ipfs_backend(ipfs)], **AT_ONCE) as gateway:
        session = await open_session(gateway)
        await _wrapped_anew(gateway, session)

        assert (await keys_of(gateway, session))[1]["safe_to_destroy"]
        assert 200 == (await set_state(gateway, session, 1, "destroyed")).status
    ipfs.clear()


async def test_a_version_stays_while_a_folder_beside_a_node_lacks_copies(
    tmp_path: Path, ipfs: IpfsNode
) -> None:
    stores = [disk_backend(tmp_path), ipfs_backend(ipfs)]
    # Nothing brings the copies of what a job has wrapped anew.
    never = AT_ONCE | {"recovery_interval_s": NEVER_S}
    async with running_gateway(tmp_path, backends=stores, write_quorum=1, **never) as gateway:
        session = await open_session(gateway)
        await _wrapped_anew(gateway, session)

        assert not (await keys_of(gateway, session))[1]["safe_to_destroy"]
        (await set_state(gateway, session, 1, "destroyed")).problem(409, "key_in_use")
    ipfs.clear()
