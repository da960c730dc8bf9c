"""Tests of the codec server over HTTP."""

import base64
import json
from collections.abc import Iterator

import pytest
import requests
import structlog.testing
from google.protobuf.json_format import MessageToDict, ParseDict
from temporalio.api.common.v1 import Payload, Payloads

from lastmile.encryption.codec import EncryptionCodec
from lastmile.encryption.keys import KeyRing
from lastmile.encryption.server import LARGEST, CodecServer, parse_users
from lastmile.telemetry.http import serve

UI = "https://temporal.example.net"
RING = KeyRing({"k1": bytes(32)})
PLAIN = Payload(metadata={"encoding": b"json/plain"}, data=b'"Ada Example"')
ANNA = ("anna", "sixteen letters.")


@pytest.fixture
def url() -> Iterator[str]:
    http = serve("127.0.0.1", 0, CodecServer(RING, dict([ANNA]), UI))
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()


def message(*payloads: Payload) -> str:
    return json.dumps(MessageToDict(Payloads(payloads=payloads)))


def sealed() -> Payload:
    return EncryptionCodec(RING).encrypt(PLAIN)


def payloads(reply: requests.Response) -> list[Payload]:
    return list(ParseDict(reply.json(), Payloads()).payloads)


def test_decode_for_an_authorised_user_returns_and_logs_it(url: str) -> None:
    with structlog.testing.capture_logs() as logs:
        reply = requests.post(
            f"{url}/decode", message(sealed(), PLAIN), auth=ANNA, headers={"Origin": UI, "X-Namespace": "default"}
        )
    assert payloads(reply) == [PLAIN, PLAIN]
    assert reply.headers["Access-Control-Allow-Origin"] == UI
    assert reply.headers["Access-Control-Allow-Credentials"] == "true"
    assert reply.headers["Cache-Control"] == "no-store"
    assert [(log["what"], log["user"], log["namespace"], log["payloads"]) for log in logs] == [
        ("decode", "anna", "default", 2)
    ]
    assert "Ada" not in str(logs)


def test_decode_returns_the_encoded_payload(url: str) -> None:
    encoded = payloads(requests.post(f"{url}/encode", message(PLAIN), auth=ANNA))
    assert b"Ada" not in encoded[0].SerializeToString()
    assert payloads(requests.post(f"{url}/decode", message(*encoded), auth=ANNA)) == [PLAIN]


def test_preflight_request_without_credentials_is_answered(url: str) -> None:
    asked = {"Origin": UI, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-namespace"}
    reply = requests.options(f"{url}/decode", headers=asked)
    assert (reply.status_code, reply.content) == (204, b"")
    assert "X-Namespace" in reply.headers["Access-Control-Allow-Headers"]


def test_request_from_another_origin_is_refused(url: str) -> None:
    for origin in ("https://evil.example", f"{UI}.evil.example", "null", UI.replace("https", "http")):
        for reply in (
            requests.post(f"{url}/decode", message(sealed()), auth=ANNA, headers={"Origin": origin}),
            requests.options(f"{url}/decode", headers={"Origin": origin}),
        ):
            assert reply.status_code == 403
            assert "Access-Control-Allow-Origin" not in reply.headers


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic !",
        "Bearer c2l4dGVlbiBsZXR0ZXJzLg==",
        "Basic " + base64.b64encode(b"anna:wrong").decode(),
        "Basic " + base64.b64encode(b"nobody:").decode(),
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
    ],
)
def test_request_without_credentials_is_unauthorised(url: str, authorization: str) -> None:
    for path in ("/", "/decode", "/encode"):
        reply = requests.post(url + path, message(sealed()), headers={"Authorization": authorization})
        assert reply.status_code == 401
        assert reply.headers["WWW-Authenticate"].startswith("Basic ")


def test_login_page_with_credentials_names_the_user(url: str) -> None:
    assert "anna may decode" in requests.get(url, auth=ANNA).text


def test_invalid_request_is_refused_with_the_reason(url: str) -> None:
    foreign = EncryptionCodec(KeyRing({"k9": bytes(32)})).encrypt(PLAIN)
    for reply, status, words in (
        (requests.post(f"{url}/decode", message(foreign), auth=ANNA), 422, "key 'k9'"),
        (requests.post(f"{url}/decode", "no json", auth=ANNA), 400, "not a Payloads message"),
        (requests.post(f"{url}/decode", b"\xff\xfe", auth=ANNA), 400, "not a Payloads message"),
        (requests.post(f"{url}/elsewhere", "", auth=ANNA), 404, "/decode or /encode"),
        (requests.get(f"{url}/decode", auth=ANNA), 405, "POST"),
        (requests.post(f"{url}/decode", b"x" * (LARGEST + 1), auth=ANNA), 413, "at most"),
    ):
        assert (reply.status_code, words in reply.text) == (status, True), reply.text


def test_parse_users_of_invalid_text_is_refused() -> None:
    assert parse_users("anna:sixteen letters., ben:with:a:colon:inside") == {
        "anna": "sixteen letters.",
        "ben": "with:a:colon:inside",
    }
    for text in ("", "anna", "anna:short", ":sixteen letters.", "anna:sixteen letters.,anna:sixteen letters."):
        with pytest.raises(ValueError, match=r"entry 1|no user|two users") as failure:
            parse_users(text)
        assert "letters" not in str(failure.value)
