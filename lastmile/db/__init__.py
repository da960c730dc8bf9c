"""PostgreSQL: connections that belong to one tenant, and the migrations that make the tables."""

from lastmile.db.database import Database, PlatformConnection, TenantConnection
from lastmile.db.metadata import metadata

__all__ = ["Database", "PlatformConnection", "TenantConnection", "metadata"]
