"""The demo's order over the REST API, sent by the real `curl` to a server with scripted answers."""

import json
from pathlib import Path

import pytest

from lastmile.cli.demo.curl import CurlFailedError, send_with_curl
from lastmile.contract import Operation, OrderResult, ResultStatus, SuspendSubscriber
from tests.support.other_servers import answering, answering_in_turn

ORDER = SuspendSubscriber(tenant="acme", order_id="O-1", subscriber_ref="S-1", reason="it's unpaid", mode="block")
RESULT = OrderResult(
    operation=Operation.SUSPEND, tenant="acme", order_id="O-1", subscriber_ref="S-1", status=ResultStatus.COMPLETED
)


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """Return the file of a token, in a directory whose name a shell would split."""
    file = tmp_path / "the user's token"
    file.write_text("lm_secret")
    return file


@pytest.mark.curl_required
async def test_order_is_sent_again_until_it_has_ended(token_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = json.dumps({"status": "completed", "result": RESULT.model_dump(mode="json")})
    async with answering_in_turn(("200 OK", '{"status": "running", "result": null}'), ("200 OK", ended)) as (
        url,
        requests,
    ):
        assert await send_with_curl(url, token_file, ORDER) == RESULT
    first, second = requests
    assert first == second
    assert "Authorization: Bearer lm_secret" in first
    assert json.loads(first.partition("\r\n\r\n")[2])["reason"] == "it's unpaid"
    shown = capsys.readouterr().out
    assert "curl -sS http://127.0.0.1" in shown
    assert "lm_secret" not in shown


@pytest.mark.curl_required
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ('{"type": "/problems/wrong-state", "status": 409, "detail": "The line is suspended."}', "is suspended"),
        ('{"status": "refused", "reason": "There is no free prefix.", "result": null}', "no free prefix"),
        ("<html>", "<html>"),
    ],
)
async def test_order_without_a_result_fails_with_the_answer(token_file: Path, answer: str, words: str) -> None:
    async with answering("200 OK", answer) as url:
        with pytest.raises(CurlFailedError, match=words):
            await send_with_curl(url, token_file, ORDER)


async def test_missing_curl_is_named_and_nothing_is_sent(
    token_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(token_file.parent))
    assert await send_with_curl("http://127.0.0.1:1", token_file, ORDER) is None
    assert "curl is not installed, so order O-1 goes to Temporal" in capsys.readouterr().out
