"""Goal: settings of buckets say all that is needed, safely, or the gateway does not start.

Method: a table of faults with the word that each error must say; the network's variables alone,
completing backends, and in part; what is shown of a configuration with secrets in it.
"""

import json
from pathlib import Path

import pytest

from crypto import Secret
from storage_gateway.backend_settings import AnyBackend, IPFSBackend, IPFSGatewayBackend
from storage_gateway.backends.s3_client import Proxy
from storage_gateway.config import ConfigError, LocalBackend, S3Backend, load_config, warnings_of
from storage_gateway.stores import (
    backends_of,
    gateway_settings_of,
    kubo_settings_of,
    s3_settings_of,
)
from storage_gateway.stress.children import _environment

S3: dict[str, object] = {
    "kind": "s3",
    "name": "bucket",
    "endpoint": "https://s3.example",
    "bucket": "payloads",
    "access_key": "AK",
    "secret_key": "geheim",
}
OFFCHAIN = {
    "OFFCHAIN_S3_ENDPOINT_URL": "https://s3.network.example",
    "OFFCHAIN_S3_REGION": "us-east-1",
    "OFFCHAIN_S3_BUCKET_NAME": "results",
    "OFFCHAIN_S3_ACCESS_KEY": "NAK",
    "OFFCHAIN_S3_SECRET_KEY": "netzgeheim",
}


def backends(
    *said: dict[str, object], environment: dict[str, str] | None = None, **settings: object
) -> tuple[AnyBackend, ...]:
    options: dict[str, object] = {"data_dir": "/srv/gateway", **settings}
    if said:
        options["backends"] = list(said)
    return load_config(file=None, environment=environment or {}, options=options).backends


def test_a_few_lines_are_enough() -> None:
    (backend,) = backends(S3)

    assert isinstance(backend, S3Backend)
    assert ("us-east-1", True, "bucket") == (backend.region, backend.path_style, backend.domain)
    assert Secret(b"geheim") == backend.secret_key


def test_all_of_it_can_come_from_one_variable() -> None:
    (backend,) = backends(environment={"GATEWAY_BACKENDS": json.dumps([S3])})

    assert (backend,) == backends(S3)


def test_a_secret_is_not_shown() -> None:
    config = load_config(
        file=None, environment=OFFCHAIN, options={"data_dir": "/srv", "backends": [S3]}
    )
    settings = s3_settings_of(S3Backend(**{k: v for k, v in _of(S3).items() if k != "kind"}))  # type: ignore[arg-type]

    assert "geheim" not in repr(config)
    assert "geheim" not in repr(settings)


def _of(said: dict[str, object]) -> dict[str, object]:
    return said | {"secret_key": Secret(str(said["secret_key"]).encode())}


