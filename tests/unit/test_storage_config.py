"""Goal: a setting is what it says, or the gateway does not start; nothing is ignored or guessed.

Method: each source alone and over the others, a table of faults with the word that each error must
say, and every field through the environment.
"""

import os
from pathlib import Path

import msgspec
import pytest

from retention import FOREVER, Mode, Policy
from storage_gateway.config import (
    Config,
    ConfigError,
    LocalBackend,
    load_config,
)
from storage_gateway.retention_settings import PolicySettings

DATA_DIR: dict[str, object] = {"data_dir": "/srv/gateway"}

BACKENDS = '[{"kind":"local","name":"one","path":"/srv/one","failure_domain":"rack"}]'
EVERY_SETTING = {
    "backends": BACKENDS,
    "write_quorum": "1",
    "data_dir": "/srv/gateway",
    "catalog_url": "postgresql://gateway@[::1]:5432/catalog",
    "catalog_password_file": "/etc/password",
    "host": "::1",
    "admin_port": "9420",
    "workers": "3",
    "port": "8420",
    "tls_certificate": "/etc/cert.pem",
    "tls_key": "/etc/key.pem",
    "behind_proxy": "10.0.0.0/8",
    "log_level": "debug",
    "object_bytes_max": "1000",
    "json_bytes_max": "2000",
    "miners_max": "5",
    "jobs_max": "6",
    "page_max": "10",
    "reserve_bytes": "0",
    "connections_max": "7",
    "min_rate": "1",
    "write_memory_bytes": "2097152",
    "read_memory_bytes": "2097153",
    "memory_wait_s": "0.75",
    "body_idle_s": "1.5",
    "answer_within_s": "3",
    "decide_within_s": "4",
    "drain_s": "2",
    "token_lifetime_s": "60",
    "reservation_s": "61",
    "kept_header_s": "62",
    "instance_lease_s": "4",
    "instance_renew_s": "2",
    "recovery_interval_s": "0.5",
    "repair_interval_s": "0.5",
    "scrub_interval_s": "0.5",
    "scrub_bytes_per_s": "1000",
    "repair_settled_s": "0.5",
    "scrub_round_s": "0.5",
    "header_copies": "1",
    "recovery_recipient": "age1x",
    "gc_interval_s": "0.5",
    "gc_dwell_s": "2",
    "leftovers_interval_s": "0.5",
    "late_write_horizon_s": "0.25",
    "key_provider": "file",
    "key_passphrase_file": "/etc/passphrase",
    "key_seed": "Secret(redacted)",  # as all secrets are shown
    "key_seed_file": "/etc/seed",
    "key_transit_url": "https://bao.example",
    "key_transit_mount": "keys/transit",
    "key_transit_key": "router",
    "key_transit_token_file": "/etc/token",
    "key_transit_ca_file": "/etc/ca.pem",
    "key_timeout_s": "0.25",
    "key_refresh_s": "0.5",
    "key_fresh_s": "2",
    "key_ttl_s": "3",
    "key_provider_away": "seal",
    "key_retiring_s": "4",
    "key_disabled_s": "5",
    "read_grace_s": "6",
    "retention_policies": '[{"name":"brief","default_s":60,"longest_s":600,"grace_s":0}]',
    "retention_policy": "brief",
    "sweep_interval_s": "0.5",
    "sweep_share": "0.25",
    "sweep_leap_s": "7",
    "serve_ipfs": "True",
    "ipfs_memory_bytes": "9000000",
    "enable_stress": "True",
    "stress_duration_s_max": "30",
    "stress_clients_max": "9",
    "stress_body_bytes_max": "3000",
    "stress_bytes_max": "4000",
}


def load(
    options: dict[str, object] | None = None,
    environment: dict[str, str] | None = None,
    file: Path | None = None,
) -> Config:
    return load_config(file=file, environment=environment or {}, options=options or {})


def test_a_data_folder_is_all_that_must_be_said() -> None:
    config = load({"data_dir": Path("d")})

    assert Path("d") == config.data_dir
    assert ("127.0.0.1", 0, None) == (config.host, config.port, config.behind_proxy)


def test_every_setting_can_come_from_the_environment() -> None:
    assert set(EVERY_SETTING) == set(Config.__struct_fields__)

    config = load(environment={f"GATEWAY_{k.upper()}": v for k, v in EVERY_SETTING.items()})

    backend = LocalBackend(name="one", path=Path("/srv/one"), failure_domain="rack")
    policy = PolicySettings(name="brief", default_s=60, longest_s=600, grace_s=0)
    lists = {"backends": str((backend,)), "retention_policies": str((policy,))}
    assert EVERY_SETTING | lists == {
        name: str(value).removesuffix(".0")
        for name, value in msgspec.structs.asdict(config).items()
    }


