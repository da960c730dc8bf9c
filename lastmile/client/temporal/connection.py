"""Connect to Temporal with the SDK's environment configuration and Lastmile's data converter."""

import re
from collections.abc import Mapping, Sequence

from temporalio.client import Client, Plugin
from temporalio.service import RPCError

from lastmile.client.schedules.retry import ScheduleRetryInterceptor
from lastmile.client.temporal.sdk_threads import wait_at_exit
from lastmile.client.temporal.search_attributes import SearchAttributeInterceptor
from lastmile.client.temporal.settings import temporal_settings
from lastmile.encryption.codec import data_converter
from lastmile.encryption.keys import KeyRing
from lastmile.errors import LastmileError

__all__ = ["TemporalUnreachableError", "connect"]


class TemporalUnreachableError(LastmileError):
    """No Temporal server answers at the configured address."""


async def connect(
    environment: Mapping[str, str] | None = None,
    keys: KeyRing | None = None,
    plugins: Sequence[Plugin] = (),
    *,
    lazy: bool = False,
) -> Client:
    """Connect with `TEMPORAL_ADDRESS`, `TEMPORAL_NAMESPACE`, `TEMPORAL_PROFILE` and the SDK's other variables.

    `environment` replaces the environment of the process; `keys` encrypt payloads. A `lazy` client connects with its
    first request. Raises `InvalidTemporalSettingsError` and `TemporalUnreachableError`.
    """
    config = temporal_settings(environment)
    config.setdefault("target_host", "localhost:7233")
    wait_at_exit()
    try:
        return await Client.connect(
            **config,
            lazy=lazy,
            data_converter=data_converter(keys),
            plugins=plugins,
            interceptors=[ScheduleRetryInterceptor(), SearchAttributeInterceptor()],
        )
    except (RPCError, RuntimeError, ValueError) as failure:
        raise TemporalUnreachableError(
            f"No Temporal server answers at {config['target_host']} ({_short(failure)}). "
            "Start one, for example with `lastmile up`, or set TEMPORAL_ADDRESS."
        ) from failure


# The SDK fails with the debugging output of its Rust core, which has the operating system's words inside.
_SYSTEM_WORDS = re.compile(r'(?:message|error): "([^"]+)"')


def _short(failure: Exception) -> str:
    said = str(failure)
    if words := _SYSTEM_WORDS.findall(said):
        return str(words[-1])
    return said.partition("\n")[0].partition("tonic::")[0].rstrip(": ")[:200]
