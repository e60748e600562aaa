"""The one typed configuration: a TOML file, ``GATEWAY_*`` variables, command-line options.

Later ones win. An unknown name is an error, never ignored. Every limit of the service has its
name and default here. Nothing else in the gateway reads the environment.
"""

import ipaddress
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from crypto import Secret

from .backend_settings import (
    AnyBackend,
    Backend,
    ConfigError,
    IPFSBackend,
    IPFSGatewayBackend,
    LocalBackend,
    RemoteBackend,
    S3Backend,
    check_backends,
    is_loopback,
    with_offchain,
)
from .database_url import DatabaseURL, parse_database_url
from .key_settings import check_keys, with_seed
from .retention_settings import RetentionSettings, check_retention

__all__ = [
    "ENVIRONMENT_PREFIX",
    "Config",
    "ConfigError",
    "IPFSBackend",
    "IPFSGatewayBackend",
    "LocalBackend",
    "S3Backend",
    "cannot_listen",
    "check_catalog_url",
    "is_loopback",
    "load_config",
    "url_of",
    "warnings_of",
]

ENVIRONMENT_PREFIX = "GATEWAY_"
CLIENT_VARIABLES = frozenset({"GATEWAY_TOKEN", "GATEWAY_URL"})
"""Read by the client commands, not by `serve`."""
TEST_VARIABLES = frozenset({"GATEWAY_TEST_REQUIRE"})
LISTS = {"backends": "backends", "retention_policies": "policies"}
"""Settings that variables give as JSON."""

Seconds = Annotated[float, msgspec.Meta(gt=0, le=10 * 365 * 86400)]
"""At most ten years: an infinite time has no number of milliseconds."""
Count = Annotated[int, msgspec.Meta(ge=1)]
Memory = Annotated[int, msgspec.Meta(ge=2 << 20)]
"""At least so much that one download of the largest object fits."""
PORT_MAX = 65535
Port = Annotated[int, msgspec.Meta(ge=0, le=PORT_MAX)]

GIB = 1 << 30
GC_LOOKS_MIN = 2
"""A clock that jumps once must not be enough for an orphan to go."""


