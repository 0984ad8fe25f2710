"""Mutation check: break the definition and the kernels in one place at a time, and see the tests fail.

    python tests/mutations.py [REGEX]

Works on a copy of the repository; ends with 1 if the tests let a mutation pass. A mutation takes up to some minutes.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
DEFINITION, FLOATS, OPERATIONS = "emulator/arithmetic.py", "emulator/floats.py", "emulator/operations.py"
BLOCKS = "emulator/blocks.py"
SCALAR, WIDE, TARGET, PATHS, EVALUATE, POSITS, ELEMENTWISE = (
    f"kernels/{name}.py" for name in ["scalar", "wide", "target", "paths", "evaluate", "posits", "elementwise"]
)

#: What is broken, where, a text that stands there once, and what it becomes.
MUTATIONS = [
    ("RNE: ties go up always", DEFINITION, "(rest == half and odd)", "rest == half"),
    ("RNE: ties go to odd", DEFINITION, "(rest == half and odd)", "(rest == half and not odd)"),
    ("RNA: ties go down", DEFINITION, "return rest >= 1 << (shift - 1)", "return rest > 1 << (shift - 1)"),
    ("RND: ties go toward zero", DEFINITION, "(1 << (shift - 1)) + (not negative)", "(1 << (shift - 1)) + 1"),
    (
        "RTZ: rounds up what is above half",
        DEFINITION,
        "            return False\n",
        "            return rest >> shift - 1\n",
    ),
    ("RTP: sign ignored", DEFINITION, "return rest > 0 and not negative", "return rest > 0"),
    ("RTN: rounds as RTZ", DEFINITION, "return rest > 0 and negative", "return False"),
    ("RTO: rounds to even", DEFINITION, "return rest > 0 and not odd", "return rest > 0 and odd"),
    ("SR: one random value too few moves up", DEFINITION, "drawn_on + random >= 1 << k", "drawn_on + random > 1 << k"),
    ("SR: bias correction dropped", DEFINITION, "if rounding.corrected:", "if False:"),
    ("sticky dropped from quotients", OPERATIONS, "whole << 1 | (rest != 0)", "whole << 1"),
    ("subnormal shift off by one", DEFINITION, "max(free, emin - precision + 1)", "max(free, emin - precision + 2)"),
    ("-0 lost in underflow", DEFINITION, "zero = sign if fmt.has_negative_zero else 0", "zero = 0"),
    (
        "x - x is +0 in RTN too",
        DEFINITION,
        "rounding.mode is Mode.RTN if unlike else x.negative",
        "not unlike and x.negative",
    ),
    ("overflow threshold one code late", DEFINITION, "if code > fmt.max_code or", "if code > fmt.max_code + 1 or"),
    ("RTZ overflows to infinity", DEFINITION, "stays = mode is Mode.RTZ or", "stays ="),
    ("underflow never raised", DEFINITION, "_UNDERFLOWED if tiny else Flags.INEXACT", "Flags.INEXACT"),
    ("tininess judged before rounding", DEFINITION, "tiny = exponent + carried < emin", "tiny = True"),
    ("fixed point wraps where it saturates", DEFINITION, "    if fmt.wrap:\n", "    if True:\n"),
    (
        "inf * 0 is no invalid operation",
        DEFINITION,
        "return INVALID_NAN if x.is_zero or y.is_zero else",
        "return NAN if x.is_zero or y.is_zero else",
    ),
    (
        "divide-by-zero not raised",
        OPERATIONS,
        "(pole, fmt, rounding, random, conventions)\n        return Result(code, flags | Flags.DIVIDE_BY_ZERO)",
        "(pole, fmt, rounding, random, conventions)\n        return Result(code, flags)",
    ),
    ("kernel, RNE: halves the grid", SCALAR, "places = binade(y) * t.grid\n", "places = binade(y) * t.grid * 0.5\n"),
    ("kernel: ties go down", SCALAR, "rest >= quantum * (at_odd", "rest > quantum * (at_odd"),
    ("kernel: sum not folded to odd", SCALAR, "v + step if (inexact and (v & 1) == 0) else v", "v"),
    ("kernel: sign of exact zero sums", SCALAR, "& t.zero_sign\n", "& 0\n"),
    (
        "kernel: SR draws on half a unit too much",
        SCALAR,
        ">= quantum * (t.positive_even - u)",
        "> quantum * (t.positive_even - u)",
    ),
    ("kernel: overflow threshold", SCALAR, "over = z > t.high\n", "over = z >= t.high\n"),
    (
        "kernel: underflow flag after, not before, rounding",
        SCALAR,
        "normal = y >= t.min_normal or",
        "normal = m >= t.min_normal or",
    ),
    ("kernel: inexact of flushed results missing", SCALAR, "small = flushed or", "small = False or"),
    (
        "wide kernel: sticky dropped",
        WIDE,
        "return high >> n, moved | (1 if lost != 0 else 0)",
        "return high >> n, moved",
    ),
    (
        "wide kernel: smallest quantum ignored",
        WIDE,
        "q = max(top + e - t.precision + 1, t.quantum)",
        "q = max(top + e - t.precision + 1, t.quantum + 1)",
    ),
    ("wide kernel: RNE's tie", TARGET, "return HALF - odd", "return HALF"),
    (
        "odd path taken two bits too far",
        PATHS,
        "looked_at + rounding.random_bits + 2 <= carrier",
        "looked_at + rounding.random_bits <= carrier",
    ),
    ("NaN one code too low", FLOATS, "if lone else self.sign_bit - 1", "if lone else self.sign_bit - 2"),
    ("kernels round to integers what is none afterwards", EVALUATE, "not _holds_integers(function)", "False"),
    ("wrapping formats wrap integers", EVALUATE, "and path is Path.WIDE and", "and False and"),
    ("P3109's x / 0 is an infinity", PATHS, "fmt.has_infinity and not fmt.has_negative_zero", "False"),
    ("posit kernel: ties", POSITS, "np.where(odd, at_odd, at_even)", "at_even"),
    (
        "MX: scale rounded up",
        BLOCKS,
        "return Fraction(2) ** _floor_log2(amax) * unit",
        "return 2 * Fraction(2) ** _floor_log2(amax) * unit",
    ),
    (
        "kernel, RNE without a clamp: what overflows on the way",
        SCALAR,
        "over = not m <= t.high or",
        "over = m > t.high or",
    ),
    ("encode: lost bits", ELEMENTWISE, "bits_of(y) & dropped", "bits_of(y) & 0"),
    ("encode: -0 where there is none", ELEMENTWISE, "(1 if found == hole else 0)", "0"),
    ("encode: NaN", ELEMENTWISE, "found if v == v else c.nan", "found"),
    (
        "decode: subnormals one off",
        ELEMENTWISE,
        "y = small if magnitude < c.first_normal else y",
        "y = small if magnitude <= c.first_normal else y",
    ),
    ("same exponents: ties go up", "kernels/subset.py", "builder.and_(builder.lshr(bits, n), one))", "one)"),
    ("LFSR: one clock late", SCALAR, "clocks = d.first + ", "clocks = 1 + d.first + "),
]

#: The tests of the arithmetic, quick ones first.
TESTS = [
    "rounding",
    "arithmetic",
    "operations",
    "evaluate",
    "codes",
    "posits",
    "blocks",
    "arrays",
    "proof_narrow",
    "proof_wide",
    "proof_unary",
]


def survives(file: str, old: str, new: str) -> str:
    """The first test that fails with the text replaced; empty if none does."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "halfulp"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__", "build", "*.egg-info"))
        source = (copy / file).read_text(encoding="utf-8")
        if source.count(old) != 1:
            raise SystemExit(f"{file} has {source.count(old)} of {old!r}: bring the mutation up to date.")
        (copy / file).write_text(source.replace(old, new), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "2", "-p", "no:cacheprovider"]
        command += [f"tests/test_{name}.py" for name in TESTS]
        environment = os.environ | {"PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        result = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", result.stdout, re.MULTILINE)
    if not failed and result.returncode:
        return f"pytest ended with {result.returncode}"
    return failed[1] if failed else ""


def main() -> int:
    chosen = [row for row in MUTATIONS if re.search(sys.argv[1] if len(sys.argv) > 1 else "", row[0])]
    alive = 0
    for what, *mutation in chosen:
        begin = time.perf_counter()
        failed = survives(*mutation)
        alive += not failed
        print(f"{'caught' if failed else 'MISSED':8}{time.perf_counter() - begin:5.0f} s  {what}: {failed}", flush=True)
    print(f"{len(chosen) - alive} of {len(chosen)} mutations caught.")
    return min(alive, 1)


if __name__ == "__main__":
    sys.exit(main())