def test_options_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text('data_dir = "from file"\nport = 1\nlog_level = "debug"\ndrain_s = 3\n')
    environment = {"GATEWAY_PORT": "2", "GATEWAY_LOG_LEVEL": "warning"}

    config = load({"port": 3, "drain_s": None}, environment, file)

    assert (Path("from file"), 3, "warning", 3.0) == (
        config.data_dir,
        config.port,
        config.log_level,
        config.drain_s,
    )


def test_what_a_policy_leaves_out_is_for_ever_and_has_a_week_of_grace() -> None:
    config = load(DATA_DIR | {"retention_policies": [{"name": "kept"}, {"name": "forever"}]})

    assert "forever" == config.retention_policy == load(DATA_DIR).retention_policy
    assert {
        "forever": FOREVER,
        "kept": Policy("kept", None, None, 7 * 86400, Mode.GOVERNANCE),
    } == config.policies


@pytest.mark.parametrize("field", ["backends", "retention_policies"])
def test_a_list_in_a_variable_is_json(field: str) -> None:
    with pytest.raises(ConfigError, match=f"GATEWAY_{field.upper()} must be JSON"):
        load(DATA_DIR, {f"GATEWAY_{field.upper()}": "[{"})


def test_variables_of_others_are_let_be() -> None:
    environment = {"GATEWAYS": "x", "PATH": "x", "GATEWAY_TOKEN": "x", "GATEWAY_URL": "x"}

    assert load(DATA_DIR, environment) == load(DATA_DIR)


ONE, TWO = ({"kind": "local", "name": name, "path": f"/srv/{name}"} for name in ("one", "two"))


@pytest.mark.parametrize(
    ("settings", "quorum"),
    [
        ({}, 1),
        ({"backends": [ONE]}, 1),
        ({"backends": [ONE, TWO]}, 2),
        ({"backends": [ONE | {"failure_domain": "two"}, TWO]}, 1),
        ({"backends": [ONE, TWO], "write_quorum": 1}, 1),
    ],
)
def test_two_failure_domains_must_have_it_where_there_are_two(
    settings: dict[str, object], quorum: int
) -> None:
    assert quorum == load(DATA_DIR | settings).quorum


FAULTS: list[tuple[dict[str, object], str]] = [
    ({}, "--data-dir DIR, or set GATEWAY_DATA_DIR, or data_dir"),
    ({"data_dir": None}, "no data folder"),
    ({"data_dir": 7}, "data_dir"),
    ({"data_dir": ""}, "data_dir"),
    (DATA_DIR | {"prot": 1}, "prot"),
    (DATA_DIR | {"backends": [{"kind": "local", "name": "one"}]}, "path"),
    (DATA_DIR | {"backends": [ONE | {"kind": "tape"}]}, "tape"),
    (DATA_DIR | {"backends": [ONE | {"bucket": "b"}]}, "bucket"),
    (DATA_DIR | {"backends": [ONE | {"name": "One"}]}, "name"),
    (DATA_DIR | {"backends": [ONE, TWO | {"name": "one"}]}, "two backends are called one"),
    (DATA_DIR | {"backends": [ONE, ONE | {"name": "two"}]}, "two backends lie in"),
    (DATA_DIR | {"backends": [ONE], "write_quorum": 2}, "1 failure domains: add one, or lower it"),
    (DATA_DIR | {"write_quorum": 2}, "write_quorum is 2"),
    (DATA_DIR | {"write_quorum": 0}, "write_quorum"),
    (DATA_DIR | {"port": 65536}, "port"),
    (DATA_DIR | {"port": -1}, "port"),
    (DATA_DIR | {"port": "http"}, "port"),
    (DATA_DIR | {"port": 1.5}, "port"),
    (DATA_DIR | {"log_level": "debug\n"}, "log_level"),
    (DATA_DIR | {"log_level": "loud"}, "log_level"),
    (DATA_DIR | {"log_level": "info\n"}, "log_level"),
    (DATA_DIR | {"drain_s": 0}, "drain_s"),
    (DATA_DIR | {"drain_s": "nan"}, "drain_s"),
    (DATA_DIR | {"late_write_horizon_s": "inf"}, "late_write_horizon_s"),
    (DATA_DIR | {"object_bytes_max": -1}, "object_bytes_max"),
    (DATA_DIR | {"miners_max": 30}, "miners_max"),
    (DATA_DIR | {"page_max": 1001}, "page_max"),
    (DATA_DIR | {"instance_lease_s": 9, "instance_renew_s": 5}, "instance_lease_s"),
    (DATA_DIR | {"answer_within_s": 5, "decide_within_s": 5}, "answer_within_s must be below"),
    (DATA_DIR | {"gc_interval_s": 5, "gc_dwell_s": 19}, "gc_dwell_s must be at least four times"),
    (DATA_DIR | {"decide_within_s": 0}, "decide_within_s"),
    (DATA_DIR | {"catalog_url": "postgresql://db.example/c"}, "sslmode=verify-full"),
    (DATA_DIR | {"catalog_url": "postgresql:///c?host=127.0.0.1,192.0.2.1"}, "sslmode=verify-full"),
    (DATA_DIR | {"catalog_url": "sqlite:///c"}, "catalog_url"),
    (DATA_DIR | {"catalog_url": 7}, "catalog_url"),
    (DATA_DIR | {"catalog_url": "postgresql://u:geheim@127.0.0.1/c"}, "password in an option"),
    (DATA_DIR | {"catalog_password_file": "p"}, "not set"),
    (DATA_DIR | {"tls_key": "k"}, "tls_certificate"),
    (DATA_DIR | {"tls_certificate": "c"}, "tls_key"),
    (DATA_DIR | {"behind_proxy": "10.0.0.1/8"}, "behind_proxy"),
    (DATA_DIR | {"behind_proxy": "proxy.example"}, "behind_proxy"),
    (DATA_DIR | {"retention_policy": "brief"}, "'brief' is none of retention_policies: forever"),
    *(
        (DATA_DIR | {"retention_policies": policies}, words)
        for policies, words in (
            ("brief", "retention_policies"),
            ([{}], "name"),
            ([{"name": "Brief"}], "'Brief': its name must be a-z"),
            ([{"name": "a"}, {"name": "b"}, {"name": "a"}], "'a' is named twice"),
            ([{"name": "forever", "default_s": 60}], "'forever' is there always"),
            ([{"name": "a", "lifetime_s": 1}], "lifetime_s"),
            ([{"name": "a", "mode": "strict"}], "mode"),
            ([{"name": "a", "default_s": 0}], "'a': the default lifetime must be 1 to"),
            ([{"name": "a", "default_s": 1.5}], "default_s"),
            ([{"name": "a", "default_s": 9, "longest_s": 8}], "longer than the longest"),
            ([{"name": "a", "longest_s": 8}], "longer than the longest"),
            ([{"name": "a", "grace_s": -1}], "'a': the grace must be 0 to"),
        )
    ),
    (DATA_DIR | {"host": "0.0.0.0"}, "not loopback"),  # noqa: S104 - it is refused
    (DATA_DIR | {"host": "::"}, "not loopback"),
    (DATA_DIR | {"host": ""}, "not loopback"),
    (DATA_DIR | {"host": "gateway.example"}, "not loopback"),
]


