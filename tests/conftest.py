"""For every test: the seed of the random cases is printed, and the emitted C++ is built with UBSan."""

import cases
import pytest
from kernel_cases import UBSAN


def pytest_report_header(config):
    return f"halfulp: random cases follow from cases.SEED = {cases.SEED}"


@pytest.fixture(scope="session", autouse=True)
def sanitized():
    """Undefined behaviour in the C++ ends the process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HALFULP_CXXFLAGS", UBSAN)
        yield
