"""Decision about a complete series, by the site's rules or by default."""

from __future__ import annotations

from dicom_node.rules.decision import Explanation, decide, explain
from dicom_node.rules.document import Rule, Rules
from dicom_node.rules.load import NO_RULES, load_rules, read_rules
from dicom_node.rules.outcome import Decision, Skip, default_order
from dicom_node.rules.reload import ReloadableRules

__all__ = [
    "NO_RULES",
    "Decision",
    "Explanation",
    "ReloadableRules",
    "Rule",
    "Rules",
    "Skip",
    "decide",
    "default_order",
    "explain",
    "load_rules",
    "read_rules",
]
