"""Attribute templates: the RADIUS attributes of a plan's rates and of a suspension, for each vendor's NASes.

The ready templates are in `templates.toml`. Their attributes are those of the dictionaries that FreeRADIUS ships:
dictionary.wispr, dictionary.mikrotik, dictionary.erx, dictionary.cisco, dictionary.alcatel.sr and dictionary.huawei.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field
from pyrad.packet import CoAPacket, CoARequest

from lastmile.fields.text import PRINTABLE
from lastmile.radius.attributes import DICTIONARY, InvalidAttributeError, add
from lastmile.radius.dynauth import refuse_reserved
from lastmile.radius.groups import Group
from lastmile.radius.reply_attributes import REPLY_ATTRIBUTES

__all__ = [
    "DEFAULT_TEMPLATE",
    "READY_TEMPLATES",
    "Item",
    "State",
    "Template",
    "TemplateName",
    "find_problems",
    "render",
]

State = Literal["in_service", "slow", "walled_garden"]
STATES: Final[tuple[State, ...]] = get_args(State)

TemplateName = Annotated[str, Field(strict=True, pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")]
DEFAULT_TEMPLATE: Final = "wispr"

_OPERATORS = (":=", "+=", "=")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
# A vendor's attribute has room for 247 octets (RFC 2865 section 5.26).
_LONGEST_VALUE = 247
_RULES = {"string": f"text of at most {_LONGEST_VALUE} octets", "integer": "a whole number from 0 to 4294967295"}
# The shortest values of the placeholders. A rate that does not fit is found when the rate is known.
_SAMPLE = Group("t", "p", 1, 1)


class Item(NamedTuple):
    """A row of `radgroupreply` or `radgroupcheck`."""

    attribute: str
    operator: str
    value: str


ItemText = Annotated[str, Field(strict=True, max_length=400), PRINTABLE]


class Template(BaseModel):
    """The reply items of each state, each written as `ATTRIBUTE OPERATOR VALUE` with placeholders in the value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    summary: Annotated[str, Field(strict=True, min_length=1, max_length=200), PRINTABLE]
    in_service: tuple[ItemText, ...]
    slow: tuple[ItemText, ...] | None = None
    """None: the items of `in_service`, with the slow rates."""
    walled_garden: tuple[ItemText, ...] = ()
    coa: tuple[State, ...] = ()
    """The states between which a CoA-Request can switch a live session of a NAS of this type."""
    otherwise: TemplateName | None = None
    """The template for rates that do not fit into the attributes of this one."""

    def items(self, state: State) -> tuple[str, ...]:
        """Return the items of a line in this state."""
        if state == "slow" and self.slow is not None:
            return self.slow
        return self.walled_garden if state == "walled_garden" else self.in_service


def _read_ready_templates() -> dict[str, Template]:
    tables = tomllib.loads(Path(__file__).with_name("templates.toml").read_text(encoding="utf-8"))
    return {name: Template.model_validate(table) for name, table in tables.items()}


READY_TEMPLATES: Final[Mapping[str, Template]] = _read_ready_templates()
"""The templates that come with Lastmile, by name. The name is also the type of a NAS in the table `nas`."""


def find_problems(template: Template) -> list[str]:
    """Return what is wrong with the items of a template, one sentence each, with the item."""
    problems = []
    for state in STATES:
        for text in template.items(state) if state != "slow" or template.slow is not None else ():
            try:
                _check_item(_fill_in(text, _placeholders(_SAMPLE)))
            except InvalidAttributeError as error:
                problems.append(f"{state}: {text}: {error}")
    return problems


def render(templates: Mapping[str, Template], name: str, state: State, group: Group) -> list[Item]:
    """Return the reply items of a template for `group`.

    Args:
        name: the template. If the rates do not fit into its attributes, its `otherwise` takes its place.
        group: the plan, with the rates that the placeholders get.

    Raises:
        InvalidAttributeError: a value does not fit its attribute, and there is no other template for it.
    """
    template = templates[name]
    try:
        items = [_fill_in(text, _placeholders(group)) for text in template.items(state)]
        for item in items:
            _check_item(item)
    except InvalidAttributeError as error:
        if template.otherwise is not None:
            return render(templates, template.otherwise, state, group)
        raise InvalidAttributeError(
            f"Template {name}, {state}, plan {group.plan_name}: {error} Change the template with `lastmile radius "
            "template set`, or the rates of the plan."
        ) from error
    return items


def _placeholders(group: Group) -> dict[str, str]:
    return {
        "plan": group.plan,
        "group": group.plan_name,
        "tenant": group.tenant,
        "download_kbps": str(group.download_kbps),
        "upload_kbps": str(group.upload_kbps),
        "download_bps": str(group.download_kbps * 1000),
        "upload_bps": str(group.upload_kbps * 1000),
    }


def _fill_in(text: str, values: Mapping[str, str]) -> Item:
    """Return the item with the values of its placeholders."""
    parts: Sequence[str] = text.split(None, 2)
    if len(parts) < 3 or parts[1] not in _OPERATORS:
        raise InvalidAttributeError(
            f"Write ATTRIBUTE OPERATOR VALUE, as in Filter-Id := gold. The operators are {', '.join(_OPERATORS)}."
        )
    attribute, operator, value = parts
    names = _PLACEHOLDER.findall(value)
    if unknown := [name for name in names if name not in values]:
        raise InvalidAttributeError(
            f"{{{unknown[0]}}} is not a placeholder. Placeholders: {', '.join(f'{{{name}}}' for name in values)}."
        )
    filled = _PLACEHOLDER.sub(lambda found: values[found[1]], value)
    if "{" in filled or "}" in filled:
        raise InvalidAttributeError("A brace has no counterpart. Write a placeholder as {plan}.")
    return Item(attribute, operator, filled)


def _check_item(item: Item) -> None:
    """Raise `InvalidAttributeError` if a NAS could not get the item in an Access-Accept or a CoA-Request."""
    name = item.attribute.partition(":")[0]
    attribute = DICTIONARY.attributes.get(name)
    if attribute is None:
        raise InvalidAttributeError(
            f"No attribute {name} is in Lastmile's dictionary. Correct the name: upper and lower case count."
        )
    if name in REPLY_ATTRIBUTES.values():
        raise InvalidAttributeError(f"{name}: Lastmile writes the addresses of a line itself. Omit the item.")
    refuse_reserved(name)
    try:
        add(CoAPacket(code=CoARequest, id=0, secret=b"-", dict=DICTIONARY), item.attribute, item.value)
        fits = len(item.value.encode()) <= _LONGEST_VALUE
    except InvalidAttributeError:
        fits = False
    if not fits:
        rule = _RULES.get(attribute.type, "a value as FreeRADIUS's dictionary describes it")
        raise InvalidAttributeError(f"{name} takes {rule}, and {item.value[:60]!r} does not fit.")
