"""The wheel: it installs nothing but halfulp and its plug-in, and works beside decoy packages of its folders' names."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the tracked files, so that the checkout stays clean."""
    work = tmp_path_factory.mktemp("build")
    source = work / "source"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", work / "dist", source], check=True, capture_output=True
    )
    (built,) = (work / "dist").glob("*.whl")
    return built


def test_it_holds_nothing_but_halfulp_and_its_plug_in(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"halfulp", "hwcomponents_halfulp"}
    assert [name for name in names if "hwcomponents" in name] == ["hwcomponents_halfulp/__init__.py"]
    data = {"halfulp/emulator/units.csv", "halfulp/emulator/matrix_units.csv", "halfulp/reports/page.html"}
    data |= {f"halfulp/reports/{name}" for name in ("anchors.csv", "anchors.toml", "measured/anchors.csv")}
    assert data | {"halfulp/cli.py", "halfulp/__main__.py"} <= set(names)
    assert not any("tests" in name or ".ci" in name for name in names)


def test_it_works_in_a_fresh_environment_beside_decoys(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=True)
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel], check=True, capture_output=True
    )
    # the dependencies come from the environment that runs this test, by path; its own halfulp must not
    site = Path(
        subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    )
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    decoys = tmp_path / "decoys"
    for name in ("models", "emulator", "kernels", "solvers", "tests", "reports"):
        (decoys / name).mkdir(parents=True)
        (decoys / name / "__init__.py").write_text("raise ImportError('a decoy was imported')\n")
    program = (
        "import halfulp as hu, pathlib, sys\n"
        "assert pathlib.Path(hu.__file__).is_relative_to(sys.prefix), hu.__file__\n"
        "print(hu.quantize(0.3, 'fp8_e4m3'), hu.Machine('fp16').dot([1.0, 2.0], [3.0, 4.0]))\n"
    )
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    shown = subprocess.run([python, "-c", program], cwd=decoys, capture_output=True, text=True, env=environ)
    assert shown.returncode == 0 and shown.stdout.split() == ["0.3125", "11.0"], shown.stderr
    script = subprocess.run(
        [python.parent / "halfulp", "quantize", "--format", "fp16", "1"],
        cwd=decoys,
        capture_output=True,
        text=True,
        env=environ,
    )
    assert script.returncode == 0 and "0x3c00" in script.stdout, script.stderr
