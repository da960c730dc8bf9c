"""The rules of the operations that a suspended line allows, made of those on a line in service.

The rules of `resume` are in `suspensions`: it is refused for a line in service.
"""

from dataclasses import replace

from tests.workflows.every_way.rules.lifetime import DEPROVISION
from tests.workflows.every_way.rules.line_changes import CHANGE_PLAN
from tests.workflows.every_way.rules.replacements import CHANGE_ADDRESSING, RENUMBER
from tests.workflows.every_way.rules.rule import Flow, Rule, facts_of
from tests.workflows.every_way.rules.suspensions import RESUME

__all__ = ["ON_SUSPENDED_LINES"]

_WHILE_SUSPENDED = {
    "prefix active": "prefix suspended",
    "replaced prefix active": "replaced prefix suspended",
    "group": "group suspended",
    "group of the new plan": "suspended group of the new plan",
    "billing active": "billing suspended",
    "billing active for the new plan": "billing suspended for the new plan",
}
"""What a line in service has, and what a suspended line has in its place."""


def _words(words: str) -> str:
    return ", ".join(sorted({_WHILE_SUSPENDED.get(fact, fact) for fact in facts_of(words)}))


def _rule(rule: Rule) -> Rule:
    undo = rule.undo and replace(
        rule.undo,
        goes=_words(rule.undo.goes),
        comes=_words(rule.undo.comes),
        stuck_on=_words(rule.undo.stuck_on),
    )
    comes, goes = _words(rule.comes), _words(rule.goes)
    says = "skipped" if comes and comes == goes else rule.says  # as billing that is suspended already
    return replace(rule, comes=comes, goes=goes, undo=undo, says=says, stuck_on=_words(rule.stuck_on))


def _on_suspended_line(flow: Flow) -> Flow:
    return replace(
        flow,
        begins_with=RESUME.begins_with,
        steps=tuple(map(_rule, flow.steps)),
        after=("provision", "suspend"),
    )


ON_SUSPENDED_LINES = {
    "change_plan": _on_suspended_line(CHANGE_PLAN),
    "renumber": _on_suspended_line(RENUMBER),
    "change_addressing": _on_suspended_line(CHANGE_ADDRESSING),
    "deprovision": _on_suspended_line(DEPROVISION),
}
