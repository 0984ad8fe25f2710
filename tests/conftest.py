"""For every test: the seed of the random cases is printed, and the emitted C++ is built with UBSan."""

import sys

import cases
import pytest
from halfulp import cli
from kernel_cases import UBSAN


def pytest_report_header(config):
    return f"halfulp: random cases follow from cases.SEED = {cases.SEED}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """What a test has simulated or proven goes with its report, from other processes, too."""
    checked = getattr(sys.modules.get("rtl_cases"), "CHECKED", {})
    before = dict(checked)
    result = yield
    checked = getattr(sys.modules.get("rtl_cases"), "CHECKED", {})
    item.user_properties += [(what, n - before.get(what, 0)) for what, n in checked.items()]
    return result


def pytest_terminal_summary(terminalreporter):
    """How much generated hardware was compared with the emulator by the tests that passed."""
    passed = terminalreporter.stats.get("passed", [])
    for what in ("units simulated", "vectors simulated", "units proven"):
        if n := sum(count for report in passed for name, count in report.user_properties if name == what):
            terminalreporter.write_line(f"RTL: {n:,} {what}, all equal to the emulator")


@pytest.fixture(scope="session", autouse=True)
def sanitized():
    """Undefined behaviour in the C++ ends the process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HALFULP_CXXFLAGS", UBSAN)
        yield


@pytest.fixture
def run(capsys, monkeypatch):
    """Run the command line in this process: its arguments -> exit code, stdout, stderr."""

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["halfulp", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
            raise SystemExit(0)
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return call
