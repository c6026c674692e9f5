"""The guard: is a denoised volume plausible beside its source?

``inspection.inspect`` measures and judges; it needs torch. What stands here does not.
"""

from man_core.guard.limits import GuardLimits, Limit
from man_core.guard.verdict import Check, Finding, Verdict, worst

__all__ = ["Check", "Finding", "GuardLimits", "Limit", "Verdict", "worst"]
