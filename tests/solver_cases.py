"""Policies that tests of the solvers share."""

from __future__ import annotations

from halfulp.solvers.cg import CGPrecision, PrecisionPolicy, View


class Turns(PrecisionPolicy):
    """Precisions in turn."""

    def __init__(self, *precisions: CGPrecision) -> None:
        self.precisions, self.views = precisions, []

    def at(self, view: View) -> CGPrecision:
        self.views.append(view._replace(residuals=list(view.residuals), events=dict(view.events)))
        return self.precisions[(view.iteration - 1) % len(self.precisions)]

    def describe(self) -> dict:
        return {"policy": "turns"}
