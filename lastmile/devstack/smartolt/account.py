"""The account: its ONUs, what is authorized, and the routes of the API."""

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lastmile.errors import LastmileError

__all__ = ["Account", "AccountOnu", "Answer", "RefusedError"]

Answer = dict[str, Any]
_REQUIRED = ("olt_id", "pon_type", "sn", "onu_type", "onu_mode", "zone", "name")


class RefusedError(LastmileError):
    """SmartOLT does not carry out the request: `status: false`."""


@dataclass
class AccountOnu:
    """An ONU, whether SmartOLT knows it or not."""

    serial: str
    olt_id: str = "1"
    board: str = "0"
    port: str = "4"
    type_name: str = "HG8245H"
    """The type that the ONU reports; empty: SmartOLT does not know the type."""
    plugged: bool = True
    """Whether it has power and signal."""
    authorized: dict[str, str] | None = None
    """The form with which it was authorized."""
    enabled: bool = False
    says: str = ""
    """What SmartOLT shows in place of the administrative status; empty: that one."""

    @property
    def in_service(self) -> bool:
        return self.authorized is not None and self.enabled

    def details(self) -> Answer:
        """Return the ONU as `get_onus_details_by_sn` shows it."""
        form = self.authorized or {}
        return {
            "unique_external_id": form.get("onu_external_id", ""),
            "sn": self.serial,
            "olt_id": form.get("olt_id", ""),
            "board": form.get("board", ""),
            "port": form.get("port", ""),
            "vlan": form.get("vlan", ""),
            "administrative_status": self.says or ("Enabled" if self.enabled else "Disabled"),
            "status": "Online" if self.plugged and self.enabled else "Offline" if self.plugged else "Power fail",
        }


@dataclass
class Account:
    """An account with two OLTs, `1` and `2`."""

    onus: list[AccountOnu] = field(default_factory=list)
    zones: set[str] = field(default_factory=lambda: {"Zone 1"})
    profiles: set[str] = field(default_factory=lambda: {"100M", "1G"})
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held to read or change the account."""

    def add(self, onu: AccountOnu) -> AccountOnu:
        """Add an ONU; return it."""
        self.onus.append(onu)
        return onu

    def authorize(self, onu: AccountOnu, **form: str) -> AccountOnu:
        """Authorize an ONU as another client of the API would; return it."""
        place = {"olt_id": onu.olt_id, "board": onu.board, "port": onu.port, "vlan": "7"}
        onu.authorized, onu.enabled = {**place, "onu_external_id": onu.serial, **form}, True
        return onu

    def answer(self, method: str, path: str, form: Mapping[str, str]) -> Answer | None:
        """Carry out a request; None: there is no such route. Raises `RefusedError`."""
        with self.lock:
            if (method, path) == ("GET", "/api/system/get_olts"):
                return {"status": True, "response": [{"id": one, "name": f"olt-{one}"} for one in ("1", "2")]}
            if (method, path) == ("POST", "/api/onu/authorize_onu"):
                return self._authorize(form)
            if found := re.fullmatch(r"/api/onu/unconfigured_onus_for_olt/(\w+)", path):
                return {"status": True, "response": self._unconfigured(found[1])}
            if found := re.fullmatch(r"/api/onu/get_onus_details_by_sn/(\w+)", path):
                details = [onu.details() for onu in self.onus if onu.serial == found[1] and onu.authorized]
                return {"status": True, "response_code": "success", "onus": details}
            found = re.fullmatch(r"/api/onu/(enable|disable|delete|update_onu_speed_profiles)/([\w-]+)", path)
            if found and method == "POST":
                return self._change(found[1], found[2], form)
            return None

    def _unconfigured(self, olt_id: str) -> list[Answer]:
        return [
            {
                "sn": onu.serial,
                "olt_id": onu.olt_id,
                "board": onu.board,
                "port": onu.port,
                "pon_type": "gpon",
                "onu_type_name": onu.type_name,
            }
            for onu in self.onus
            if onu.plugged and onu.authorized is None and onu.olt_id == olt_id
        ]

    def _authorize(self, form: Mapping[str, str]) -> Answer:
        if missing := [name for name in _REQUIRED if not form.get(name)]:
            raise RefusedError(f"The {missing[0]} field is required.")
        if any(onu.serial == form["sn"] and onu.authorized for onu in self.onus):
            raise RefusedError("ONU is already authorized.")
        here = [onu for onu in self.onus if (onu.serial, onu.olt_id) == (form["sn"], form["olt_id"]) and onu.plugged]
        if not here:
            raise RefusedError("The ONU was not discovered.")
        if form["zone"] not in self.zones:
            raise RefusedError("The zone does not exist.")
        self._check_profiles(form)
        here[0].authorized, here[0].enabled = dict(form), True
        return {"status": True, "response_code": "success"}

    def _change(self, action: str, external_id: str, form: Mapping[str, str]) -> Answer:
        onu = next((one for one in self.onus if (one.authorized or {}).get("onu_external_id") == external_id), None)
        if onu is None or onu.authorized is None:
            raise RefusedError("ONU was not found.")
        if action in ("enable", "disable"):
            onu.enabled = action == "enable"
        elif action == "delete":
            onu.authorized, onu.enabled = None, False
        else:
            self._check_profiles(form)
            onu.authorized.update(form)
        return {"status": True, "response_code": "success"}

    def _check_profiles(self, form: Mapping[str, str]) -> None:
        if not {form["upload_speed_profile_name"], form["download_speed_profile_name"]} <= self.profiles:
            raise RefusedError("The speed profile does not exist.")
