"""The initial schema: one file for each domain, in `lastmile/db/migrations/initial`."""

from importlib.resources import files

from lastmile.db.script import run_script

revision = "0001_initial"
down_revision = None
branch_labels = None
depends_on = None

DOMAINS = (
    "roles",
    "orders",
    "subscribers",
    "controllers",
    "ipam",
    "radius",
    "netbox",
    "quarantine",
    "audit",
    "api",
    "audit_log",
    "metrics",
    "access",
    "kea",
)
"""In the order of their dependencies: a domain's tables refer to those before it."""


def upgrade() -> None:
    for domain in DOMAINS:
        run_script(_read(domain))


def downgrade() -> None:
    run_script(_read("drop"))


def _read(name: str) -> str:
    return files("lastmile.db").joinpath("migrations", "initial", f"{name}.sql").read_text(encoding="utf-8")