@pytest.mark.parametrize(("options", "word"), FAULTS, ids=str)
def test_a_fault_is_refused_and_named(options: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        load(options)


@pytest.mark.parametrize("name", ["GATEWAY_PROT", "GATEWAY_", "GATEWAY_data_dirs"])
def test_an_unknown_variable_is_an_error_and_its_value_is_not_repeated(name: str) -> None:
    with pytest.raises(ConfigError, match=name) as caught:
        load(DATA_DIR, {name: "geheim"})

    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_needs_no_tls(host: str) -> None:
    assert host == load(DATA_DIR | {"host": host}).host


@pytest.mark.parametrize(
    "safe",
    [{"behind_proxy": "10.0.0.0/8"}, {"tls_certificate": "c", "tls_key": "k"}],
    ids=str,
)
def test_other_addresses_need_tls_or_a_proxy(safe: dict[str, object]) -> None:
    assert "192.0.2.1" == load(DATA_DIR | {"host": "192.0.2.1"} | safe).host


@pytest.mark.parametrize(
    "content", [None, b"port = ", b"\xff", b"data_dir = 'd'\nprot = 1\n"], ids=str
)
def test_a_bad_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "gateway.toml"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(ConfigError, match=r"gateway\.toml|prot"):
        load({}, {}, file)


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=os.fspath(tmp_path)):
        load(DATA_DIR, {}, tmp_path)


@pytest.mark.parametrize("source", ["environment", "file"])
def test_a_password_is_taken_from_where_others_cannot_read_and_never_shown(
    tmp_path: Path, source: str
) -> None:
    url = "postgresql://u:geheim%2F@127.0.0.1/c"
    file = tmp_path / "gateway.toml"
    file.write_text(f'catalog_url = "{url}"\n' if source == "file" else "")
    environment = {"GATEWAY_CATALOG_URL": url} if source == "environment" else {}

    config = load(DATA_DIR, environment, file)

    assert config.catalog_url is not None
    assert "geheim/" == config.catalog_url.expose()["password"]
    assert "geheim" not in repr(config) + str(config.catalog_url)


@pytest.mark.parametrize("way", ["sslmode=verify-full", "sslmode=disable"])
def test_a_catalog_elsewhere_says_how_the_way_is_protected(way: str) -> None:
    assert load(DATA_DIR | {"catalog_url": f"postgresql://db.example/c?{way}"}).catalog_url
