"""A Prometheus for the workers of one stack, with the rules of production."""

import asyncio
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Self
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

from lastmile.devstack.ports import HOST
from lastmile.devstack.secret import write_private
from lastmile.devstack.server import ServerProcess
from lastmile.errors import LastmileError

__all__ = ["ALERTS", "API_JOB", "JOB", "RULES", "Prometheus", "PrometheusMissingError", "Sample", "find_prometheus"]

ALERTS = Path(__file__).parents[2] / "alerts"
RULES = (ALERTS / "ipv6-lifecycle.yml", ALERTS / "lastmile-platform.yml")
JOB, API_JOB = "lastmile", "lastmile-api"
"""The name of the workers' job, on which rules and dashboards rely. alerts/prometheus.yml has the same name."""


class PrometheusMissingError(LastmileError):
    """Prometheus is not installed. The message has the remedy."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The value of one series at one time."""

    labels: dict[str, str]
    value: float


def find_prometheus() -> str:
    """Return the path of the program.

    Raises:
        PrometheusMissingError: the program is not on the PATH.
    """
    if program := shutil.which("prometheus"):
        return program
    raise PrometheusMissingError(
        "Prometheus is not installed (Debian: `apt install prometheus`; macOS: `brew install prometheus`)."
    )


class Prometheus:
    """A Prometheus server, run by `async with`, with its data in `directory`.

    It scrapes `/metrics` of the workers `targets` and of the `api`, each as `host:port`, and evaluates the rules, every
    `interval` seconds.
    """

    process: ServerProcess

    def __init__(
        self, directory: Path, *, targets: Sequence[str], port: int, interval: float, api: Sequence[str] = ()
    ) -> None:
        self._directory = directory.absolute() / "prometheus"
        self._log = directory.absolute() / "logs" / "prometheus.log"
        self._targets = {JOB: list(targets), API_JOB: list(api)}
        self._interval = f"{interval * 1000:.0f}ms"
        self._port = port

    @property
    def url(self) -> str:
        """Return the URL of the web page."""
        return f"http://{HOST}:{self._port}"

    async def __aenter__(self) -> Self:
        """Start the server.

        Raises:
            PrometheusMissingError: Prometheus is not installed.
            ServerFailedError: the server did not start. The message has the end of its log.
        """
        program = find_prometheus()
        self._directory.mkdir(parents=True, exist_ok=True)
        configuration = self._directory / "prometheus.yml"
        write_private(configuration, json.dumps(self._configuration(), indent=1))
        self.process = await ServerProcess.start(
            "Prometheus",
            [
                program,
                f"--config.file={configuration}",
                f"--storage.tsdb.path={self._directory / 'data'}",
                f"--web.listen-address={HOST}:{self._port}",
                "--log.level=warn",
            ],
            log=self._log,
        )
        await self.process.ready(self._ready, within=30)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.process.stop()

    async def query(self, expr: str, *, at: float | None = None) -> list[Sample]:
        """Return the value of an expression, now or at the Unix time `at`.

        Raises:
            ValueError: the expression is invalid. The message is Prometheus's.
        """
        answer = await self._get("/api/v1/query", query=expr, **({} if at is None else {"time": str(at)}))
        if answer["resultType"] == "scalar":
            return [Sample({}, float(answer["result"][1]))]
        return [Sample(series["metric"], float(series["value"][1])) for series in answer["result"]]

    async def rules(self) -> list[dict[str, Any]]:
        """Return every rule with its query, labels, annotations, state, health and last error."""
        groups = (await self._get("/api/v1/rules"))["groups"]
        return [rule for group in groups for rule in group["rules"]]

    async def _get(self, path: str, **parameters: str) -> Any:
        return await asyncio.to_thread(self._fetch, path, parameters)

    def _fetch(self, path: str, parameters: dict[str, str]) -> Any:
        try:
            answer = json.load(self._open(f"{path}?{urlencode(parameters)}"))
        except HTTPError as refusal:
            answer = json.load(refusal)
            raise ValueError(f"{answer['errorType']}: {answer['error']}") from None
        return answer["data"]

    async def _ready(self) -> bool:
        return bool(await asyncio.to_thread(self._open, "/-/ready"))

    def _open(self, path: str) -> IO[bytes]:
        # The user's proxy for the Internet does not apply to the loopback address.
        with build_opener(ProxyHandler({})).open(self.url + path, timeout=10) as response:
            return BytesIO(response.read())

    def _configuration(self) -> dict[str, Any]:
        """Return the configuration for a JSON file, which Prometheus reads as YAML."""
        return {
            "global": {
                "scrape_interval": self._interval,
                "scrape_timeout": self._interval,
                "evaluation_interval": self._interval,
                "external_labels": {"runbooks": "docs/operations/runbooks.md"},
            },
            "rule_files": [str(file) for file in RULES],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": targets}]} for job, targets in self._targets.items()
            ],
        }
