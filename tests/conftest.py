"""For every test: the seed of the random cases is printed, and the emitted C++ is built with UBSan."""

import cases
import pytest
from halfulp import cli
from kernel_cases import UBSAN


def pytest_report_header(config):
    return f"halfulp: random cases follow from cases.SEED = {cases.SEED}"


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
