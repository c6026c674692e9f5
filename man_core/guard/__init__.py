"""Guard: plausibility check of a denoised volume against its source.

``inspection.inspect`` measures and judges, which needs torch. The names exported here do not.
"""

from man_core.guard.limits import GuardLimits, Limit
from man_core.guard.verdict import Check, Finding, Verdict, worst

__all__ = ["Check", "Finding", "GuardLimits", "Limit", "Verdict", "worst"]
