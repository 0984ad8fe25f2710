"""hwcomponents_halfulp: halfulp's units as components of hwcomponents (Python >= 3.12), which finds it by this name.

Installed as a module of its own, since hwcomponents looks for top-level modules called ``hwcomponents_...``. Everything
is in its SI units: energy in J, area in m^2, leakage in W, latency in s, throughput in 1/s; ``tech_node`` is in m,
as in 7e-9, or halfulp's name, as in ``"7nm"``. Where a number comes from, and its band, is in the component's log.
hwcomponents is the estimator of CiMLoop (doi:10.1109/ISPASS61541.2024.00012).
"""

from __future__ import annotations

from collections.abc import Iterable

from halfulp import Cost, cost, function
from hwcomponents import ActionCost, ComponentModel, action

__all__ = ["HalfulpAdder", "HalfulpConverter", "HalfulpFMA", "HalfulpMAC", "HalfulpMultiplier"]

_PJ, _UM2, _NS, _NW = 1e-12, 1e-12, 1e-9, 1e-9

_Estimate = tuple[float, tuple[float, float], str]  #: value, low and high, basis


def _node(tech_node: float | str) -> str:
    """halfulp's name of a node."""
    if isinstance(tech_node, str) and tech_node.strip().endswith(("nm", ".json")):
        return tech_node.strip()
    return f"{float(tech_node) * 1e9:.6g}nm"


def _estimates(price: Cost) -> dict[str, _Estimate]:
    """A unit's energy, area, delay and leakage."""
    return {q: (getattr(price, q), price.band[q], price.basis[q]) for q in price.band}


class _Unit(ComponentModel):
    """A unit that halfulp prices.

    Parameters
    ----------
    what : its name.
    estimates : of energy_pj (of one action), area_um2, delay_ns (of one clock) and leakage_nw.
    sources, warnings : for the log.
    """

    def __init__(
        self, what: str, estimates: dict[str, _Estimate], sources: Iterable[str], warnings: Iterable[str] = ()
    ) -> None:
        values = {name: value for name, (value, _, _) in estimates.items()}
        super().__init__(leak_power=values["leakage_nw"] * _NW, area=values["area_um2"] * _UM2)
        self.energy_pj, self.delay_ns = values["energy_pj"], values["delay_ns"]
        self.logger.info(f"halfulp: {what}")
        for name, (value, (low, high), basis) in estimates.items():
            self.logger.info(f"halfulp: {name} {value:.4g} [{low:.3g} ... {high:.3g}] {basis}")
        for warning in warnings:
            self.logger.warning(f"halfulp: {warning}")
        for source in sorted(sources):
            self.logger.info(f"halfulp: source: {source}")

    def _action(self, clocks: int = 1, per_clock: int = 1) -> ActionCost:
        seconds = self.delay_ns * _NS
        return ActionCost(self.energy_pj * _PJ, latency=clocks * seconds, throughput=per_clock / seconds)


class HalfulpMAC(_Unit):
    """A multiply-accumulate unit of any datapath, as ``halfulp.cost`` prices it, registers included.

    Parameters
    ----------
    datapath : str
        halfulp's text form, as in ``"fp8_e4m3/fp32:fused4g2"``. A unit of n multipliers does n MACs a clock.
    tech_node : float
        In m, 2e-9 to 130e-9; or a name, as in ``"7nm"``.
    pipeline : int
        Ranks of registers besides that of the sum.
    """

    component_name = "HalfulpMAC"

    def __init__(self, datapath: str, tech_node: float, pipeline: int = 0) -> None:
        node = _node(tech_node)
        price = cost(datapath, node, pipeline)
        estimates = _estimates(price)
        super().__init__(f"{datapath} at {node}", estimates, price.sources, price.warnings)
        self.pipeline, self.macs_per_cycle = pipeline, price.macs_per_cycle

    @action
    def mac(self) -> ActionCost:
        """One multiply-accumulation: its energy, the latency of all ranks, the throughput of all multipliers."""
        return self._action(self.pipeline + 1, self.macs_per_cycle)

    @action
    def compute(self) -> ActionCost:
        """The same as ``mac``."""
        return self.mac()


class _Function(_Unit):
    """A function unit, as ``halfulp.cost`` prices it: logic without registers."""

    def __init__(self, name: str, tech_node: float | str, rounding: str) -> None:
        unit = function(name, rounding)
        price = cost(unit, _node(tech_node))
        estimates = _estimates(price)
        super().__init__(f"{name} {rounding} at {price.node}", estimates, price.sources, price.warnings)

    @action
    def compute(self) -> ActionCost:
        """One operation."""
        return self._action()


class HalfulpAdder(_Function):
    """An adder.

    Parameters
    ----------
    format : str
        Of operands and result, as in ``"bf16"`` or ``"q4.12"``.
    tech_node : float
        In m, 2e-9 to 130e-9; or a name, as in ``"7nm"``.
    rounding : str
        ``"RNE"``, ``"RTZ"``, ``"SR8"``, ...
    """

    component_name = "HalfulpAdder"

    def __init__(self, format: str, tech_node: float, rounding: str = "RNE") -> None:
        super().__init__(f"{format}_add", tech_node, rounding)

    @action
    def add(self) -> ActionCost:
        """One addition."""
        return self.compute()


class HalfulpMultiplier(_Function):
    """A multiplier; parameters as those of ``HalfulpAdder``."""

    component_name = "HalfulpMultiplier"

    def __init__(self, format: str, tech_node: float, rounding: str = "RNE") -> None:
        super().__init__(f"{format}_mul", tech_node, rounding)

    @action
    def multiply(self) -> ActionCost:
        """One multiplication."""
        return self.compute()


class HalfulpFMA(_Function):
    """A fused multiply-add; parameters as those of ``HalfulpAdder``."""

    component_name = "HalfulpFMA"

    def __init__(self, format: str, tech_node: float, rounding: str = "RNE") -> None:
        super().__init__(f"{format}_fma", tech_node, rounding)

    @action
    def fma(self) -> ActionCost:
        """One multiplication and addition, rounded once."""
        return self.compute()


class HalfulpConverter(_Function):
    """A converter from ``format`` to ``result``; other parameters as those of ``HalfulpAdder``."""

    component_name = "HalfulpConverter"

    def __init__(self, format: str, result: str, tech_node: float, rounding: str = "RNE") -> None:
        super().__init__(f"{format}_to_{result}", tech_node, rounding)

    @action
    def convert(self) -> ActionCost:
        """One conversion."""
        return self.compute()