FAULTS: list[tuple[dict[str, object], str]] = [
    ({"endpoint": "s3.example"}, "endpoint must be https://HOST"),
    ({"endpoint": "ftp://s3.example"}, "endpoint must be"),
    ({"endpoint": "https://"}, "endpoint must be"),
    ({"endpoint": "https://s3.example/bucket"}, "without bucket, credentials or path"),
    ({"endpoint": "https://s3.example?x=1"}, "endpoint must be"),
    ({"endpoint": "https://user:geheim@s3.example"}, "endpoint must be"),
    ({"endpoint": "https://:geheim@s3.example"}, "endpoint must be"),
    ({"endpoint": "https://s3.example#"}, "endpoint must be"),
    ({"endpoint": "https://s3.example?"}, "endpoint must be"),
    ({"endpoint": "https://s3.example:99999"}, "endpoint must be"),
    ({"endpoint": "https://s3.example:abc"}, "endpoint must be"),
    ({"access_key": "AK\n"}, "access_key"),
    ({"endpoint": "http://s3.example"}, "not protected: say https"),
    ({"endpoint": "http://10.0.0.1:9000"}, "not protected"),
    ({"bucket": "No_Bucket"}, "bucket"),
    ({"bucket": ""}, "bucket"),
    ({"region": ""}, "region"),
    ({"access_key": ""}, "access_key"),
    ({"secret_key": ""}, "secret_key"),
    ({"secret_key_file": "/etc/secret"}, "in one of them only"),
    ({"deadline_s": 900}, r"deadline_s \(900\) must be below late_write_horizon_s \(900\)"),
    ({"deadline_s": 0}, "deadline_s"),
    ({"connections_max": 0}, "connections_max"),
    ({"path": "/srv"}, "path"),
    ({"proxy": "proxy.example:3128"}, "proxy must be http://HOST:PORT"),
    ({"proxy": ""}, "proxy must be"),
    ({"proxy": "socks5://proxy.example"}, "proxy must be"),
    ({"proxy": "http://:3128"}, "proxy must be"),
    ({"proxy": "http://proxy.example:0x50"}, "proxy must be"),
    ({"proxy": "http://proxy.example/path"}, "proxy must be"),
    ({"proxy": "http://proxy.example?x"}, "proxy must be"),
    ({"proxy": "http://pro xy.example"}, "proxy must be"),
    ({"proxy": "http://proxy.example\r\n"}, "proxy must be"),
    ({"proxy": "http://user:geheim@proxy.example"}, "into proxy_credentials_file"),
    ({"proxy": "http://geheim@proxy.example"}, "into proxy_credentials_file"),
    ({"proxy_credentials_file": "/etc/proxy"}, "for a proxy, which is not set"),
    (
        {"endpoint": "http://127.0.0.1:8333", "proxy": "https://proxy.example"},
        "the proxy is on another one",
    ),
]


@pytest.mark.parametrize(("changes", "word"), FAULTS, ids=str)
def test_a_fault_is_refused_and_named(changes: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=word) as caught:
        backends(S3 | changes)

    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("missing", ["endpoint", "bucket", "access_key", "secret_key"])
def test_what_is_missing_is_said(missing: str) -> None:
    with pytest.raises(ConfigError, match=missing):
        backends({name: value for name, value in S3.items() if name != missing})


def test_two_backends_are_never_in_one_bucket() -> None:
    for same in ("https://s3.example/", "https://S3.Example", "https://s3.example:443"):
        with pytest.raises(ConfigError, match=r"two backends lie in bucket payloads at https://s3"):
            backends(S3, S3 | {"name": "other", "endpoint": same})


def test_http_is_for_this_machine() -> None:
    (backend,) = backends(S3 | {"endpoint": "http://127.0.0.1:8333"})

    assert isinstance(backend, S3Backend)


def test_the_networks_variables_alone_make_a_backend() -> None:
    (backend,) = backends(environment=OFFCHAIN)

    assert isinstance(backend, S3Backend)
    assert ("offchain", "https://s3.network.example", "results", "NAK") == (
        backend.name,
        backend.endpoint,
        backend.bucket,
        backend.access_key,
    )
    assert Secret(b"netzgeheim") == backend.secret_key


@pytest.mark.parametrize("missing", sorted(set(OFFCHAIN) - {"OFFCHAIN_S3_REGION"}))
def test_a_part_of_the_networks_variables_is_refused(missing: str) -> None:
    with pytest.raises(ConfigError, match=f"but not {missing}") as caught:
        backends(environment={n: v for n, v in OFFCHAIN.items() if n != missing})

    assert "geheim" not in str(caught.value)


