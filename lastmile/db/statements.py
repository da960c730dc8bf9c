"""SQL statements that are files of their own: `<package>/sql/<name>.sql`, each with a comment on its plan."""

from functools import cache
from importlib.resources import files

__all__ = ["read_sql"]


@cache
def read_sql(package: str, name: str, **fragments: str) -> str:
    """Return the SQL of `<package>/sql/<name>.sql`, without the comment at its head.

    `fragments` replace `{fragment}` in a statement that has variants: what PostgreSQL takes no parameter for.
    """
    lines = files(package).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8").splitlines()
    while lines and (lines[0].startswith("--") or not lines[0].strip()):
        del lines[0]
    sql = "\n".join(lines)
    for fragment, replacement in fragments.items():
        sql = sql.replace(f"{{{fragment}}}", replacement)
    return sql
