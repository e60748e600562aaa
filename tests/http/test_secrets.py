"""No secret in any log line, any problem, any file: a whole scenario, then a search.

Everything is logged at debug level, the libraries' loggers too. Searched for are all tokens, all
identities, all file keys, and the plaintext, each as bytes, hex and base64; the search itself is
shown to find what is there.
"""

import base64
import json
import logging
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from crypto import X25519Identity, open_file, open_head
from storage_gateway.custody import COPIES_FILE, IDENTITY_FILE, OPERATOR_TOKEN_FILE
from storage_gateway.logs import JSONFormatter
from storage_gateway.records import TokenKind
from storage_gateway.tokens import new_token
from tests.databases import databases
from tests.gateway import (
    MINER,
    OpenSession,
    RunningGateway,
    eventually,
    gateway_process,
    open_session,
    payload_keys,
    running_gateway,
)
from tests.http.age_files import age_file, head_size
from tests.http.raw import CHUNKED, EXPECT, SEALED, Answer, chunk, connected, exchange, request
from tests.http.steps import LEAF, PLAINTEXT, fetch, made_bytes, upload
from tests.http.test_envelopes import REFUSED
from tests.http.test_jobs import heads, put_head, run_job
from tests.http.test_keys import ask

PLAIN = b"what nobody else may read: " + made_bytes(2 * LEAF).hex().encode()
SMALL = b"a short and very private prompt"


