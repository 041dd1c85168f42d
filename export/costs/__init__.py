"""What one op takes in hardware, by kind: counts from its numbers and formats, and estimates that were fitted.

:mod:`export.costs.estimate` says which is which, and how good. A new op registers a rule of its own; one without is
named.
"""

from __future__ import annotations

from export.costs import elements, layers  # their rules count from here on
from export.costs.basis import OpEstimate, Target, estimate_op
from export.costs.layers import multipliers_of

__all__ = ["OpEstimate", "Target", "elements", "estimate_op", "layers", "multipliers_of"]
