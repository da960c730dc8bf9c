"""The verification of requests: a shared secret in each of its places, and a signature of the body."""

import base64

import pytest

from lastmile.services.hooks.verification import HmacSignature, HookRequest, SharedSecret

SECRET = "s3cret-of-the-crm"
BASIC = base64.b64encode(f"uisp:{SECRET}".encode()).decode()


@pytest.mark.parametrize(
    ("authorization", "token", "verified"),
    [
        ("", SECRET, True),
        (f"Bearer {SECRET}", None, True),
        (f"basic {BASIC}", None, True),
        ("", None, False),
        ("", SECRET + "x", False),
        ("Bearer wrong", SECRET, False),
        ("Basic é", None, False),
        ("Basic Zm9v", None, False),
    ],
)
def test_shared_secret_is_found_in_each_of_its_places(authorization: str, token: str | None, verified: bool) -> None:
    stored = SharedSecret().at_rest(SECRET)
    assert SECRET.encode() not in stored
    assert SharedSecret().verify(stored, HookRequest({"authorization": authorization}, token, b"{}")) == verified


# RFC 4231, test case 2.
KEY, BODY = "Jefe", b"what do ya want for nothing?"
SIGNATURE = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"


@pytest.mark.parametrize(
    ("body", "signature", "verified"),
    [
        (BODY, f"sha256={SIGNATURE}", True),
        (BODY + b" ", f"sha256={SIGNATURE}", False),
        (BODY, SIGNATURE, False),
        (BODY, "", False),
        (BODY, "sha256=é", False),
    ],
)
def test_signature_is_that_of_the_body_as_it_was_sent(body: bytes, signature: str, verified: bool) -> None:
    verification = HmacSignature("X-Hub-Signature-256", prefix="sha256=")
    request = HookRequest({"x-hub-signature-256": signature}, None, body)
    assert verification.verify(verification.at_rest(KEY), request) == verified
