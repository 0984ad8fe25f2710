"""The emitter prints the kernels as C++ that means the same, or refuses.

* Everything outside the subset is refused with OutsideSubset, naming the function, the line and the text.
* What is printed compiles without a warning under g++, does what the same Python does, and has every kernel.
* NVRTC compiles it for compute_80 and compute_90, with contraction off, without a GPU; single precision, which CuPy's
  ``-ftz=true`` would flush, is not used at all.

That the kernels' own C++ gives the definition's codes is proven in the tests of the kernels.
"""

import ctypes
import importlib.util
import inspect
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from halfulp.kernels import emit, subset
from kernel_cases import build

KERNEL_FOLDER = Path(emit.__file__).parent
needs_gxx = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


def function_of(tmp_path, text, name="written"):
    """The function that ``text`` defines, from a file, so that its source can be read."""
    file = tmp_path / f"{name}.py"
    file.write_text(text)
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def written(statement):
    lines = "".join(f"    {line}\n" for line in statement.split("\n"))
    return f"K = 3\nNOTHING = None\n\ndef written(x: float, i: int) -> float:\n{lines}    return x\n"


#: a statement, and the text that the refusal must show
REFUSED = {
    "division of integers": ("x = i / 2", "i / 2"),
    "floor division": ("i = i // 2", "i // 2"),
    "remainder": ("i = i % 2", "i % 2"),
    "power": ("x = x ** 2", "x ** 2"),
    "matrix product": ("x = x @ x", "x @ x"),
    "list": ("y = [x]", "[x]"),
    "dict": ("y = {1: x}", "{1: x}"),
    "set": ("y = {x}", "{x}"),
    "triple": ("y = (x, x, x)", "(x, x, x)"),
    "string": ("y = 'text'", "'text'"),
    "None": ("y = None", "None"),
    "complex": ("y = 2j", "2j"),
    "f-string": ("y = f'{x}'", "f'{x}'"),
    "lambda": ("y = lambda: x", "lambda"),
    "comprehension": ("y = [k for k in range(3)]", "for k in range(3)"),
    "walrus": ("x = (y := x)", "y := x"),
    "keyword call": ("i = max(i, y=2)", "max(i, y=2)"),
    "starred call": ("i = max(*x)", "*x"),
    "method call": ("y = x.hex()", "x.hex()"),
    "unknown function": ("x = cbrt(x)", "cbrt(x)"),
    "too many arguments": ("x = sqrt(x, x)", "sqrt takes (f64)"),
    "an integer for a float": ("x = sqrt(i)", "sqrt takes (f64)"),
    "unknown name": ("x = missing", "missing"),
    "global that is no number": ("x = NOTHING", "NOTHING"),
    "infinite literal": ("x = 1e999", "1e309"),
    "infinity by name": ("x = float('inf')", "'inf'"),
    "integer of 64 bits": ("i = 1 << 63 | 9223372036854775808", "9223372036854775808"),
    "chained comparison": ("y = 0.0 < x < 1.0", "0.0 < x < 1.0"),
    "membership": ("y = i in x", "i in x"),
    "identity": ("y = x is x", "x is x"),
    "unary plus": ("x = +x", "+x"),
    "augmented assignment": ("x += 1.0", "x += 1.0"),
    "two targets": ("y = z = x", "y = z = x"),
    "three targets": ("a, b, c = x", "(a, b, c)"),
    "try": ("try:\n    x = 1.0\nexcept ValueError:\n    x = 2.0", "try:"),
    "with": ("with x:\n    x = 1.0", "with x:"),
    "raise": ("raise ValueError", "raise ValueError"),
    "assert": ("assert x", "assert x"),
    "delete": ("del x", "del x"),
    "pass": ("pass", "pass"),
    "break": ("while i > 0:\n    break", "break"),
    "while else": ("while i > 0:\n    i = i - 1\nelse:\n    i = 2", "else:"),
    "loop over an array": ("for y in x:\n    i = 1", "for y in x:"),
    "range with a step": ("for k in range(0, 8, 2):\n    i = k", "range(0, 8, 2)"),
    "nested function": ("def inner():\n    return 1", "def inner()"),
    "class": ("class Inner:\n    y = 1", "class Inner"),
    "import": ("import math", "import math"),
    "global": ("global K", "global K"),
    "bare return": ("return", "return"),
    "open slice": ("y = x[1:]", "x[1:]"),
    "slice with a step": ("y = x[0:4:2]", "x[0:4:2]"),
    "local of an inner block": ("if i > 0:\n    y = x\nx = y", "y"),
    "local of a loop": ("for k in range(3):\n    i = k\ni = k", "k"),
    "annotation without a value": ("y: int", "y: int"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_outside_the_subset(case, tmp_path):
    statement, shown = REFUSED[case]
    function = function_of(tmp_path, written(statement))
    with pytest.raises(emit.OutsideSubset) as raised:
        emit._Printer(function).text()
    message = str(raised.value)
    assert message.startswith("written, line ") and shown in message
    line = int(re.match(r"written, line (\d+)", message)[1])  # counted from the def, or in the file
    lines = statement.count("\n") + 1
    first = inspect.getsourcelines(function)[1]
    assert line in range(2, 2 + lines) or line in range(first + 1, first + 1 + lines)


@pytest.mark.parametrize(
    "parameters",
    ["x: float, y", "x: float, y: str", "x: float, y: list", "x: float, *y: float", "x: float, *, y: float"],
)
def test_parameters_outside_the_subset(parameters, tmp_path):
    """Parameters without a type of the subset, or of another kind, are refused and not dropped."""
    function = function_of(tmp_path, f"def written({parameters}) -> float:\n    return x\n")
    with pytest.raises(emit.OutsideSubset, match="written"):
        emit._Printer(function).text()


#: Python that C++ of the same look would compute differently: it must be refused, or printed so that it agrees
TREACHEROUS = {
    "the limit of a range changes in the loop": "n = i\nfor k in range(n):\n    n = 0\n    x = x + 1.0",
    "the loop variable is assigned": "for k in range(i):\n    k = k + 3\n    x = x + 1.0",
    "the loop variable hides a local": "k = 7\nfor k in range(i):\n    x = x + 1.0\nx = x + float(k)",
    "an integer local becomes a float": "y = 0\ny = x + 0.75\nx = y",
    "a float min": "x = float(min(x, x + 0.5))",
    "or of integers": "k = i or 9\nx = float(k)",
    "a branch of two types": "y = 1 if i > 100 else 0.5\nx = x + y",
}


@needs_gxx
@pytest.mark.parametrize("case", TREACHEROUS)
def test_what_is_printed_means_the_same(case, tmp_path):
    function = function_of(tmp_path, written(TREACHEROUS[case]))
    assert_same_as_python(function, tmp_path)


def test_negative_subscripts_are_refused(tmp_path):
    """x[-1] is the last element in Python and memory before the array in C++."""
    function = function_of(
        tmp_path, "from halfulp.kernels.subset import f64s\n\ndef written(x: f64s) -> float:\n    return x[-1]\n"
    )
    with pytest.raises(emit.OutsideSubset):
        emit._Printer(function).text()


def assert_same_as_python(function, tmp_path):
    """Refused, or rejected by the compiler, or equal on a grid of arguments."""
    try:
        text = emit._Printer(function).text()
    except emit.OutsideSubset:
        return
    name = function.__name__
    result = build(f'{emit.PRELUDE}\n{text}\nextern "C" f64 call(f64 x, i64 i) {{ return {name}(x, i); }}\n', tmp_path)
    if result.returncode:
        return
    library = ctypes.CDLL(str(tmp_path / "built.so"))
    library.call.restype, library.call.argtypes = ctypes.c_double, [ctypes.c_double, ctypes.c_longlong]
    for x in (0.0, 1.25, -2.5):
        for i in (0, 1, 5, 200):
            assert library.call(x, i) == function(x, i), f"{name}({x}, {i}) differs in C++:\n{text}"


FAITHFUL = {
    "branches": "if i > 3:\n    x = x + 1.0\nelse:\n    if i == 1 and x < 2.0 or not i != 0:\n        x = x - 4.0\n"
    "    else:\n        x = x * 3.0",
    "loops": "k = 0\nfor m in range(2, i):\n    for n in range(m):\n        k = k + (m ^ n)\n"
    "while k > 100:\n    k = k >> 1\nx = float(k)",
    "bits": "k = (i << 3 | 5) & 0x7F\nm = ~k\nx = float(k) - float(m)",
    "constants": "x = x + 0.1 + float(K) + 1e300 * 0.0 + 5e-324",
    "ternary": "y = x if x > 0.0 else -x\nx = float(max(i, 3)) + y if i >= 5 else float(min(i, 3)) - y",
    "annotated": "y: float = 2.5\ny = y + x\nx = y",
    "precedence": "x = float((i - 3) - (i - (2 - i))) - (x - (1.0 - x)) * (2.0 + x)",
    "quotients": "x = (x + 1.0) / (x - (1.0 / 3.0) / (x + 8.0))",
}


@needs_gxx
@pytest.mark.parametrize("case", FAITHFUL)
def test_inside_the_subset(case, tmp_path):
    function = function_of(tmp_path, written(FAITHFUL[case]))
    emit._Printer(function).text()  # not refused
    assert_same_as_python(function, tmp_path)
    assert (tmp_path / "built.so").exists()


# ---- the kernels' source -----------------------------------------------------------------------------------------

WARNINGS = ["-Wall", "-Werror", "-Wno-unused-function", "-Wno-unused-variable", "-Wno-unused-parameter"]


@needs_gxx
def test_source_compiles_without_warnings(tmp_path):
    """Nor is a float cut to an integer, or a name hidden, which would mean something else than in Python."""
    result = build(emit.source(), tmp_path, *WARNINGS, "-Wextra", "-Wfloat-conversion", "-Wshadow", "-Wuninitialized")
    assert result.returncode == 0, result.stderr[:3000]


@needs_gxx
def test_library_has_every_kernel(tmp_path):
    assert build(emit.source(), tmp_path).returncode == 0
    library = ctypes.CDLL(str(tmp_path / "built.so"))
    assert len(subset.KERNELS) >= 8
    for name in subset.KERNELS:
        assert hasattr(library, f"run_{name}")


def test_source_has_every_function():
    text = emit.source()
    for name in [*subset.DEVICE, *subset.KERNELS]:
        assert len(re.findall(rf"^DEVICE(?:_INLINE)? [\w<>, ]+[ *]{name}\(", text, re.M)) == 1, name
    for name in subset.KERNELS:
        assert f'extern "C" __global__ void run_{name}(' in text and f'extern "C" void run_{name}(' in text


def test_source_is_always_the_same():
    """Its hash names the compiled library."""
    emit.source.cache_clear()
    first = emit.source()
    emit.source.cache_clear()
    assert emit.source() == first


def test_source_has_no_single_precision():
    assert not re.search(r"\bfloat\b|[0-9]f\b", emit.source())


def test_no_fastmath():
    """Neither Numba's, nor the compilers'. (A comment may say that it is never on.)"""
    for file in sorted(KERNEL_FOLDER.glob("*.py")):
        for number, line in enumerate(file.read_text().splitlines(), 1):
            code = line.split("#")[0]
            assert not re.search(r"fast.?math|-Ofast|-ffast|reassoc|fmad=true|parallel=True", code, re.I), (
                f"{file.name}:{number}: {line}"
            )
    for function in (*subset.DEVICE, *subset.KERNELS):
        module = inspect.getmodule(subset.DEVICE.get(function) or subset.KERNELS.get(function))
        dispatcher = getattr(module, function)
        assert not dispatcher.targetoptions.get("fastmath"), function


# ---- NVRTC -------------------------------------------------------------------------------------------------------


def nvrtc():
    """The library of the pip package nvidia-cuda-nvrtc-cu12; no driver and no GPU is needed."""
    spec = importlib.util.find_spec("nvidia")
    folders = [Path(path) / "cuda_nvrtc" / "lib" for path in spec.submodule_search_locations] if spec else []
    found = [folder / "libnvrtc.so.12" for folder in folders if (folder / "libnvrtc.so.12").exists()]
    if not found:
        pytest.skip("needs the pip package nvidia-cuda-nvrtc-cu12")
    return ctypes.CDLL(str(found[0]))


_PTX = {}
UNUSED = "177"  # NVRTC's warning of a variable that is never used


def ptx(*options):
    """The emitted source as PTX; compiled once for each tuple of options."""
    if options not in _PTX:
        library, program, size = nvrtc(), ctypes.c_void_p(), ctypes.c_size_t()
        assert (
            library.nvrtcCreateProgram(ctypes.byref(program), emit.source().encode(), b"kernels.cu", 0, None, None) == 0
        )
        arguments = [o.encode() for o in ("--std=c++17", *options)]
        status = library.nvrtcCompileProgram(program, len(arguments), (ctypes.c_char_p * len(arguments))(*arguments))
        library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        library.nvrtcGetProgramLog(program, log)
        assert status == 0, log.value.decode()
        assert set(re.findall(r"warning #(\d+)", log.value.decode())) <= {UNUSED}, log.value.decode()
        library.nvrtcGetPTXSize(program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        assert library.nvrtcGetPTX(program, text) == 0
        library.nvrtcDestroyProgram(ctypes.byref(program))
        _PTX[options] = text.value.decode()
    return _PTX[options]


def instructions(text):
    """How often each instruction on doubles stands in a PTX text."""
    return Counter(re.findall(r"\b((?:add|sub|mul|fma|div|sqrt|rcp)\.(?:r[nzmp]\.)?(?:full\.)?(?:ftz\.)?f64)\b", text))


def architectures():
    """What NVRTC compiles for, as numbers."""
    library, count = nvrtc(), ctypes.c_int()
    assert library.nvrtcGetNumSupportedArchs(ctypes.byref(count)) == 0
    found = (ctypes.c_int * count.value)()
    assert library.nvrtcGetSupportedArchs(found) == 0
    return list(found)


def check_fma(text):
    """No entry that never reaches ``fma`` has a fused instruction."""
    bodies = dict(re.findall(r"\.visible \.entry run_(\w+)\((.*?)^}", text, re.M | re.S))
    fused = {name for name in subset.KERNELS if "fma.rn.f64" in bodies[name]}
    assert fused == {"compute", "contract", "contract_rows"} and "fma.rn.f64" in bodies["tiles"]
    assert not any("fma" in bodies[name] for name in subset.KERNELS if name not in fused)


@pytest.mark.parametrize("arch", [80, *(pytest.param(arch, marks=pytest.mark.slow) for arch in (90, 100))])
def test_nvrtc_compiles_every_kernel_with_fma_only_where_it_calls_it(arch):
    if arch == 100 and arch not in architectures():
        pytest.skip("this NVRTC does not know sm_100")
    text = ptx(f"--gpu-architecture=compute_{arch}", "--fmad=false")
    assert f".target sm_{arch}" in text
    assert set(re.findall(r"\.visible \.entry run_(\w+)\(", text)) == {*subset.KERNELS, "tiles"}
    check_fma(text)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["compute_80", "compute_90"])
def test_nvrtc_contracts_nothing(arch):
    """With --fmad=false only the kernels' own fma calls are fused; a build with contraction has more."""
    kept = instructions(ptx(f"--gpu-architecture={arch}", "--fmad=false"))
    fused = instructions(ptx(f"--gpu-architecture={arch}", "--fmad=true"))
    assert kept["mul.rn.f64"] + kept["mul.f64"] > 0 and kept["add.rn.f64"] + kept["add.f64"] > 0
    assert fused["fma.rn.f64"] > kept["fma.rn.f64"] > 0
    assert fused["mul.rn.f64"] + fused["mul.f64"] < kept["mul.rn.f64"] + kept["mul.f64"]
    divisions = {name for name in kept if name.startswith(("div", "sqrt", "rcp"))}
    assert divisions == {"div.rn.f64", "sqrt.rn.f64"}  # correctly rounded ones


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["compute_80", "compute_90"])
def test_flags_that_cupy_adds_change_nothing(arch):
    """CuPy passes -ftz=true: it concerns single precision, of which there is none."""
    plain = ptx(f"--gpu-architecture={arch}", "--fmad=false")
    assert ".f32" not in plain and ".f16" not in plain and ".ftz" not in plain and ".approx" not in plain
    assert ptx(f"--gpu-architecture={arch}", "--fmad=false", "-ftz=true") == plain


def test_the_cache_knows_every_source_that_compiled_code_is_made_of(tmp_path, monkeypatch):
    """Numba stamps a function with its own file; ours inlines others, so a stale cache would run stale arithmetic."""
    stamp = subset._sources_stamp()
    for kernel in subset.KERNELS:
        assert subset.COMPILED[kernel]._cache._cache_file._source_stamp == stamp
    root = Path(subset.__file__).parents[1]
    for folder in ("emulator", "kernels"):
        shutil.copytree(root / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(subset, "__file__", str(tmp_path / "kernels" / "subset.py"))
    fresh = subset._sources_stamp.__wrapped__
    assert fresh() == stamp
    for name in ("kernels/wide.py", "kernels/target.py", "kernels/elementwise.py", "emulator/random.py"):
        before = fresh()
        with open(tmp_path / name, "a") as file:
            file.write("# changed\n")
        assert fresh() != before, name
