"""What the README says is so."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_table_of_settings_is_the_generated_one() -> None:
    spec = importlib.util.spec_from_file_location("configuration", ROOT / "docs" / "configuration.py")
    assert spec is not None
    assert spec.loader is not None
    configuration = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(configuration)
    readme = (ROOT / "README.md").read_text()
    assert configuration.table() in readme, "run `python docs/configuration.py`"
