"""Liberty files (``.lib``, ``.lib.gz``): the timing and power of standard cells, as every synthesis tool reads them.

Read tolerantly, as files differ: missing semicolons, either kind of comment, continued lines, quoted or bare lists.
Units come from the header. The energies of internal_power have none of their own: they are in
voltage_unit² x capacitive_load_unit (Liberty User Guide, vol. 1, "Defining units"), which the files bear out:

* IHP SG13G2 (1 ns, 1 pF, 1 pW; so 1 pJ): its smallest inverter takes 1.5 fJ an edge, where half its input capacitance
  times V² is 2.1 fJ. (Its current_unit x voltage x time_unit would be 1 fJ: a thousand times too little.)
* ASAP7 (1 ps, 1 fF, 1 pW; so 1 fJ): 0.09 fJ an edge, the sum of its two rails, against 0.15 fJ. Rails add up, each
  has half of voltage x charge: what NAND2xp33's input A pushes into both while the output stays comes to 0.127 fF
  times V², and its capacitance then is 0.268 fF (capacitance_range).
* GT2N (1 ps, 1 pF, 1 uW; so 1 pJ): what would be negative was cut to 0 there. Its smallest inverter has 0 at usual
  loads, the smallest XOR 0.24 fJ for two edges, against 0.21 fJ.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..errors import HalfulpError
from .cells import WIDEST, Arc, Cell, FlipFlop, Library, Pin, Power, Table, truth_table, variable

_COMMENT = re.compile(r'("[^"]*")|/\*.*?\*/|//[^\n]*|\\[ \t]*\r?\n', re.DOTALL)
_STATEMENT = re.compile(
    r"""[\s;]*(?:
      (?P<end>\})
    | (?P<name>[\w.\[\]]+)\s*(?:
        :\s*(?P<value>"[^"]*"|[^;\n{}]*)
      | \((?P<arguments>(?:"[^"]*"|[^()"])*)\)\s*(?P<group>\{)?))""",
    re.VERBOSE,
)


@dataclass
class Group:
    """``kind (names) { attributes, lists, groups }``."""

    kind: str
    names: list[str]
    attributes: dict[str, str] = field(default_factory=dict)  #: name : value
    lists: dict[str, list[str]] = field(default_factory=dict)  #: name (value, value)
    groups: list[Group] = field(default_factory=list)

    def all(self, *kinds: str) -> list[Group]:
        return [group for group in self.groups if group.kind in kinds]

    def number(self, name: str, default: float | None = None) -> float:
        """The number of an attribute. Raises HalfulpError if it is none, or absent and has no default."""
        if name not in self.attributes and default is not None:
            return default
        return _number(self.attributes.get(name, "nothing"), f"{name} of the {self.kind} {', '.join(self.names)}")


def _number(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise HalfulpError(f"the Liberty file gives {text!r} for {what}, where a number must stand.") from None


def parse(text: str) -> Group:
    """The outermost group of a Liberty file's text. Raises HalfulpError where it is not Liberty, or ends too soon."""
    text = _COMMENT.sub(lambda match: match[1] or " ", text)
    root = Group("", [])
    open_groups, position = [root], 0
    while match := _STATEMENT.match(text, position):
        position = match.end()
        name, value = match["name"], match["value"]
        if match["end"]:
            if len(open_groups) == 1:
                raise HalfulpError("this is not a Liberty file: a brace closes nothing.")
            open_groups.pop()
        elif value is not None:
            open_groups[-1].attributes[name] = value.strip().strip('"').strip()
        elif match["group"]:
            group = Group(name, [part.strip().strip('"') for part in match["arguments"].split(",")])
            open_groups[-1].groups.append(group)
            open_groups.append(group)
        else:
            open_groups[-1].lists.setdefault(name, []).append(match["arguments"])
    rest = text[position:].strip(" \t\r\n;")
    if rest or not root.groups or root.groups[0].kind != "library":
        line = text.count("\n", 0, position) + 1
        raise HalfulpError(
            f"this is not a Liberty file, or it is cut off: cannot read {(rest or text)[:40]!r} near line {line}."
        )
    if len(open_groups) > 1:
        raise HalfulpError(f"the Liberty file ends inside of the group {open_groups[-1].kind!r}: it is cut off.")
    return root.groups[0]


