"""Check the configuration of Temporal before a connection is tried, and report each mistake by variable."""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from temporalio.envconfig import ClientConfig, ClientConnectConfig

from lastmile.errors import LastmileError

__all__ = ["InvalidTemporalSettingsError", "temporal_setting_mistakes", "temporal_settings"]

_TLS_FILES = {
    "TEMPORAL_TLS_CLIENT_CERT_PATH": "client_cert_path",
    "TEMPORAL_TLS_CLIENT_KEY_PATH": "client_key_path",
    "TEMPORAL_TLS_SERVER_CA_CERT_PATH": "server_ca_cert_path",
}
"""The variables that name a file, and the keys of a profile's `tls` table for the same."""

_ADDRESS = re.compile(r"[^\s/:]+:[0-9]{1,5}|\[[0-9A-Fa-f:.]+\]:[0-9]{1,5}")


class InvalidTemporalSettingsError(LastmileError):
    """The settings of Temporal are invalid; each problem is one line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(["The settings of Temporal cannot be used:", *(f"  {one}" for one in problems)]))
        self.problems = problems


def temporal_settings(environment: Mapping[str, str] | None = None) -> ClientConnectConfig:
    """Return the SDK's environment configuration. Raises `InvalidTemporalSettingsError` with every mistake."""
    environment = os.environ if environment is None else environment
    if problems := temporal_setting_mistakes(environment):
        raise InvalidTemporalSettingsError(problems)
    return ClientConfig.load_client_connect_config(override_env_vars=dict(environment))


def temporal_setting_mistakes(environment: Mapping[str, str]) -> list[str]:
    """Return the mistakes, one line each."""
    profile, problems = _profile(environment)
    problems += _tls_mistakes(environment, profile.get("tls", {}))
    address = environment.get("TEMPORAL_ADDRESS") or profile.get("address")
    if isinstance(address, str) and not (_ADDRESS.fullmatch(address) and 0 < int(address.rpartition(":")[2]) < 2**16):
        problems.append(f"TEMPORAL_ADDRESS: must be host:port, as in temporal.example.net:7233, and is {address!r}")
    if not problems:
        try:
            ClientConfig.load_client_connect_config(override_env_vars=dict(environment))
        except (OSError, RuntimeError, ValueError) as failure:
            # Its words name variables; of a TOML file they are a drawing of several lines.
            words = str(failure).partition("\n")[0].removeprefix("Invalid configuration: ")
            problems.append(f"TEMPORAL_CONFIG_FILE, or another variable of Temporal's: {words}")
    return problems


def _profile(environment: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return the profile of the configuration file, and the mistakes in both."""
    file = Path(environment.get("TEMPORAL_CONFIG_FILE") or _default_file(environment))
    requested = environment.get("TEMPORAL_PROFILE")
    try:
        profiles = tomllib.loads(file.read_text()).get("profile", {}) if file.exists() else {}
    except tomllib.TOMLDecodeError as failure:
        place = re.search(r"\(at (.*)\)", str(failure))
        return {}, [f"TEMPORAL_CONFIG_FILE: {file} is not valid TOML{f' at {place[1]}' if place else ''}"]
    except UnicodeDecodeError:
        return {}, [f"TEMPORAL_CONFIG_FILE: {file} is not text in UTF-8"]
    except OSError as failure:
        return {}, [f"TEMPORAL_CONFIG_FILE: {file} cannot be read: {failure.strerror}"]
    if not isinstance(profiles, dict) or not all(isinstance(one, dict) for one in profiles.values()):
        return {}, [f"TEMPORAL_CONFIG_FILE: {file} must have a table for each profile, as in [profile.default]"]
    if requested and requested not in profiles:
        there = f"{file} has {', '.join(sorted(profiles)) or 'none'}" if file.exists() else f"{file} does not exist"
        return {}, [f"TEMPORAL_PROFILE: there is no profile {requested!r}: {there}"]
    return profiles.get(requested or "default", {}), []


def _default_file(environment: Mapping[str, str]) -> Path:
    """Return the default path of the SDK (Linux, macOS)."""
    home = Path(environment.get("HOME") or Path.home())
    places = [Path(environment.get("XDG_CONFIG_HOME") or home / ".config"), home / "Library" / "Application Support"]
    files = [place / "temporalio" / "temporal.toml" for place in places]
    return next((file for file in files if file.exists()), files[0])


def _tls_mistakes(environment: Mapping[str, str], tls: Any) -> Iterator[str]:
    named = {}
    for variable, key in _TLS_FILES.items():
        path = environment.get(variable) or (tls.get(key) if isinstance(tls, dict) else None)
        if not isinstance(path, str):
            continue
        named[key] = path
        if environment.get(variable) and environment.get(data := variable.replace("_PATH", "_DATA")):
            yield f"{variable} and {data}: only one of them can be set"
        elif words := _unreadable(Path(path)):
            yield f"{variable}: {path} {words}"
    pair = {"TEMPORAL_TLS_CLIENT_CERT": "client_cert", "TEMPORAL_TLS_CLIENT_KEY": "client_key"}
    there = {
        variable: bool(
            named.get(f"{key}_path")
            or environment.get(f"{variable}_DATA")
            or (isinstance(tls, dict) and tls.get(f"{key}_data"))
        )
        for variable, key in pair.items()
    }
    if len(set(there.values())) > 1:
        lacking = next(variable for variable, is_there in there.items() if not is_there)
        yield f"{lacking}_PATH: must be set too: a client certificate and its key go together"


def _unreadable(file: Path) -> str:
    try:
        content = file.read_bytes()
    except OSError as failure:
        return f"cannot be read: {failure.strerror}"
    return "" if b"-----BEGIN " in content else "must be a file in PEM, which begins with -----BEGIN"
