"""The sentence of a failure, as the command prints it."""

from base64 import b64encode

import pytest
import typer

from lastmile.cli.exit_codes import Exit, run
from lastmile.encryption.keys import KeyRing


def test_run_without_the_encryption_key_ends_its_sentence_once(capsys: pytest.CaptureFixture[str]) -> None:
    old, new = (f"{name}:{b64encode(bytes([number] * 32)).decode()}" for number, name in ((1, "k1"), (2, "k2")))
    sealed = KeyRing.parse(old).encrypt(b"order")

    async def read() -> Exit:
        KeyRing.parse(new).decrypt(*sealed)
        return Exit.DONE

    with pytest.raises(typer.Exit) as ended:
        run(read())
    assert ended.value.exit_code == Exit.BAD_INPUT
    printed = " ".join(capsys.readouterr().err.split())
    assert "encrypted with key 'k1'" in printed
    assert printed.endswith(" Append that key.")
