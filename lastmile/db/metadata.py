"""The one `MetaData` that every domain's tables belong to, so that a test can hold it against the migrations."""

from sqlalchemy import MetaData

__all__ = ["metadata"]

metadata = MetaData()