_PREFIX = {"f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0}


def _unit(text: str, base: str, what: str) -> float:
    """The value in SI units of a unit such as ``10ps`` (base s)."""
    match = re.fullmatch(rf"([\d.eE+-]+)\s*([fpnum]?){base}", text.strip().strip('"'), re.IGNORECASE)
    if not match:
        raise HalfulpError(f"the Liberty file's {what} is {text!r}, which is no unit of this kind.")
    return _number(match[1], what) * _PREFIX[match[2].lower()]


class _Units:
    """What the file's numbers are multiplied by."""

    def __init__(self, library: Group) -> None:
        def unit(name: str, base: str) -> float:
            if name not in library.attributes:
                raise HalfulpError(f"the Liberty file has no {name}.")
            return _unit(library.attributes[name], base, name)

        load = ",".join(library.lists.get("capacitive_load_unit", [""])).split(",")
        if len(load) != 2:
            raise HalfulpError("the Liberty file has no capacitive_load_unit (number, unit).")
        self.time_ns = unit("time_unit", "s") * 1e9
        self.load_ff = (
            _unit(load[0].strip().strip('"') + load[1].strip().strip('"'), "f", "capacitive_load_unit") * 1e15
        )
        self.leakage_nw = unit("leakage_power_unit", "w") * 1e9
        self.voltage_v = unit("voltage_unit", "v") if "voltage_unit" in library.attributes else 1.0
        self.energy_fj = self.voltage_v**2 * self.load_ff


def _numbers(lists: dict[str, list[str]], name: str) -> np.ndarray | None:
    if name not in lists:
        return None
    text = re.sub(r'[",\\]', " ", ",".join(lists[name]))
    try:
        return np.array(text.split(), dtype=np.float64)
    except ValueError:
        raise HalfulpError(f"the Liberty file has something else than numbers in a list {name}.") from None


#: Kinds of variables that a table may depend on -> its axis here.
_AXES = {
    "input_net_transition": 0,
    "input_transition_time": 0,
    "constrained_pin_transition": 0,
    "total_output_net_capacitance": 1,
    "related_pin_transition": 1,
}


class _Reader:
    """Makes cells from groups."""

    def __init__(self, library: Group) -> None:
        self.library, self.units = library, _Units(library)
        self.templates = {g.names[0]: g for g in library.all("lu_table_template", "power_lut_template")}

    def table(self, parent: Group, kind: str, unit: float) -> Table | None:
        """The table of a kind in a group, in our units; None if there is none."""
        for group in parent.all(kind):
            values = _numbers(group.lists, "values")
            if values is not None and values.size:
                return self._table(group, values * unit)
        return None

    def _table(self, group: Group, values: np.ndarray) -> Table:
        template = self.templates.get(group.names[0], Group("", []))
        axes: list[np.ndarray] = [np.zeros(1), np.zeros(1)]
        order = []
        for i in (1, 2):
            index = _numbers(group.lists, f"index_{i}")
            index = _numbers(template.lists, f"index_{i}") if index is None else index
            kind = template.attributes.get(f"variable_{i}", "")
            if index is None or (not kind and values.size == 1):
                continue
            if kind not in _AXES:
                raise HalfulpError(f"a table of {self.library.names[0]} depends on {kind or 'nothing we know of'!r}.")
            order.append(_AXES[kind])
            is_load = kind == "total_output_net_capacitance"
            axes[_AXES[kind]] = index * (self.units.load_ff if is_load else self.units.time_ns)
        shape = [len(axes[axis]) for axis in order]
        if values.size != np.prod(shape, dtype=int) or len(set(order)) < len(order):
            raise HalfulpError(
                f"a table {group.kind} of {self.library.names[0]} has {values.size} values, not {shape}."
            )
        values = values.reshape(shape).T if order == [1, 0] else values
        return Table(axes[0], axes[1], values.reshape(len(axes[0]), len(axes[1])))

    def edges(self, group: Group, rise: str, fall: str, unit: float) -> tuple[Table | None, Table | None]:
        return self.table(group, rise, unit), self.table(group, fall, unit)

    def cell(self, group: Group) -> Cell:
        """A cell from its group. Raises HalfulpError where it cannot be used, saying why."""
        pins = {name: pin for pin in group.all("pin") for name in pin.names}
        reason = self._unusable(group, pins)
        if reason:
            raise HalfulpError(reason)
        inputs = tuple(self._pin(n, p) for n, p in pins.items() if p.attributes.get("direction") == "input")
        outputs = tuple(self._pin(n, p) for n, p in pins.items() if p.attributes.get("direction") == "output")
        names, defined = tuple(pin.name for pin in inputs), {}
        for ff in group.all("ff"):
            names += (ff.names[0],)
            state = variable(len(inputs), len(names))
            defined[ff.names[1]] = state ^ ((1 << (1 << len(names))) - 1)
        functions = tuple(truth_table(pins[p.name].attributes["function"], names, defined) for p in outputs)
        defined |= {pin.name: function for pin, function in zip(outputs, functions, strict=True)}
        zero = Table(np.zeros(1), np.zeros(1), np.zeros((1, 1)))
        arcs = [arc for pin in outputs for arc in self._arcs(pins[pin.name], pin.name)]
        powers = [power for name, pin in pins.items() for power in self._powers(pin, name, names, defined, zero)]
        leakages = [
            (truth_table(state.attributes["when"], names, defined), state.number("value") * self.units.leakage_nw)
            for state in group.all("leakage_power")
            if "when" in state.attributes and "value" in state.attributes
        ]
        default = sum(nw for _, nw in leakages) / len(leakages) if leakages else 0.0
        if "cell_leakage_power" in group.attributes:
            default = group.number("cell_leakage_power") * self.units.leakage_nw
        flipflop = self._flipflop(group, names, defined)
        self._check(inputs, outputs, functions, arcs)
        setups = tuple((pin.name, setup) for pin in inputs for setup in self._setups(pins[pin.name]))
        return Cell(
            group.names[0], group.number("area"), inputs, outputs, functions, default, tuple(leakages),
            tuple(arcs), tuple(powers), setups, flipflop, names,
        )  # fmt: skip

    @staticmethod
    def _unusable(group: Group, pins: dict[str, Group]) -> str:
        """Why a cell is left out; nothing if it is not."""
        given = group.attributes
        if given.get("dont_use") == "true":
            return "the library says dont_use"
        if group.all("latch", "latch_bank", "statetable", "ff_bank"):
            return "it is a latch"
        if "clock_gating_integrated_cell" in given:
            return "it is a clock gate"
        if group.all("test_cell") or any("nextstate_type" in p.attributes and "scan" in p.attributes["nextstate_type"]
                                         for p in pins.values()):  # fmt: skip
            return "it is a scan cell"
        if group.all("bus", "bundle", "memory"):
            return "it has buses"
        outputs = [pin for pin in pins.values() if pin.attributes.get("direction") == "output"]
        if any("three_state" in pin.attributes or "function" not in pin.attributes for pin in outputs) or not outputs:
            return "it is no gate"
        if any(pin.attributes.get("direction") not in ("input", "output", "internal") for pin in pins.values()):
            return "it has a pin that is neither input nor output"
        if len(pins) - len(outputs) > WIDEST:
            return f"it has more than {WIDEST} inputs"
        return ""

    @staticmethod
    def _check(inputs, outputs, functions, arcs) -> None:
        """A gate without timing tables is no use."""
        for pin, function in zip(outputs, functions, strict=True):
            constant = function in (0, (1 << (1 << len(inputs))) - 1)
            if not constant and not any(arc.output == pin.name for arc in arcs):
                raise HalfulpError(f"its output {pin.name} has no delay tables")

    def _pin(self, name: str, pin: Group) -> Pin:
        default = 0.0
        if pin.attributes["direction"] == "input":
            default = self.library.number("default_input_pin_cap", 0.0)
        largest = pin.attributes.get("max_capacitance")
        return Pin(
            name,
            pin.number("capacitance", default) * self.units.load_ff,
            None if largest is None else _number(largest, "max_capacitance") * self.units.load_ff,
        )

    def _arcs(self, pin: Group, name: str) -> list[Arc]:
        arcs = []
        for timing in pin.all("timing"):
            kind = timing.attributes.get("timing_type", "combinational")
            if kind not in ("combinational", "rising_edge", "falling_edge"):
                continue
            delay = self.edges(timing, "cell_rise", "cell_fall", self.units.time_ns)
            slew = self.edges(timing, "rise_transition", "fall_transition", self.units.time_ns)
            if (delay[0] is None) != (delay[1] is None):
                raise HalfulpError(f"its output {name} has delay tables of one edge only")
            if delay != (None, None) and None not in slew:
                sense = timing.attributes.get("timing_sense", "non_unate")
                for related in timing.attributes.get("related_pin", "").split():
                    arcs.append(Arc(name, related, sense, delay, slew))
        return arcs

    def _powers(self, pin: Group, name: str, names, defined, zero: Table) -> list[Power]:
        powers = []
        for group in pin.all("internal_power"):
            rise, fall = self.edges(group, "rise_power", "fall_power", self.units.energy_fj)
            both = self.table(group, "power", self.units.energy_fj)  # one for either edge
            when = group.attributes.get("when")
            state = None if when is None else truth_table(when, names, defined)
            rail = group.attributes.get("related_pg_pin", "")
            for related in group.attributes.get("related_pin", "").split() or [None]:  # type: ignore[list-item]
                powers.append(Power(name, related, rail, state, (rise or both or zero, fall or both or zero)))
        return powers

    def _setups(self, pin: Group) -> list[tuple[Table, Table]]:
        found = []
        for timing in pin.all("timing"):
            if timing.attributes.get("timing_type") in ("setup_rising", "setup_falling"):
                rise, fall = self.edges(timing, "rise_constraint", "fall_constraint", self.units.time_ns)
                if rise and fall:
                    found.append((rise, fall))
        return found

    @staticmethod
    def _flipflop(group: Group, names, defined) -> FlipFlop | None:
        for ff in group.all("ff"):
            clock = ff.attributes.get("clocked_on", "").replace("(", "").replace(")", "").strip()
            pin = clock.strip("!' ")
            if pin not in names or "next_state" not in ff.attributes:
                raise HalfulpError("its clock is no pin of it")
            forced = tuple(
                truth_table(ff.attributes[kind], names, defined)
                for kind in ("clear", "preset")
                if kind in ff.attributes
            )
            return FlipFlop(pin, clock == pin, truth_table(ff.attributes["next_state"], names, defined), forced)
        return None


def _voltage(library: Group, units: _Units) -> float:
    """The supply: that of the default operating conditions, else nom_voltage."""
    name = library.attributes.get("default_operating_conditions")
    for group in library.all("operating_conditions"):
        if group.names[0] == name and "voltage" in group.attributes:
            return group.number("voltage") * units.voltage_v
    if "nom_voltage" not in library.attributes:
        raise HalfulpError(f"the library {library.names[0]} gives no voltage.")
    return library.number("nom_voltage") * units.voltage_v


def library_bytes(path: str | Path) -> bytes:
    """What a Liberty file says, uncompressed. Raises HalfulpError if it cannot be read or is cut off."""
    data = _file_bytes(path)
    try:
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise HalfulpError(f"the compressed file {str(path)!r} is cut off or damaged.") from None


def _file_bytes(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise HalfulpError(f"cannot read the Liberty file {str(path)!r}: {error.strerror}.") from None


def read_library(path: str | Path) -> Library:
    """The cell library of a Liberty file.

    Parameters
    ----------
    path : of a ``.lib`` file, or one that gzip has compressed.

    Raises
    ------
    HalfulpError
        It cannot be read, is not Liberty, or lacks what is needed: units, a voltage, tables, an inverter.
    """
    data, digest = library_bytes(path), hashlib.sha256(_file_bytes(path)).hexdigest()[:16]
    try:
        return _library(data, digest)
    except HalfulpError as error:
        raise HalfulpError(f"{Path(path).name}: {error}") from None


@lru_cache(maxsize=4)
def _library(data: bytes, digest: str) -> Library:
    root = parse(data.decode("utf-8", errors="replace"))
    reader = _Reader(root)
    cells, unused = {}, {}
    for group in root.all("cell"):
        try:
            cells[group.names[0]] = reader.cell(group)
        except HalfulpError as error:
            unused[group.names[0]] = str(error).rstrip(".")
    library = Library(
        root.names[0],
        _voltage(root, reader.units),
        digest,
        cells,
        unused,
        (root.number("slew_lower_threshold_pct_rise", 20.0), root.number("slew_upper_threshold_pct_rise", 80.0)),
        root.number("slew_derate_from_library", 1.0),
    )
    if cells and not any(cell.powers for cell in cells.values()):
        raise HalfulpError("no cell has internal_power tables, without which energies would be of the wires alone.")
    if library.smallest(0b01, 1) is None:
        why = "; ".join(sorted(set(unused.values()))[:3])
        raise HalfulpError(f"the library {library.name} has no inverter that can be used{': ' + why if why else ''}.")
    return library
