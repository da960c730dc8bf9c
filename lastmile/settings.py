"""Every setting of Lastmile, in one place; nothing else reads the environment.

How to reach Temporal is the exception by design: the SDK's own environment configuration
(`temporalio.envconfig`: `TEMPORAL_ADDRESS`, `TEMPORAL_NAMESPACE`, `TEMPORAL_PROFILE`, TLS, API key)
decides, so that Lastmile and the `temporal` command always talk to the same cluster.
"""

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from dotenv import dotenv_values
from pydantic import Field, FilePath, HttpUrl, PostgresDsn, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from lastmile.fields.scalars import WrittenDecimal, WrittenNumber
from lastmile.radius.vrf import VrfAttribute

__all__ = ["STACK_FILE", "Settings"]

STACK_FILE = "stack.env"
"""In the state directory while an embedded stack runs: how to reach it, in the same variables."""

if TYPE_CHECKING:
    from lastmile.encryption.keys import KeyRing

Seconds = Annotated[WrittenDecimal, Field(gt=0, le=86_400)]
LongSeconds = Annotated[WrittenDecimal, Field(ge=0, le=10 * 365 * 86_400)]


class Settings(BaseSettings):
    """Read from the environment; each field's variable is its name in capitals behind `LASTMILE_`."""

    model_config = SettingsConfigDict(env_prefix="LASTMILE_", extra="ignore", frozen=True, hide_input_in_errors=True)

    database_url: PostgresDsn | None = Field(
        default=None,
        validation_alias="DATABASE_URL",
        description="PostgreSQL, as `postgresql://user:password@host:port/name`. The login must be a member "
        "of `lastmile_app` and `lastmile_platform`. Without it, `lastmile up` runs a PostgreSQL of its own.",
    )
    database_owner_url: PostgresDsn | None = Field(
        default=None,
        validation_alias="DATABASE_OWNER_URL",
        description="The login that owns the tables, for migrations only. Default: `DATABASE_URL`.",
    )
    database_pool_size: WrittenNumber = Field(
        default=16, ge=1, le=1_000, description="Database connections per process."
    )
    state_dir: Path = Field(default=Path(".lastmile"), description="The state directory of the embedded stack.")
    task_queue: str = Field(default="lastmile", min_length=1, description="Temporal task queue.")
    deployment: str = Field(
        default="lastmile", pattern=r"^[A-Za-z0-9_-]{1,64}$", description="The name of the Temporal Worker Deployment."
    )
    build_id: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="The version of the worker's code. Orders stay with the version that started them. A version gets "
        "new orders once it is the current one: docs/operations/deployment.md. Without it, any worker takes any order.",
    )
    http_host: str = Field(default="127.0.0.1", description="Address of `/healthz`, `/readyz` and `/metrics`.")
    http_port: WrittenNumber = Field(
        default=9464,
        ge=0,
        le=65535,
        description="Port of `/healthz`, `/readyz` and `/metrics`. Process *n* of several uses this port + *n*.",
    )
    shutdown_grace_seconds: Seconds = Field(
        default=30, description="Seconds that running activities have to finish after SIGTERM."
    )
    max_concurrent_activities: WrittenNumber = Field(
        default=64, ge=1, le=10_000, description="Activity slots per process."
    )
    max_concurrent_workflow_tasks: WrittenNumber = Field(
        default=4,
        ge=2,
        le=10_000,
        description="Workflow task slots per process. One or two slots wait for the next task; each other slot has one "
        "order at work. Further orders wait in Temporal, where urgent orders and other tenants pass them.",
    )
    max_cached_workflows: WrittenNumber = Field(
        default=2000,
        ge=1,
        le=1_000_000,
        description="Runs kept in memory per process. Fewer than the number of active runs halve the throughput.",
    )
    quarantine_seconds: LongSeconds = Field(
        default=86_400,
        description="The quarantine of a released prefix, in seconds: no other subscriber gets the prefix meanwhile. "
        "Not less than the DHCPv6 valid lifetime of your access network.",
    )
    quarantine_unconfirmed_seconds: LongSeconds = Field(
        default=7 * 86_400,
        description="The quarantine, in seconds, if no NAS confirmed that the subscriber's session has ended. "
        "Not less than your longest session (RADIUS `Session-Timeout`).",
    )
    audit_days: WrittenNumber = Field(
        default=365,
        ge=1,
        le=36_500,
        description="Days for which the audit log, and the events of a delegation after its end, are kept. "
        "The daily cleanup deletes older entries.",
    )
    radius_timeout_seconds: Seconds = Field(
        default=3, description="Seconds to wait for the reply to one Disconnect or CoA request."
    )
    radius_tries: WrittenNumber = Field(default=3, ge=1, le=30, description="Attempts to send one request.")
    radius_in_flight: WrittenNumber = Field(
        default=64, ge=1, le=256, description="Disconnect and CoA requests in flight per NAS and process."
    )
    radius_vrf_attribute: str | None = Field(
        default=None,
        description="The RADIUS reply attribute that names the VRF of a line, as `NAME=VALUE` with `{vrf}` in VALUE. "
        "Each vendor has its own: `ERX-Virtual-Router-Name={vrf}`, `Cisco-AVPair=ip:vrf-id={vrf}`, "
        "`Huawei-VPN-Instance={vrf}`. Without it, RADIUS names no VRF, and the BNG must know the VRF.",
    )
    netbox_url: HttpUrl | None = Field(
        default=None,
        validation_alias="NETBOX_URL",
        description="NetBox, as `https://netbox.example.net`. Without it, pools live in the database alone.",
    )
    netbox_token: SecretStr | None = Field(
        default=None,
        validation_alias="NETBOX_TOKEN",
        validate_default=True,
        description="A NetBox API token. `lastmile netbox check` lists the permissions that it needs.",
    )
    netbox_ca_file: FilePath | None = Field(
        default=None,
        description="The CAs that may sign NetBox's certificate, as PEM. Default: the public CAs.",
    )
    netbox_link: str | None = Field(
        default=None,
        description="The link on each prefix in NetBox to more information about its subscriber: a URL with `{tenant}` "
        "and `{subscriber}`, such as `https://temporal.example.net/namespaces/default/workflows"
        "?query=WorkflowId%3D%22subscriber%2F{tenant}%2F{subscriber}%22` of the Temporal UI.",
    )
    netbox_timeout_seconds: WrittenDecimal = Field(
        default=10, gt=0, le=12, description="Seconds to wait for one answer of NetBox."
    )
    netbox_in_flight: WrittenNumber = Field(
        default=4,
        ge=1,
        le=64,
        description="Requests to NetBox in flight per process. More requests make NetBox slower for all its users.",
    )
    encryption_keys: SecretStr | None = Field(
        default=None,
        description="The keys of the data that Temporal stores: the first encrypts, each decrypts. `name:key,…`; a key "
        "is 32 random bytes in base64. docs/operations/encryption.md says how to rotate them.",
    )
    api_host: str = Field(default="127.0.0.1", description="Address of the REST API (`lastmile api`).")
    api_port: WrittenNumber = Field(default=8080, ge=0, le=65535, description="Port of the REST API.")
    api_metrics_port: WrittenNumber = Field(
        default=9480,
        ge=0,
        le=65535,
        description="Port of the API's `/metrics`, at the address of the API. Process *n* of several uses this port "
        "+ *n*.",
    )
    codec_host: str = Field(default="127.0.0.1", description="Address of `lastmile codec-server`.")
    codec_port: WrittenNumber = Field(default=8081, ge=0, le=65535, description="Port of `lastmile codec-server`.")
    codec_origin: str | None = Field(
        default=None,
        pattern=r"^https?://[^/\s]+$",
        description="The Temporal UI, as `https://temporal.example.net`. The codec server answers no other origin.",
    )
    codec_users: SecretStr | None = Field(
        default=None,
        description="Users who may see decrypted payloads: `name:password,…`; a password has at least 16 characters.",
    )
    api_url: HttpUrl | None = Field(
        default=None,
        description="The REST API that the command and the Python client use in place of the database and Temporal, as "
        "`https://api.example.net`. `SSL_CERT_FILE` names the CAs of a private certificate.",
    )
    api_token: SecretStr | None = Field(
        default=None,
        description="The API key (`lastmile api-key add`) or the token of an identity provider for that API.",
    )
    api_cors_origins: str | None = Field(
        default=None,
        pattern=r"^https?://[^/\s,]+(\s*,\s*https?://[^/\s,]+)*$",
        description="The web pages that may call the REST API from a browser, as `https://crm.example.net,…`. "
        "Without it no page of another origin may.",
    )
    api_oidc_issuer: str | None = Field(
        default=None,
        description="The OpenID Connect issuer whose tokens the REST API accepts, exactly as in their claim `iss`. Its "
        "keys are found by OpenID Connect Discovery. `SSL_CERT_FILE` names the CAs of a private issuer. Without it and "
        "`LASTMILE_API_JWKS_FILE`, the API accepts API keys only.",
    )
    api_jwks_file: FilePath | None = Field(
        default=None,
        description="The public keys of the tokens that the REST API accepts, as a JSON Web Key Set, instead of those "
        "that the issuer publishes. Read when the API starts.",
    )
    api_audience: str | None = Field(
        default=None,
        min_length=1,
        validate_default=True,
        description="The name of this API in the claim `aud` of tokens.",
    )
    otel_exporter_otlp_endpoint: HttpUrl | None = Field(
        default=None,
        validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="An OpenTelemetry collector for OTLP over HTTP, as `http://localhost:4318`. Workers send it traces."
        " Needs the extra `tracing`. OpenTelemetry's other variables apply as well.",
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="`auto`: readable on a terminal, JSON elsewhere."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO",
        description="The lowest severity that is logged. Below `INFO`, only Lastmile's own records are logged.",
    )

    @field_validator("netbox_url")
    @classmethod
    def _without_login(cls, url: HttpUrl | None) -> HttpUrl | None:
        if url is not None and (url.username or url.password or url.query):
            raise ValueError("must be no more than https://host:port/path: what is secret belongs in NETBOX_TOKEN")
        return url

    @field_validator("api_url")
    @classmethod
    def _without_token(cls, url: HttpUrl | None) -> HttpUrl | None:
        if url is not None and (url.username or url.password or url.query or url.fragment):
            raise ValueError(
                "must be no more than https://host:port/path: what is secret belongs in LASTMILE_API_TOKEN"
            )
        return url

    @field_validator("api_token")
    @classmethod
    def _one_word(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and not re.fullmatch(r"[!-~]+", token.get_secret_value()):
            raise ValueError("must be one word of ASCII characters")
        return token

    @field_validator("netbox_link")
    @classmethod
    def _fillable(cls, link: str | None) -> str | None:
        if link is not None:
            try:
                HttpUrl(link.format(tenant="acme", subscriber="S-1"))
            except (ValueError, LookupError, AttributeError):
                raise ValueError(
                    "must be a URL, as in https://temporal.example.net/{tenant}/{subscriber}, with no other {}"
                ) from None
        return link

    @field_validator("netbox_token")
    @classmethod
    def _sendable(cls, token: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if token is None and info.data.get("netbox_url") is not None:
            raise ValueError("must be set where NETBOX_URL is: NetBox answers nothing without a token")
        if token is not None and not re.fullmatch(r"[!-~]+", token.get_secret_value()):
            raise ValueError("must be one word of ASCII characters")
        return token

    @field_validator("api_oidc_issuer")
    @classmethod
    def _issuer(cls, issuer: str | None) -> str | None:
        url = r"(https://[^\s/?#]+|http://(127\.0\.0\.1|localhost)(:\d+)?)(/[^\s?#]*)?"
        if issuer is not None and not re.fullmatch(url, issuer):
            raise ValueError("must be a URL that begins with https://, without a query")
        return issuer

    @field_validator("api_audience")
    @classmethod
    def _audience(cls, audience: str | None, info: ValidationInfo) -> str | None:
        if audience is None and (info.data.get("api_oidc_issuer") or info.data.get("api_jwks_file")):
            raise ValueError(
                "must be set where LASTMILE_API_OIDC_ISSUER or LASTMILE_API_JWKS_FILE is: otherwise the API would "
                "accept tokens for other services"
            )
        return audience

    @field_validator("radius_vrf_attribute")
    @classmethod
    def _vrf_attribute(cls, written: str | None) -> str | None:
        if written is not None:
            VrfAttribute.parse(written)
        return written

    @field_validator("encryption_keys")
    @classmethod
    def _keys(cls, keys: SecretStr | None) -> SecretStr | None:
        if keys is not None:
            _key_ring(keys)
        return keys

    @field_validator("codec_users")
    @classmethod
    def _users(cls, users: SecretStr | None) -> SecretStr | None:
        if users is not None:
            from lastmile.encryption.server import parse_users

            parse_users(users.get_secret_value())
        return users

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        # A deprovision asks up to three rounds of NASes within one attempt of two minutes.
        if self.radius_timeout_seconds * self.radius_tries > 30:
            raise ValueError("LASTMILE_RADIUS_TIMEOUT_SECONDS times LASTMILE_RADIUS_TRIES must not exceed 30 seconds")
        return self

    @classmethod
    def load(cls) -> Self:
        """The settings; what the environment leaves open is taken from the stack that runs in the state directory.

        Raises pydantic's `ValidationError`, which lists everything that is wrong.
        """
        return cls(_env_file=cls().stack_file)

    @property
    def stack_file(self) -> Path:
        return self.state_dir / STACK_FILE

    @property
    def embedded(self) -> bool:
        """Whether the database is that of the stack that runs in the state directory: a demonstration."""
        running = dotenv_values(self.stack_file).get("DATABASE_URL")
        return running is not None and self.database_url == PostgresDsn(running)

    @property
    def environment(self) -> Mapping[str, str]:
        """The process's environment over the running stack's: what the Temporal SDK's configuration reads."""
        stack = {name: value for name, value in dotenv_values(self.stack_file).items() if value is not None}
        return stack | dict(os.environ)

    @property
    def key_ring(self) -> "KeyRing | None":
        """What payloads are encrypted with; None where they are not."""
        return None if self.encryption_keys is None else _key_ring(self.encryption_keys)

    @property
    def quarantine(self) -> timedelta:
        return timedelta(seconds=self.quarantine_seconds)

    @property
    def quarantine_unconfirmed(self) -> timedelta:
        return timedelta(seconds=self.quarantine_unconfirmed_seconds)

    @property
    def audit_period(self) -> timedelta:
        return timedelta(days=self.audit_days)

    @property
    def vrf_attribute(self) -> VrfAttribute | None:
        return None if self.radius_vrf_attribute is None else VrfAttribute.parse(self.radius_vrf_attribute)

    @property
    def netbox(self) -> dict[str, Any] | None:
        """What `ipam.netbox.NetBox` is made with; None where pools live in the database alone."""
        if self.netbox_url is None or self.netbox_token is None:
            return None
        return {
            "url": str(self.netbox_url),
            "token": self.netbox_token.get_secret_value(),
            "ca_file": self.netbox_ca_file,
            "read_timeout": self.netbox_timeout_seconds,
            "in_flight": self.netbox_in_flight,
            "link": self.netbox_link,
        }


def _key_ring(keys: SecretStr) -> "KeyRing":
    from lastmile.encryption.keys import KeyRing  # most commands need none of it

    return KeyRing.parse(keys.get_secret_value())