def test_the_networks_variables_complete_a_backend(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    open_ended: dict[str, object] = {"kind": "s3", "name": "b", "bucket": "mine"}
    local: dict[str, object] = {"kind": "local", "name": "disk", "path": "/srv/disk"}

    one, disk = backends(open_ended, local, environment=OFFCHAIN)
    (other,) = backends(open_ended | {"secret_key_file": str(secret)}, environment=OFFCHAIN)

    assert isinstance(one, S3Backend)
    assert isinstance(other, S3Backend)
    assert isinstance(disk, LocalBackend)
    assert ("mine", "NAK", Secret(b"netzgeheim")) == (one.bucket, one.access_key, one.secret_key)
    assert (None, secret) == (other.secret_key, other.secret_key_file)


def test_a_secret_comes_from_its_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("aus der Datei\n")
    secret.chmod(0o600)
    said = {name: value for name, value in S3.items() if name != "secret_key"}
    (backend,) = backends(said | {"secret_key_file": str(secret)})
    assert isinstance(backend, S3Backend)

    assert Secret(b"aus der Datei") == s3_settings_of(backend).credentials.secret_key
    secret.write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        s3_settings_of(backend)
    secret.chmod(0o644)
    with pytest.raises(ConfigError, match="may be read by others"):
        s3_settings_of(backend)


def test_a_proxy_is_there_only_when_it_is_set() -> None:
    (none,) = backends(S3, environment={"HTTPS_PROXY": "http://proxy.example:3128"})
    (one,) = backends(S3 | {"proxy": "http://proxy.example:3128"})
    (here,) = backends(S3 | {"endpoint": "http://[::1]:8333", "proxy": "http://127.0.0.1:3128"})

    proxies = [s3_settings_of(b).proxy for b in (none, one, here) if isinstance(b, S3Backend)]
    assert [
        None,
        Proxy("http://proxy.example:3128"),
        Proxy("http://127.0.0.1:3128"),
    ] == proxies


def test_who_may_use_a_proxy_comes_from_a_file_and_is_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "proxy"
    file.write_text("torwart:sesam:geheim\n")
    file.chmod(0o600)
    said = {"proxy": "https://proxy.example", "proxy_credentials_file": str(file)}
    (backend,) = backends(S3 | said)
    assert isinstance(backend, S3Backend)

    settings = s3_settings_of(backend)
    assert settings.proxy is not None
    assert Secret(b"torwart:sesam:geheim") == settings.proxy.credentials
    assert not [word for word in ("sesam", "torwart") if word in f"{settings!r} {backend!r}"]
    for wrong in ("", "torwart", ":sesam"):
        file.write_text(f"{wrong}\n")
        with pytest.raises(ConfigError, match="must hold USER:PASSWORD") as caught:
            s3_settings_of(backend)
        assert "sesam" not in str(caught.value)
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="may be read by others"):
        s3_settings_of(backend)


@pytest.mark.parametrize(
    ("answer_within_s", "named"),
    [(9.9, []), (10, ["backend bucket"]), (60, ["backend bucket", "backend slow"])],
)
def test_a_bucket_that_fails_before_an_answer_is_due_is_told_of(
    answer_within_s: float, named: list[str]
) -> None:
    quick, slow = (
        S3 | {"deadline_s": 10},
        S3 | {"name": "slow", "bucket": "other", "deadline_s": 60},
    )
    disk: dict[str, object] = {"kind": "local", "name": "disk", "path": "/srv/disk"}

    def warned(*said: dict[str, object], **settings: object) -> list[str]:
        options = {"data_dir": "/srv", "backends": list(said), "answer_within_s": answer_within_s}
        return warnings_of(load_config(file=None, environment={}, options=options | settings))

    told = warned(quick, disk, slow)

    assert named == [why.partition(":")[0] for why in told]
    assert all("Lower answer_within_s" in why for why in told)
    assert [] == warned(quick), "with one store no answer is late"
    assert [] == warned(quick, disk, slow, write_quorum=1), "the first one is the quorum"


def test_processes_of_a_stress_run_do_not_inherit_the_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in OFFCHAIN.items():
        monkeypatch.setenv(name, value)

    inherited = _environment()

    assert not set(OFFCHAIN) & set(inherited)
    assert "PATH" in inherited


IPFS: dict[str, object] = {"kind": "ipfs", "name": "node", "api": "http://127.0.0.1:5001"}


