"""Goal: of a transit engine only the one form of an answer is believed, and an error repeats
nothing; an address that is unsafe is none. Method: a server that answers rubbish.
"""

import base64
import json
from pathlib import Path

import pytest
from aiohttp import web

from crypto import CLASSIC, X25519Identity
from storage_gateway.config import ConfigError, load_config
from storage_gateway.configured_keys import provider_of
from storage_gateway.errors import KeyProviderUnavailable
from storage_gateway.key_provider import IdentityFile

ENCODED = base64.b64encode(b"AGE-SECRET-KEY-1OF-SOMEBODY-ELSE").decode()


def _secret_file(path: Path, content: str) -> Path:
    path.write_text(content)
    path.chmod(0o600)
    return path


IDENTITY = base64.b64encode(X25519Identity.generate().to_text().encode()).decode()
GOOD = json.dumps({"data": {"ciphertext": "vault:v1:x", "plaintext": IDENTITY}}).encode()
RUBBISH: dict[str, tuple[int, bytes]] = {
    "no JSON": (200, b"<html>"),
    "no object": (200, b"[]"),
    "no data": (200, b"{}"),
    "data of another type": (200, b'{"data": {"ciphertext": 7, "plaintext": ["x"]}}'),
    "deep": (200, b"[" * 100_000),
    "no base64": (200, b'{"data": {"ciphertext": "vault:v1:x", "plaintext": "%%%"}}'),
    "another's text": (
        200,
        json.dumps({"data": {"ciphertext": "vault:v1:x", "plaintext": ENCODED}}).encode(),
    ),
    "no wrapping": (200, b'{"data": {"ciphertext": "plain", "plaintext": ""}}'),
    "two lines": (200, b'{"data": {"ciphertext": "vault:v1:x\\ny", "plaintext": ""}}'),
    "too long": (200, GOOD + b" " * (2 << 20)),
    "a redirection": (307, b""),
    "an error that repeats the question": (500, ENCODED.encode()),
    "no content": (204, b""),
}


@pytest.mark.parametrize("name", RUBBISH)
async def test_rubbish_is_not_believed_nor_repeated(tmp_path: Path, name: str) -> None:
    status, body = RUBBISH[name]

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers={"Location": "/elsewhere"})

    async def answer_well(_request: web.Request) -> web.Response:
        return web.Response(body=GOOD)

    app = web.Application()
    app.router.add_post("/elsewhere", answer_well)
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    options: dict[str, object] = {
        "data_dir": tmp_path,
        "key_provider": "transit",
        "key_transit_url": f"http://127.0.0.1:{runner.addresses[0][1]}",
        "key_transit_token_file": _secret_file(tmp_path / "token", "t"),
    }
    tmp_path.chmod(0o700)
    provider = provider_of(load_config(file=None, environment={}, options=options))
    assert isinstance(provider, IdentityFile)
    file = tmp_path / "router-identity.transit"
    try:
        with pytest.raises((KeyProviderUnavailable, ConfigError)) as made:
            await provider.make(CLASSIC)
        assert not file.exists()
        _secret_file(file, "vault:v1:what-was-wrapped\n")
        with pytest.raises((KeyProviderUnavailable, ConfigError)) as loaded:
            await provider.load()
        for told in (str(made.value), str(loaded.value)):
            assert "SOMEBODY" not in told
            assert ENCODED not in told
        assert "vault:v1:what-was-wrapped\n" == file.read_text()
    finally:
        await provider.close()
        await runner.cleanup()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://bao.example:8200", "in clear"),
        ("ftp://127.0.0.1", "must be like"),
        ("https://user:pw@bao.example", "must be like"),
        ("https://bao.example?x=1", "must be like"),
        ("https://bao.example:99999", "must be like"),
        ("bao", "must be like"),
        (None, "needs key_transit_url"),
    ],
)
def test_an_address_that_is_unsafe_or_none_is_refused(url: str | None, said: str) -> None:
    options = {
        "data_dir": Path("d"),
        "key_provider": "transit",
        "key_transit_url": url,
        "key_transit_token_file": Path("t"),
    }

    with pytest.raises(ConfigError, match=said) as refused:
        load_config(file=None, environment={}, options=options)
    assert "pw" not in str(refused.value)
