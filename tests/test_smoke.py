import halfulp as hu
import oracle


def test_one():
    assert hu.__file__ and oracle