def test_a_node_needs_its_api_alone() -> None:
    (backend,) = backends(IPFS)

    assert isinstance(backend, IPFSBackend)
    assert ("node", 0.9, None) == (backend.domain, backend.fill_max, backend.authorization_file)
    settings = kubo_settings_of(backend)
    assert ("http://127.0.0.1:5001", None) == (settings.api, settings.authorization)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"api": "127.0.0.1:5001"}, "api must be https://HOST"),
        ({"api": "http://127.0.0.1:5001/api/v0"}, "without /api/v0"),
        ({"api": "https://user:geheim@node.example"}, "into authorization_file"),
        ({"api": "http://node.example:5001"}, "not protected: say https"),
        ({"fill_max": 0}, "fill_max"),
        ({"fill_max": 1.5}, "fill_max"),
        ({"connections_max": 0}, "connections_max"),
        ({"deadline_s": 900}, r"deadline_s \(900\) must be below late_write_horizon_s"),
        ({"bucket": "b"}, "bucket"),
    ],
    ids=str,
)
def test_a_fault_of_a_node_is_refused_and_named(changes: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=word) as caught:
        backends(IPFS | changes)

    assert "geheim" not in str(caught.value)


def test_two_backends_are_never_one_node() -> None:
    for same in ("http://127.0.0.1:5001/", "http://localhost:5001", "http://[::1]:5001"):
        with pytest.raises(ConfigError, match=r"lie in the node at http://localhost:5001"):
            backends(IPFS, IPFS | {"name": "other", "api": same})


def test_what_a_node_asks_for_comes_from_a_file_and_is_not_shown(tmp_path: Path) -> None:
    secret = tmp_path / "authorization"
    secret.write_text("Basic geheim\n")
    secret.chmod(0o600)
    (backend,) = backends(IPFS | {"authorization_file": str(secret)})
    assert isinstance(backend, IPFSBackend)

    settings = kubo_settings_of(backend)
    assert Secret(b"Basic geheim") == settings.authorization
    assert "geheim" not in repr(settings)
    for wrong in ("\n", "Basic geheim\r\nHost: x", "Bäsic"):
        secret.write_text(wrong)
        with pytest.raises(ConfigError, match="value of the Authorization header") as caught:
            kubo_settings_of(backend)
        assert "geheim" not in str(caught.value)


GATEWAY: dict[str, object] = {
    "kind": "ipfs-gateway",
    "name": "stranger",
    "url": "https://gateway.example/",
}


def test_a_gateway_needs_its_url_alone_and_is_no_store() -> None:
    config = load_config(
        file=None, environment={}, options={"data_dir": "/data", "backends": [GATEWAY, IPFS]}
    )

    (gateway,) = config.gateways
    assert isinstance(gateway, IPFSGatewayBackend)
    assert "https://gateway.example" == gateway_settings_of(gateway).url
    assert ["node"] == [store.name for store in config.stores]
    assert 1 == config.quorum, "it is no failure domain"
    assert ("node",) == tuple(store.name for store in backends_of(config))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"url": "gateway.example"}, "url must be https://HOST"),
        ({"url": "https://gateway.example/ipfs"}, "without /ipfs"),
        ({"url": "https://user:geheim@gateway.example"}, "without /ipfs and without credentials"),
        ({"url": "http://gateway.example"}, "not protected: say https"),
        ({"failure_domain": "far"}, "failure_domain"),
        ({"deadline_s": 0}, "deadline_s"),
        ({"connections_max": 0}, "connections_max"),
        ({"name": "node"}, "two backends are called node"),
    ],
    ids=str,
)
def test_a_fault_of_a_gateway_is_refused_and_named(changes: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=word) as caught:
        backends(IPFS, GATEWAY | changes)

    assert "geheim" not in str(caught.value)


def test_a_gateway_on_this_machine_is_asked_over_http() -> None:
    _, gateway = backends(IPFS, GATEWAY | {"url": "http://127.0.0.1:8080"})

    assert "the gateway at http://localhost:8080" == gateway.place


def test_a_gateway_is_refused_where_nothing_comes_to_ipfs() -> None:
    disk: dict[str, object] = {"kind": "local", "name": "disk", "path": "/disk"}

    with pytest.raises(ConfigError, match="no backend of kind ipfs brings payloads there"):
        backends(disk, GATEWAY)
    with pytest.raises(ConfigError, match="no backend of kind ipfs brings payloads there"):
        backends(GATEWAY)
