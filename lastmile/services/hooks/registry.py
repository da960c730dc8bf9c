"""The mappings that a source can have. A new mapping adds its line here."""

from collections.abc import Mapping as ReadOnly

from lastmile.services.hooks.mapping import Mapping
from lastmile.services.hooks.uisp import Uisp

__all__ = ["MAPPINGS"]

MAPPINGS: ReadOnly[str, Mapping] = {mapping.name: mapping for mapping in (Uisp(),)}
"""The mappings by name."""
