"""The client program of the README, as a module."""

from pathlib import Path

__all__ = ["ROOT", "client_program"]

ROOT = Path(__file__).parents[2]
SECTION = "## From another program\n\n```python\n"


def client_program() -> str:
    """Return a module with the README's example in `main`; the order is JSON in the variable `ORDER`."""
    imports, _, body = (ROOT / "README.md").read_text().partition(SECTION)[2].partition("```")[0].partition("\n\n")
    assert body, "the README's client is not where this looks for it"
    lines = ['order = json.loads(os.environ["ORDER"])', *body.splitlines()]
    return "\n".join(
        [
            "import asyncio",
            "import json",
            "import os",
            imports,
            "",
            "async def main():",
            *(f"    {line}" for line in lines),
        ]
    )
