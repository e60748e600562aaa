"""Settings of the stores that payloads lie in (folders, buckets of S3-compatible servers, IPFS
nodes), and of the IPFS gateways that they are fetched from where no store has them.
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec

from crypto import Secret

OFFCHAIN = {
    "OFFCHAIN_S3_ENDPOINT_URL": "endpoint",
    "OFFCHAIN_S3_REGION": "region",
    "OFFCHAIN_S3_BUCKET_NAME": "bucket",
    "OFFCHAIN_S3_ACCESS_KEY": "access_key",
    "OFFCHAIN_S3_SECRET_KEY": "secret_key",
}
"""The network's names for one bucket, and ours for the same."""
OFFCHAIN_BACKEND = "offchain"
_PORTS = {"http": 80, "https": 443}
_BLANK = re.compile(r"[\x00-\x20\x7f]")

BackendName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}\Z")]
BucketName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")]
"""Source: docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html"""
Waiting = Annotated[float, msgspec.Meta(gt=0, le=3600)]


class ConfigError(ValueError):
    """A setting is unknown, malformed or unsafe; the text names it and says what to do."""


class _Named(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"
):
    name: BackendName
    """What the catalog calls it: never to be changed, nor used for another store."""


class _Backend(_Named, frozen=True, kw_only=True):
    failure_domain: BackendName | None = None
    """What can be lost at one blow; stores without one are lost one by one."""

    @property
    def domain(self) -> str:
        """The failure domain, with its default."""
        return self.failure_domain or self.name


class LocalBackend(_Backend, frozen=True, kw_only=True, tag="local"):
    """A folder on a disk of this machine, or one that is mounted."""

    path: Path
    """Made by the first start; its parent must exist."""

    @property
    def place(self) -> str:
        """Where it is: two backends are never in one place."""
        return str(self.path.absolute())


class S3Backend(_Backend, frozen=True, kw_only=True, tag="s3"):
    """A bucket that is this deployment's alone. Times are seconds."""

    endpoint: str
    """``https://HOST[:PORT]``; ``http`` only on this machine."""
    bucket: BucketName
    access_key: Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,256}\Z")]
    region: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9-]{1,64}\Z")] = "us-east-1"
    secret_key: Secret | None = None
    secret_key_file: Path | None = None
    """Instead of ``secret_key``: a file that only the gateway's user may read."""
    session_token_file: Path | None = None
    """With temporary credentials; read at the start."""
    path_style: bool = True
    """The bucket is in the path, not in the host's name."""
    ca_file: Path | None = None
    """Certificates to trust instead of the system's."""
    proxy: str | None = None
    """``http://HOST:PORT`` or ``https://HOST:PORT``: what all requests go through. None means none,
    whatever variables of the environment say."""
    proxy_credentials_file: Path | None = None
    """``USER:PASSWORD``, as ``secret_key_file``. They go to an ``http`` proxy in clear, unlike what
    is asked of the endpoint."""
    connect_s: Waiting = 5.0
    idle_s: Waiting = 15.0
    """How long an answer may pause, or not begin."""
    attempt_s: Waiting = 30.0
    deadline_s: Waiting = 60.0
    """For one operation with all its attempts."""
    connections_max: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 64

    def __post_init__(self) -> None:
        """Check what types alone cannot say."""
        scheme, host, _ = self._server()
        self._check_proxy(scheme)
        if scheme == "http" and not is_loopback(host):
            raise ConfigError(
                f"backend {self.name}: endpoint {self.endpoint} is on another machine and not"
                " protected: say https"
            )
        if (self.secret_key is None) == (self.secret_key_file is None):
            raise ConfigError(
                f"backend {self.name}: give the secret key, in secret_key_file (or secret_key, or"
                " OFFCHAIN_S3_SECRET_KEY), and in one of them only"
            )

    @property
    def place(self) -> str:
        """Where it is, however it is written: two backends are never in one place."""
        return f"bucket {self.bucket} at {_place_of(self._server())}"

    def _server(self) -> tuple[str, str, int]:
        """Return scheme, host and port of the endpoint."""
        server = _server_of(self.endpoint)
        if server is None:
            raise ConfigError(
                f"backend {self.name}: endpoint must be https://HOST or https://HOST:PORT, without"
                " bucket, credentials or path"
            )
        return server

    def _check_proxy(self, endpoint_scheme: str) -> None:
        if self.proxy is None:
            if self.proxy_credentials_file is not None:
                raise ConfigError(
                    f"backend {self.name}: proxy_credentials_file is for a proxy, which is not set"
                )
            return
        server = _server_of(self.proxy)
        if server is None:
            raise ConfigError(
                f"backend {self.name}: proxy must be http://HOST:PORT or https://HOST:PORT; put its"
                " user and password into proxy_credentials_file"
            )
        if endpoint_scheme == "http" and not is_loopback(server[1]):
            raise ConfigError(
                f"backend {self.name}: the endpoint is on this machine and asked over http, but the"
                " proxy is on another one: leave it out, or say https"
            )


