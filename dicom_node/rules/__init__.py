"""What to do with a complete series: the site's rules, and the decision where no rule says it."""

from __future__ import annotations

from dicom_node.rules.decision import Explanation, decide, explain
from dicom_node.rules.document import Rule, Rules
from dicom_node.rules.live import LiveRules
from dicom_node.rules.load import NO_RULES, load_rules, rules_of
from dicom_node.rules.outcome import Decision, Denoise, Priority, Skip, default_work

__all__ = [
    "NO_RULES",
    "Decision",
    "Denoise",
    "Explanation",
    "LiveRules",
    "Priority",
    "Rule",
    "Rules",
    "Skip",
    "decide",
    "default_work",
    "explain",
    "load_rules",
    "rules_of",
]
