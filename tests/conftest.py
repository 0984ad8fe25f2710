"""Printed at the head of every run: the seed from which all random cases follow."""

import cases


def pytest_report_header(config):
    return f"halfulp: random cases follow from cases.SEED = {cases.SEED}"
