"""PostgreSQL: connections that belong to one tenant, and the migrations that make the tables."""

from lastmile.db.database import Database, Fence, PlatformConnection, TenantConnection
from lastmile.db.metadata import metadata

__all__ = ["Database", "Fence", "PlatformConnection", "TenantConnection", "metadata"]
