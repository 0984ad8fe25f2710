"""The plug-in of hwcomponents: found by name, and what it says is what ``hu.cost`` says, in SI units.

python3.12 -m venv hw && hw/bin/pip install '.[hwcomponents]' pytest
hw/bin/python -m pytest tests/test_hwcomponents.py
"""

from __future__ import annotations

import pkgutil

import halfulp as hu
import pytest

hwcomponents = pytest.importorskip(
    "hwcomponents", reason="needs hwcomponents, of Python 3.12 and later: pip install '.[hwcomponents]'"
)
plugin = pytest.importorskip("hwcomponents_halfulp", reason="halfulp was installed without its plug-in")

NODES = {130e-9: "130nm", 45e-9: "45nm", 28e-9: "28nm", 7e-9: "7nm", 2e-9: "2nm", "16nm": "16nm"}
DATAPATHS = ["int8/int32", "bf16/fp32", "fp8_e4m3/fp32:fused4g2", "mxfp4/fp32", "posit<16,1>/fp32"]
UNITS = [
    ("HalfulpAdder", "add", {"format": "fp16"}, "fp16_add"),
    ("HalfulpAdder", "add", {"format": "q4.12", "rounding": "RTZ"}, "q4.12_add"),
    ("HalfulpMultiplier", "multiply", {"format": "bf16", "rounding": "SR8"}, "bf16_mul"),
    ("HalfulpFMA", "fma", {"format": "fp8_e4m3"}, "fp8_e4m3_fma"),
    ("HalfulpConverter", "convert", {"format": "bf16", "result": "fp8_e4m3"}, "bf16_to_fp8_e4m3"),
]


def test_hwcomponents_finds_all_components_by_itself() -> None:
    if plugin.__name__ not in {module.name for module in pkgutil.iter_modules()}:
        pytest.skip("an editable install has no module of that name on the path: pip install without -e")
    found = {model.__name__ for model in hwcomponents.get_models()}
    assert set(plugin.__all__) <= found


@pytest.mark.parametrize("tech_node", NODES)
@pytest.mark.parametrize("text", DATAPATHS)
@pytest.mark.parametrize("pipeline", [0, 2])
def test_a_mac_costs_what_cost_says(text: str, tech_node: float | str, pipeline: int) -> None:
    price = hu.cost(text, NODES[tech_node], pipeline)
    given = {"datapath": text, "tech_node": tech_node, "pipeline": pipeline}
    unit = hwcomponents.get_model("HalfulpMAC", given, models=[plugin.HalfulpMAC])
    assert unit.area == pytest.approx(price.area_um2 * 1e-12) and unit.leak_power == pytest.approx(
        price.leakage_nw * 1e-9
    )
    for action in (unit.mac(), unit.compute()):
        assert action.energy == pytest.approx(price.energy_pj * 1e-12)
        assert action.latency == pytest.approx((pipeline + 1) * price.delay_ns * 1e-9)
        assert action.throughput == pytest.approx(price.macs_per_cycle / (price.delay_ns * 1e-9))


@pytest.mark.parametrize("node", ["45nm", "7nm"])
@pytest.mark.parametrize(("component", "action", "given", "name"), UNITS)
def test_function_units_cost_what_cost_says(
    component: str, action: str, given: dict[str, str], name: str, node: str
) -> None:
    unit = hu.function(name, given.get("rounding", "RNE"))
    price = hu.cost(unit, node)
    attributes, models = given | {"tech_node": float(node[:-2]) * 1e-9}, [getattr(plugin, component)]
    assert hwcomponents.get_area(component, attributes, models=models) == pytest.approx(price.area_um2 * 1e-12)
    assert hwcomponents.get_leak_power(component, attributes, models=models) == pytest.approx(price.leakage_nw * 1e-9)
    for asked in (action, "compute"):
        found = hwcomponents.get_action_cost(component, attributes, asked, {}, models=models)
        assert found.energy == pytest.approx(price.energy_pj * 1e-12)
        assert found.latency == pytest.approx(price.delay_ns * 1e-9) == 1 / found.throughput


def test_sources_and_bands_are_in_the_log() -> None:
    unit = plugin.HalfulpMAC("fp8_e4m3/fp32", "45nm")
    said = "\n".join(hwcomponents._logging.messages_from_logger(unit.logger))
    price = hu.cost("fp8_e4m3/fp32", "45nm")
    assert all(f"halfulp: source: {source}" in said for source in price.sources)
    low, high = price.band["energy_pj"]
    assert f"energy_pj {price.energy_pj:.4g} [{low:.3g} ... {high:.3g}] {price.basis['energy_pj']}" in said
    assert "leakage_nw" in said


@pytest.mark.parametrize(
    ("datapath", "tech_node", "sentence"),
    [("fp17", 7e-9, "did you mean"), ("int8", 1e-9, "no prices for node '1nm'"), ("int8", 7, "no prices for node")],
)
def test_bad_input_gets_a_sentence(datapath: str, tech_node: float, sentence: str) -> None:
    with pytest.raises(hu.HalfulpError, match=sentence):
        plugin.HalfulpMAC(datapath, tech_node)
    with pytest.raises(hu.HalfulpError, match="unknown function 'fp17_add'"):
        plugin.HalfulpAdder("fp17", 7e-9)