class IPFSBackend(_Backend, frozen=True, kw_only=True, tag="ipfs"):
    """An IPFS node whose RPC is that of Kubo; others may use it, too. Times are seconds."""

    api: str
    """``https://HOST[:PORT]`` of the RPC; ``http`` only on this machine. Who can reach it can do
    anything to the node."""
    authorization_file: Path | None = None
    """Holds the value of the ``Authorization`` header; only the gateway's user may read it."""
    ca_file: Path | None = None
    """Certificates to trust instead of the system's."""
    connect_s: Waiting = 5.0
    idle_s: Waiting = 30.0
    """How long an answer may pause, or not begin: an import is pinned before it is answered."""
    deadline_s: Waiting = 60.0
    """For one operation."""
    connections_max: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 32
    fill_max: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.9
    """The share of what the node is set to store at most, with which nothing more is sent to it."""

    def __post_init__(self) -> None:
        """Check what types alone cannot say."""
        self._server()

    @property
    def place(self) -> str:
        """Where it is, however it is written: two backends are never in one place."""
        return f"the node at {_place_of(self._server())}"

    def _server(self) -> tuple[str, str, int]:
        without = "/api/v0 and without credentials: put those into authorization_file"
        return _protected_server(self, "api", self.api, without)


class IPFSGatewayBackend(_Named, frozen=True, kw_only=True, tag="ipfs-gateway"):
    """A trustless HTTP gateway of IPFS, which sessions that name it read from when no store serves.

    Nothing is ever written to it, and it has no failure domain. Times are seconds.
    """

    url: str
    """``https://HOST[:PORT]``, below which ``/ipfs/<cid>`` is; ``http`` only on this machine."""
    ca_file: Path | None = None
    """Certificates to trust instead of the system's."""
    connect_s: Waiting = 5.0
    idle_s: Waiting = 15.0
    """How long an answer may pause, or not begin: a gateway may have to look for a block first."""
    deadline_s: Waiting = 30.0
    """For one leaf."""
    connections_max: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 8

    def __post_init__(self) -> None:
        """Check what types alone cannot say."""
        self._server()

    @property
    def place(self) -> str:
        """Where it is, however it is written: two backends are never in one place."""
        return f"the gateway at {_place_of(self._server())}"

    def _server(self) -> tuple[str, str, int]:
        return _protected_server(self, "url", self.url, "/ipfs and without credentials")


Backend = LocalBackend | S3Backend | IPFSBackend
"""Those that payloads are written to: the stores."""
RemoteBackend = S3Backend | IPFSBackend
"""Those of them that are asked over a network."""
AnyBackend = Backend | IPFSGatewayBackend
"""All that a session may name."""


def _server_of(url: str) -> tuple[str, str, int] | None:
    """Return scheme, host and port of a URL that says nothing else; None for any other."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        return None
    is_more = set(url) & set("@?#") or parts.path.strip("/") or _BLANK.search(url)
    return None if is_more or not parts.hostname else (parts.scheme, parts.hostname, port)


def _place_of(server: tuple[str, str, int]) -> str:
    scheme, host, port = server
    # It has many names, and one server on a port.
    return f"{scheme}://{'localhost' if is_loopback(host) else host}:{port}"


def _protected_server(
    backend: _Named, setting: str, url: str, without: str
) -> tuple[str, str, int]:
    """Return scheme, host and port of a server that is asked over TLS, or on this machine.

    Raises:
        ConfigError: the setting says something else; ``without`` is what it may not hold.

    """
    server = _server_of(url)
    if server is None:
        raise ConfigError(
            f"backend {backend.name}: {setting} must be https://HOST or https://HOST:PORT, without"
            f" {without}"
        )
    scheme, host, _ = server
    if scheme == "http" and not is_loopback(host):
        raise ConfigError(
            f"backend {backend.name}: {setting} {url} is on another machine and not protected: say"
            " https"
        )
    return server


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_backends(backends: Sequence[AnyBackend]) -> None:
    """Refuse two backends that could be taken for each other, and one that is good for nothing.

    Raises:
        ConfigError: two have one name, or are in one place; nothing comes to IPFS that a gateway
            could have.

    """
    names = [backend.name for backend in backends]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"two backends are called {twice}: each needs a name of its own")
    places = [backend.place for backend in backends]
    shared = next((place for place in places if places.count(place) > 1), None)
    if shared is not None:
        raise ConfigError(f"two backends lie in {shared}: each needs a place of its own")
    gateway = next((b for b in backends if isinstance(b, IPFSGatewayBackend)), None)
    if gateway is not None and not any(isinstance(b, IPFSBackend) for b in backends):
        raise ConfigError(
            f"backend {gateway.name} is a gateway of IPFS, but no backend of kind ipfs brings"
            " payloads there: add one, or leave it out"
        )


def with_offchain(backends: object, environment: Mapping[str, str]) -> object:
    """Return backends, as they came, with what the network's variables say.

    They complete every S3 backend that leaves something open; where no backend is configured at
    all they make one.

    Raises:
        ConfigError: they make one, and some are missing.

    """
    said = {ours: environment[name] for name, ours in OFFCHAIN.items() if environment.get(name)}
    if not said:
        return backends
    if backends is None:
        missing = [n for n, ours in OFFCHAIN.items() if ours not in said and ours != "region"]
        if missing:
            raise ConfigError(
                f"some OFFCHAIN_S3 variables are set, but not {', '.join(missing)}: set all of"
                " them, or none and use backends"
            )
        return [{"kind": "s3", "name": OFFCHAIN_BACKEND} | said]
    if not isinstance(backends, list):
        return backends  # not what it must be: the types say so

    def completed(backend: Any) -> Any:  # noqa: ANN401 - not checked yet
        if not isinstance(backend, dict) or backend.get("kind") != "s3":
            return backend
        more = dict(said)
        if "secret_key_file" in backend:
            more.pop("secret_key", None)
        return more | backend

    return [completed(backend) for backend in backends]
