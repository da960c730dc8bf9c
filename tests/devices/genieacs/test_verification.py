"""The comparison of a device document with the expected values."""

from datetime import UTC, datetime
from typing import Any

import pytest

from lastmile.devices.genieacs.verification import verify

PATH = "Device.PPP.Interface.1.Enable"
READ_AT = datetime(2026, 11, 29, 17, 13, 36, 352_000, tzinfo=UTC)
AT_ONCE, BEFORE = "2026-11-29T17:13:36.352Z", "2026-11-29T17:13:36.351Z"


def device(parameter: dict[str, Any]) -> dict[str, Any]:
    return {"_id": "x", "Device": {"PPP": {"Interface": {"1": {"Enable": parameter}}}}}


@pytest.mark.parametrize(
    ("parameter", "not_settable", "not_applied"),
    [
        ({"_value": True, "_timestamp": AT_ONCE, "_writable": True}, (), ()),
        ({"_value": True, "_timestamp": AT_ONCE, "_writable": False}, (), ()),
        ({"_value": True, "_timestamp": AT_ONCE}, (), ()),
        ({"_value": True, "_timestamp": BEFORE, "_writable": True}, (), (PATH,)),
        ({"_value": False, "_timestamp": AT_ONCE, "_writable": True}, (), (PATH,)),
        ({"_value": False, "_timestamp": AT_ONCE, "_writable": False}, (PATH,), ()),
        ({"_value": True, "_timestamp": "soon", "_writable": True}, (), (PATH,)),
        ({"_value": True, "_timestamp": None, "_writable": True}, (), (PATH,)),
        ({"_object": True}, (PATH,), ()),
    ],
)
def test_verification_names_what_the_cpe_lacks_and_what_may_be_out_of_date(
    parameter: dict[str, Any], not_settable: tuple[str, ...], not_applied: tuple[str, ...]
) -> None:
    found = verify({PATH: True}, device(parameter), READ_AT)
    assert (found.not_settable, found.not_applied) == (not_settable, not_applied)
    assert found.holds == (not not_settable and not not_applied)