@dataclass
class _Found:
    """What was seen and what must not be in it."""

    answers: list[Answer] = field(default_factory=list)
    secrets: dict[str, bytes] = field(default_factory=dict)

    def needles(self) -> dict[str, bytes]:
        """Return every secret in every form that a careless line could show it in."""
        forms = {}
        for name, secret in self.secrets.items():
            forms[name] = secret
            forms[f"{name} in hex"] = secret.hex().encode()
            forms[f"{name} as a list"] = ", ".join(str(byte) for byte in secret[:16]).encode()
            forms[f"{name} as text"] = repr(secret)[2:-1].encode()
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                # Cut, so that what is wrapped around it does not change the last characters.
                forms[f"{name} in {encode.__name__}"] = encode(secret)[: len(secret) * 4 // 3 - 3]
        return forms

    def shown_in(self, texts: list[bytes]) -> set[str]:
        """Return the names of the secrets that any of the texts shows."""
        return {
            name for name, needle in self.needles().items() if any(needle in text for text in texts)
        }


async def _scenario(gateway: RunningGateway, session: OpenSession) -> _Found:
    seen = _Found()
    token, url = session.user_token, gateway.address
    seen.secrets |= {
        "operator's token": gateway.operator_token.encode(),
        "user's token": token.encode(),
        "miner's token": session.miner_token.encode(),
        "other miner's token": session.other_miner_token.encode(),
        "an unknown token": new_token(TokenKind.USER).encode(),
        "router's identity": _identity_text(gateway).encode(),
        "user's identity": session.user.to_text().encode(),
        "the plaintext": PLAIN[:64],
        "the end of the plaintext": PLAIN[-64:],
        "the short plaintext": SMALL,
        "a planted file key": bytes(range(100, 116)),
    }
    for name in ("router's identity", "user's identity"):
        identity = X25519Identity.parse(seen.secrets[name].decode())
        seen.secrets[f"{name}, its key"] = identity.key.expose()

    plain = await upload(gateway, session.path("t1") + "?filename=private", token, PLAIN)
    sealed_body = age_file(
        SMALL, [session.router_recipient], file_key=seen.secrets["a planted file key"]
    )
    sealed = await upload(gateway, session.path("t2"), token, sealed_body, headers=[SEALED])
    output = await upload(gateway, session.path("t1", "output"), session.miner_token, SMALL)
    for name, answer in (("t1", plain), ("t2", sealed), ("output", output)):
        assert 201 == answer.status
        urn = answer.json()["urn"]
        file = (await fetch(gateway, urn, token)).body
        head = file[: head_size(file)]
        seen.secrets[f"file key of {name}"] = open_head(head, [session.user]).file_key.expose()
        seen.secrets[f"head of {name}"] = head[-60:]
        seen.answers.append(answer)
        await fetch(gateway, urn, token, headers=[PLAINTEXT])
        seen.answers.append(await fetch(gateway, urn, session.other_miner_token, part="/manifest"))

    await _rotations(gateway, session, seen)
    await _refusals(gateway, session, seen)
    reissue = request(
        "POST",
        f"/v1/sessions/{session.session_id}/tokens",
        gateway.operator_token,
        headers=[("Content-Type", "application/json")],
        body=json.dumps({"party": "miner", "miner": MINER}).encode(),
    )
    seen.secrets["the new token"] = (await exchange(url, reissue)).json()["token"].encode()
    damaged = min(await payload_keys(gateway.catalog, gateway.store))
    (gateway.data_dir / "store" / damaged).unlink()
    for answer in (plain, sealed, output):
        read = await fetch(gateway, answer.json()["urn"], token)
        erased = await fetch(gateway, answer.json()["urn"], token, method="DELETE")
        seen.answers += [a for a in (read, erased) if a.status != 200]
    return seen


async def _rotations(gateway: RunningGateway, session: OpenSession, seen: _Found) -> None:
    """Rotate keys, give wrong answers, wrap anew, reseal, be refused."""
    new, keys = X25519Identity.generate(), f"/v1/sessions/{session.session_id}/keys"
    wish = {"party": "miner", "miner": MINER, "recipient": str(new.recipient())}
    token, operator = session.miner_token, gateway.operator_token
    challenge = await ask(gateway, "POST", f"{keys}/challenges", token, wish)
    answer = open_file(base64.b64decode(challenge.json()["challenge"]), [new])
    seen.secrets["a challenge's answer"] = answer
    seen.secrets["the new identity"] = new.to_text().encode()
    for text in (new.to_text(), answer.decode()[:-1] + "x", answer.decode()):
        seen.answers.append(await ask(gateway, "POST", keys, token, wish | {"answer": text}))
    identity = wish | {"recipient": new.to_text()}
    seen.answers.append(await ask(gateway, "POST", keys, token, identity))
    for key_class in ("classic", "hybrid"):
        wanted = {"key_class": key_class}
        seen.answers.append(await ask(gateway, "POST", "/v1/admin/keys", operator, wanted))
    for each in gateway.gateway.parts.keyring.opening():
        seen.secrets[f"router's {each.recipient()}"[:40]] = each.to_text().encode()
    rows = await heads(gateway)
    poisoned = min(rows)
    cut = rows[poisoned][:-30] + bytes(30)
    await gateway.catalog.run(partial(put_head, object_id=poisoned, head=cut))
    for kind in ("rewrap", "reseal"):
        job = await run_job(gateway, operator, kind)
        assert 1 == job["progress"]["failed"]
        path = f"/v1/jobs/{job['id']}"
        for part in ("", "/failures"):
            seen.answers.append(await ask(gateway, "GET", path + part, operator))
    await gateway.catalog.run(partial(put_head, object_id=poisoned, head=rows[poisoned]))
    for held in (str(new.recipient()), new.to_text(), str(session.user.recipient())):
        urn = f"urn:blob:v4:{max(rows)}"
        seen.answers.append(
            await fetch(gateway, urn, session.user_token, headers=[("Held-Recipient", held)])
        )
    seen.answers = [a for a in seen.answers if b"age-encryption" not in a.body[:20]]


async def _refusals(gateway: RunningGateway, session: OpenSession, seen: _Found) -> None:
    token, url = session.user_token, gateway.address
    unknown = seen.secrets["an unknown token"].decode()
    for odd in (unknown, f"{token} x", f"{token}\xff", token.upper(), f"{token}" * 3):
        seen.answers.append(await exchange(url, request("GET", "/v1/sessions/101", odd)))
    for name, (_, make) in REFUSED.items():
        body = make(session.router_recipient)
        answer = await upload(gateway, session.path("bad"), token, body, headers=[SEALED])
        assert 422 == answer.status, name
        seen.answers.append(answer)
    for data in (
        b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\0\r\n\r\n" % token.encode(),
        b"GET / HTTP/1.1\r\nHost: x\r\nBearer %b\r\n\r\n" % token.encode(),
        b"%b /nowhere HTTP/1.1\r\nHost: x\r\n\r\n" % token.encode(),
        request("POST", "/v1/sessions", token, headers=[("Content-Length", "x")]) + SMALL,
    ):
        seen.answers.append(await exchange(url, data))
    operator = gateway.operator_token
    kind = [("Content-Type", "application/json")]
    identity = session.user.to_text()
    for document in (
        {"parties": {"user": {"recipient": identity}}},
        {"parties": {"user": {"recipient": 5}}, token: token},
        {"session_id": token, "parties": {"user": {"recipient": identity}}},
    ):
        body = json.dumps(document).encode()
        for sent in (body, body[:-5]):
            data = request("POST", "/v1/sessions", operator, headers=kind, body=sent)
            seen.answers.append(await exchange(url, data))
    async with connected(url) as connection:
        await connection.send(
            request("POST", session.path("cut"), token, headers=[CHUNKED, EXPECT])
        )
        assert 100 == (await connection.answer()).status
        await connection.send(chunk(PLAIN) + PLAIN[:64] + b"\r\n")
        seen.answers.append(await connection.answer())
    async with connected(url) as connection:
        headers = [("Content-Length", str(len(PLAIN) + 1))]
        data = request("POST", session.path("cut"), token, headers=headers)
        await connection.send(data + PLAIN)


def _identity_text(gateway: RunningGateway) -> str:
    text = (gateway.data_dir / IDENTITY_FILE).read_text()
    return next(line for line in text.splitlines() if line.startswith("AGE-SECRET-KEY-1"))


async def test_no_secret_is_logged_answered_or_stored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with running_gateway(tmp_path, log_level="debug") as gateway:
        session = await open_session(gateway, "101")
        seen = await _scenario(gateway, session)

        async def is_told() -> bool:
            return any(r.__dict__.get("code") == "body_incomplete" for r in caplog.records)

        await eventually(is_told, what="the end of the last request")
    lines = [JSONFormatter().format(record).encode() for record in caplog.records]
    shown = [answer.body + repr(answer.headers).encode() for answer in seen.answers]
    own_lines = [r for r in caplog.records if r.name.startswith("storage_gateway")]
    files = {
        path.relative_to(gateway.data_dir).as_posix(): path.read_bytes()
        for path in gateway.data_dir.rglob("*")
        if path.is_file()
    }
    kept_on_purpose = {COPIES_FILE, IDENTITY_FILE, OPERATOR_TOKEN_FILE}
    stored = [data for name, data in files.items() if name not in kept_on_purpose]
    catalog = databases.stored_bytes(gateway.data_dir)
    stored += catalog

    assert len(own_lines) > 60
    assert sum(answer.status >= 400 for answer in seen.answers) > 50
    assert set() == seen.shown_in(lines)
    assert set() == seen.shown_in(shown)
    heads = {name for name in seen.shown_in(stored) if name.startswith("head of")}
    assert set() == seen.shown_in(stored) - heads  # heads that are not erased are in the catalog
    assert any(str(session.user.recipient()).encode() in data for data in catalog)
    # The search finds what is there: the two files that hold secrets by design.
    purpose = [files[name] for name in kept_on_purpose]
    assert {"operator's token", "router's identity"} <= seen.shown_in(purpose)


async def test_no_secret_is_in_the_log_of_a_real_process(tmp_path: Path) -> None:
    async with gateway_process(tmp_path / "data", log_level="debug") as gateway:
        session = await open_session(gateway)
        seen = _Found()
        seen.secrets |= {
            "operator's token": gateway.operator_token.encode(),
            "user's token": session.user_token.encode(),
            "miner's token": session.miner_token.encode(),
            "the plaintext": SMALL,
        }
        answer = await upload(gateway, session.path("t1"), session.user_token, SMALL)
        for data in (
            request("GET", "/v1/sessions/101", session.user_token + "\0"),
            request("GET", "/v1/sessions/101", session.user_token + "x"),
            request("GET", f"/v1/objects/{answer.json()['urn']}", session.user_token),
            session.user_token.encode() + b"\r\n\r\n",
        ):
            await exchange(gateway.address, data)
    log = gateway.log.read_bytes()

    assert b'"malformed request"' in log
    assert b'"/v1/sessions/101"' in log
    assert set() == seen.shown_in([log])