class Config(RetentionSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All settings of one gateway process. Times are seconds, sizes bytes.

    With several ``workers`` each of them has these settings: what is limited (connections,
    transfers, memory) is limited for each worker alone.
    """

    data_dir: Path
    catalog_url: DatabaseURL | None = None
    """``postgresql://USER@HOST:PORT/DATABASE``; without it the catalog is a file in the folder."""
    catalog_password_file: Path | None = None
    backends: tuple[AnyBackend, ...] = ()
    """Where payloads lie; of those that serve alike the first is read. None: the data folder.
    Gateways of IPFS are among them, too."""
    write_quorum: Count | None = None
    """Failure domains that must have a payload before it counts as stored: 2 where there are so
    many, if not set."""
    header_copies: Count | None = None
    """Failure domains that must have an object's manifest before it counts as stored, the catalog
    one of them. If not set: 1 with a catalog in a file and folders alone, else 2."""
    recovery_recipient: str | None = None
    """The age recipient that copies of manifests are sealed to, of an identity that the operator
    keeps elsewhere. None: one that is derived from the identity that signs them."""
    host: str = "127.0.0.1"
    port: Port = 0
    workers: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    """Processes that share the port and the data folder."""
    admin_port: Port | None = None
    """Where metrics are told, to this machine only; of several workers each has a port of its own,
    from this one on. None: nowhere."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    behind_proxy: str | None = None
    """CIDR of the reverse proxy that ends TLS; only it, and this machine, may then connect."""
    log_level: Annotated[str, msgspec.Meta(pattern=r"^(debug|info|warning|error)\Z")] = "info"

    object_bytes_max: Annotated[int, msgspec.Meta(ge=0)] = 64 * GIB
    json_bytes_max: Count = 1 << 20
    reserve_bytes: Annotated[int, msgspec.Meta(ge=0)] = 256 << 20
    """Free space under the data folder that uploads leave alone: erasing needs room, too. What is
    on its way to buckets may take some of it, up to two segments of 7.5 MiB an upload
    and bucket."""
    miners_max: Annotated[int, msgspec.Meta(ge=1, le=28)] = 28
    """Miners of one session: with user, router and our two foreign stanzas a header has 32."""
    jobs_max: Count = 4
    """Jobs that have not ended, of one session; and of those for all sessions."""
    page_max: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1000

    body_idle_s: Seconds = 60.0
    min_rate: Count = 8192
    """Bytes a second. Slower transfers, beyond the first ``body_idle_s``, are given up."""
    write_memory_bytes: Memory = 256 << 20
    """What all bodies together hold; beyond it a body goes on in small steps, and new ones wait."""
    read_memory_bytes: Memory = 256 << 20
    """What all downloads together hold, likewise."""
    memory_wait_s: Seconds = 5.0
    """How long a new body or download waits for memory before it is told to come again."""
    answer_within_s: Seconds = 30.0
    """A body that is there, and in one store at least, waits so long for the write quorum; then
    the answer is 202. To be shorter than what proxies and clients wait for an answer, and than the
    ``deadline_s`` of buckets: see `warnings_of`."""
    decide_within_s: Seconds = 300.0
    """So long after a 202 the upload is committed or failed."""
    connections_max: Count = 1000
    drain_s: Seconds = 30.0
    token_lifetime_s: Seconds = 90 * 24 * 3600.0
    reservation_s: Seconds = 7 * 86400.0
    """How long an upload may begin for a reservation, where custody is blind."""
    kept_header_s: Seconds = 7 * 86400.0
    """How long a header that a session's user replaced is kept, unless the others confirm earlier
    that they have opened the new one."""

    key_retiring_s: Annotated[float, msgspec.Meta(ge=0)] = 3600.0
    """How long a key version stays retiring before it can be disabled, and how long what others
    seal to it is still taken: they may not have heard of the new one."""
    read_grace_s: Seconds = 3600.0
    """How long after an object was resealed what it had before stays for those who read it."""
    key_disabled_s: Annotated[float, msgspec.Meta(ge=0)] = 7 * 86400.0
    """How long one stays disabled before it can be destroyed: a mistake can be taken back."""

    instance_lease_s: Seconds = 15.0
    instance_renew_s: Seconds = 5.0
    recovery_interval_s: Seconds = 10.0
    repair_interval_s: Seconds = 60.0
    """Between passes that make copies again which a store lacks, or has wrong."""
    repair_settled_s: Seconds = 120.0
    """How long after a commit what a store did not take in time may still come by itself."""
    scrub_interval_s: Seconds = 60.0
    """Between passes that read copies, to see that they are right."""
    scrub_round_s: Seconds = 30 * 86400.0
    """Between the end of one round through all copies and the beginning of the next one."""
    scrub_bytes_per_s: Annotated[float, msgspec.Meta(gt=0)] = 8 << 20
    """How much they read at most, of all stores together."""
    gc_interval_s: Seconds = 6 * 3600.0
    """Between the end of one round through all that the stores have and the beginning of the next
    one, which looks for what nothing names."""
    gc_dwell_s: Seconds = 7 * 86400.0
    """How long that is kept after it was found. Twice ``gc_interval_s`` is the most that counts
    between two looks, so that no clock makes it old."""
    leftovers_interval_s: Seconds = 6 * 3600.0
    """Between the end of one round through what buckets keep beside the objects, and the beginning
    of the next one."""
    late_write_horizon_s: Seconds = 900.0

    serve_ipfs: bool = False
    """Answer at /ipfs/{cid}, to anybody, with blocks of payloads: ciphertext, never a head. To be
    the same in all processes of a deployment."""
    ipfs_memory_bytes: Memory = 64 << 20
    """What all answers there together hold, apart from downloads: no party waits for a stranger."""
    enable_stress: bool = False
    """Answer at /v1/stress: runs that load this machine, for the operator's token alone."""
    stress_duration_s_max: Seconds = 600.0
    stress_clients_max: Count = 256
    stress_body_bytes_max: Count = 6 * GIB
    stress_bytes_max: Count = 16 * GIB
    """All that one run may send and read."""

    def __post_init__(self) -> None:
        """Check what types alone cannot say."""
        self._check_backends()
        self._check_admin_port()
        check_keys(self)
        check_retention(self)
        if self.instance_renew_s * 2 > self.instance_lease_s:
            raise ConfigError("instance_lease_s must be at least twice instance_renew_s")
        if self.gc_dwell_s < GC_LOOKS_MIN * 2 * self.gc_interval_s:
            raise ConfigError("gc_dwell_s must be at least four times gc_interval_s")
        if self.answer_within_s >= self.decide_within_s:
            raise ConfigError("answer_within_s must be below decide_within_s")
        if self.catalog_url is not None:
            check_catalog_url(self.catalog_url)
        elif self.catalog_password_file is not None:
            raise ConfigError("catalog_password_file is for a catalog_url, which is not set")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ConfigError("tls_certificate and tls_key go together: set both or neither")
        if self.behind_proxy is not None:
            try:
                ipaddress.ip_network(self.behind_proxy)
            except ValueError as error:
                raise ConfigError(f"behind_proxy: {error}; write it like 10.0.0.0/8") from None
        if not (is_loopback(self.host) or self.tls_certificate or self.behind_proxy):
            raise ConfigError(
                f"host {self.host} is not loopback: prompts and tokens would cross the network"
                " in clear. Set tls_certificate and tls_key, or behind_proxy to the CIDR of the"
                " proxy that ends TLS"
            )

    def admin_port_of(self, worker: int) -> int | None:
        """Return the admin port of a worker, by its number from 0 on."""
        return self.admin_port + worker if self.admin_port else self.admin_port

    def _check_admin_port(self) -> None:
        last = self.admin_port_of(self.workers - 1)
        if not last or self.admin_port is None:
            return
        if last > PORT_MAX:
            raise ConfigError(f"admin_port: {self.workers} workers would need ports up to {last}")
        if self.admin_port <= self.port <= last:
            raise ConfigError(f"admin_port: port {self.port} is the one that requests come to")

    @property
    def quorum(self) -> int:
        """How many failure domains must have a payload."""
        return self.write_quorum or min(2, max(1, self._domains))

    @property
    def copies(self) -> int:
        """How many failure domains must have a manifest, the catalog among them."""
        if self.header_copies is not None:
            return self.header_copies
        remote = any(not isinstance(backend, LocalBackend) for backend in self.stores)
        return min(2, 1 + self._head_domains) if remote or self.catalog_url is not None else 1

    @property
    def _head_domains(self) -> int:
        """In how many failure domains a store may hold heads: a node of IPFS forgets nothing."""
        may = [backend for backend in self.stores if not isinstance(backend, IPFSBackend)]
        return len({backend.domain for backend in may}) if self.stores else 1

    @property
    def stores(self) -> tuple[Backend, ...]:
        """Those of the backends that payloads are written to."""
        return tuple(b for b in self.backends if not isinstance(b, IPFSGatewayBackend))

    @property
    def gateways(self) -> tuple[IPFSGatewayBackend, ...]:
        """The others: they are only read from, by sessions that name them."""
        return tuple(b for b in self.backends if isinstance(b, IPFSGatewayBackend))

    @property
    def _domains(self) -> int:
        return len({backend.domain for backend in self.stores})

    def _check_backends(self) -> None:
        check_backends(self.backends)
        domains = max(1, self._domains)
        if self.quorum > domains:
            raise ConfigError(
                f"write_quorum is {self.quorum}, but the backends are in {domains} failure"
                " domains: add one, or lower it"
            )
        if self.copies > 1 + self._head_domains:
            raise ConfigError(
                f"header_copies is {self.copies}, but the catalog and the backends that may hold"
                f" manifests are {1 + self._head_domains} failure domains: add one, or lower it"
            )


def check_catalog_url(url: DatabaseURL) -> None:
    """Refuse a database elsewhere whose URL does not say how the way there is protected.

    Raises:
        ConfigError: it does not.

    """
    here = all(host.startswith(("/", "@")) or is_loopback(host) for host in url.hosts)
    if not here and "sslmode" not in url.options:
        raise ConfigError(
            f"catalog_url {url} is on another machine and does not say how to protect the way"
            " there: add ?sslmode=verify-full (and sslrootcert=FILE for a CA of your own)"
        )


def load_config(
    *,
    file: Path | None,
    environment: Mapping[str, str],
    options: Mapping[str, object],
) -> Config:
    """Merge file, environment and options (None means unset) into a checked `Config`.

    Raises:
        ConfigError: anything is unknown, malformed or unsafe.

    """
    settings: dict[str, Any] = {}
    if file is not None:
        try:
            settings |= tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{file}: {error}") from None
    for name, value in environment.items():
        if name.startswith(ENVIRONMENT_PREFIX) and name not in CLIENT_VARIABLES | TEST_VARIABLES:
            field = name.removeprefix(ENVIRONMENT_PREFIX).lower()
            if field not in Config.__struct_fields__:
                raise ConfigError(f"unknown environment variable {name}")
            settings[field] = _from_json(field, value) if field in LISTS else value
    given = {name: value for name, value in options.items() if value is not None}
    settings |= given
    backends = with_offchain(settings.get("backends"), environment)
    if backends is not None:
        settings["backends"] = backends
    settings = with_seed(settings, environment)
    if "data_dir" not in settings:
        raise ConfigError(
            "no data folder: give --data-dir DIR, or set GATEWAY_DATA_DIR, or data_dir in the file"
        )
    try:
        config = msgspec.convert(settings, Config, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        cause = error.__cause__
        raise ConfigError(str(error)) from cause if isinstance(cause, ConfigError) else None
    _check_deadlines(config)
    if "catalog_url" in given and config.catalog_url and config.catalog_url.has_password:
        raise ConfigError(
            "catalog_url: a password in an option is seen by everybody on this machine; give it in"
            " catalog_password_file, GATEWAY_CATALOG_URL or the TOML file"
        )
    return config


def _check_deadlines(config: Config) -> None:
    # What was given up must have landed, or never will, when its grave is closed.
    for backend in config.backends:
        if isinstance(backend, RemoteBackend) and backend.deadline_s >= config.late_write_horizon_s:
            raise ConfigError(
                f"backend {backend.name}: deadline_s ({backend.deadline_s:g}) must be below"
                f" late_write_horizon_s ({config.late_write_horizon_s:g})"
            )


def warnings_of(config: Config) -> list[str]:
    """Return what is no error and still not meant, each as a sentence that says what to do."""
    if len(config.stores) == 1 or config.quorum == 1:
        return []  # whoever has it in one store has the quorum: no answer is late
    return [
        f"backend {backend.name}: deadline_s ({backend.deadline_s:g}) is not above answer_within_s"
        f" ({config.answer_within_s:g}): an upload that waits for it is refused (503) before it"
        " could be answered 202. Lower answer_within_s, unless that is what you want"
        for backend in config.backends
        if isinstance(backend, RemoteBackend) and backend.deadline_s <= config.answer_within_s
    ]


def _from_json(field: str, text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        name = f"{ENVIRONMENT_PREFIX}{field.upper()}"
        raise ConfigError(f"{name} must be JSON, a list of {LISTS[field]}: {error}") from None


def url_of(config: Config, address: tuple[Any, ...]) -> str:
    """Return the base URL of what listens on a socket's address."""
    host, port = address[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"{'http' if config.tls_certificate is None else 'https'}://{shown}:{port}"


def cannot_listen(config: Config, error: OSError) -> ConfigError:
    """Return what to raise when nothing can listen where it should."""
    return ConfigError(f"cannot listen on {config.host} port {config.port}: {error.strerror}")


def _decode(kind: type, value: object) -> object:
    if kind is Secret and isinstance(value, str) and value:
        return Secret(value.encode())
    if kind is DatabaseURL:
        if not isinstance(value, str):
            raise ValueError("Expected a URL: postgresql://user@host:5432/database")
        return parse_database_url(value)
    if kind is Path and isinstance(value, (str, Path)) and str(value):
        return Path(value)
    raise ValueError("Expected the path of a file or folder")
