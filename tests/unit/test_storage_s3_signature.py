"""Goal: requests are signed as S3 wants it. Method: the examples of its documentation, which say
what comes out, and what must not be shown.
"""

from datetime import UTC, datetime

import pytest

from crypto import Secret
from storage_gateway.backends.s3_signature import (
    UNSIGNED_PAYLOAD,
    Credentials,
    Signer,
    query_string,
    quoted,
)

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
NO_BODY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
NOW = datetime(2013, 5, 24, tzinfo=UTC)
HOST = "examplebucket.s3.amazonaws.com"


def credentials(token: str | None = None) -> Credentials:
    return Credentials(
        access_key="AKIAIOSFODNN7EXAMPLE",
        secret_key=Secret(SECRET.encode()),
        session_token=None if token is None else Secret(token.encode()),
    )


# From "Examples: Signature Calculations" of the page that the module names.
@pytest.mark.parametrize(
    ("query", "signature"),
    [
        (
            {"lifecycle": ""},
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            {"prefix": "J", "max-keys": "2"},
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_the_documented_examples(query: dict[str, str], signature: str) -> None:
    headers = Signer(credentials(), "us-east-1").headers(
        "GET", host=HOST, path="/", query=query_string(query), digest=NO_BODY, now=NOW
    )

    assert headers["authorization"] == (
        "AWS4-HMAC-SHA256"
        " Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        "SignedHeaders=host;x-amz-content-sha256;x-amz-date,"
        f"Signature={signature}"
    )
    assert "20130524T000000Z" == headers["x-amz-date"]
    assert HOST == headers["host"]


def test_another_day_has_another_key() -> None:
    def sign(signer: Signer, day: int) -> str:
        now = datetime(2013, 5, day, tzinfo=UTC)
        headers = signer.headers(
            "GET", host=HOST, path="/", query="lifecycle=", digest=NO_BODY, now=now
        )
        return headers["authorization"]

    used = Signer(credentials(), "us-east-1")

    for day in (24, 25, 24):
        assert sign(Signer(credentials(), "us-east-1"), day) == sign(used, day)


def test_a_session_token_is_sent_and_signed() -> None:
    headers = Signer(credentials("token"), "us-east-1").headers(
        "PUT", host=HOST, path="/k", query="", digest=UNSIGNED_PAYLOAD, now=NOW
    )

    assert "token" == headers["x-amz-security-token"]
    assert ";x-amz-security-token," in headers["authorization"]
    assert UNSIGNED_PAYLOAD == headers["x-amz-content-sha256"]


def test_secrets_are_not_shown() -> None:
    shown = repr(credentials("sessiontoken"))

    assert SECRET not in shown
    assert "sessiontoken" not in shown


def test_names_are_quoted_as_they_are_signed() -> None:
    assert "A-z0~._-%2F%20%2B%25%C3%A9" == quoted("A-z0~._-/ +%é")
    assert "a/%20b" == quoted("a/ b", safe="/")
    assert "a%20b=%26&a1=&b=%3D" == query_string({"b": "=", "a b": "&", "a1": ""})
