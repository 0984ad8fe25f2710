"""Random bits: Philox4x32-10 is the published one, and no two places draw from the same counter.

Known answers: Random123 1.14, file ``tests/kat_vectors`` (Salmon et al., SC 2011, doi:10.1145/2063384.2063405).
"""

import itertools

import cases
import halfulp.emulator.random as hr
import pytest

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_philox_gives_the_known_answers(counter, key, answer):
    assert hr.philox4x32(counter, key) == answer


def test_philox_is_a_permutation_of_counters():
    counters = [c for i in range(4) for b in range(32) if (c := tuple((1 << b) * (i == j) for j in range(4)))]
    assert len({hr.philox4x32(c, (1, 2)) for c in counters}) == len(counters) == 128


@pytest.mark.parametrize("k", range(1, 33))
def test_k_bits_are_in_range_and_are_the_top_bits_of_the_word(k):
    for step in range(40):
        word = hr.random_bits(7, 3, 5, step, 32)
        bits = hr.random_bits(7, 3, 5, step, k)
        assert 0 <= bits < 1 << k
        assert bits == word >> (32 - k)


def test_four_steps_share_one_block():
    block = hr.philox4x32((2, 5, 3, 0), (7, 0))
    assert tuple(hr.random_bits(7, 3, 5, 8 + i, 32) for i in range(4)) == block


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_every_value_comes_equally_often(k):
    n = 4096
    counts = [0] * (1 << k)
    for element in range(n):
        counts[hr.random_bits(1, 0, element, 0, k)] += 1
    mean = n / (1 << k)
    assert all(abs(count - mean) < 5 * mean**0.5 for count in counts), counts


def places():
    """(seed, stream, element, step) that differ in one bit, over the whole documented range of each."""
    yield (0, 0, 0, 0)
    for argument, bits in enumerate((62, 40, 40, 40)):
        for bit in range(bits):
            yield tuple((1 << bit) * (argument == i) for i in range(4))


def test_no_bit_of_any_argument_is_ignored():
    blocks = {}
    for place in places():
        words = tuple(hr.random_bits(*place[:3], step, 32) for step in (place[3], place[3] ^ 1))
        assert blocks.setdefault(words, place) == place
    assert len(blocks) == 1 + 62 + 3 * 40


def test_high_bits_of_arguments_do_not_collide(monkeypatch):
    """Every (stream, element, step >> 2) has a Philox counter of its own, also where two arguments are large."""
    seen = {}

    def spy(counter, key):
        assert all(0 <= word <= ONES for word in (*counter, *key))
        spy.last = (*counter, *key)
        return counter

    monkeypatch.setattr(hr, "philox4x32", spy)
    draw = cases.rng("counters")
    places = [
        (0, *p)
        for p in itertools.product(
            (0, 1, ONES, ONES + 1, 2**40 - 1), (0, 1, ONES, ONES + 1, 2**40 - 1), (0, 4, 2**34, 2**40 - 4)
        )
    ]
    places += [
        (draw.getrandbits(62), draw.getrandbits(40), draw.getrandbits(40), draw.getrandbits(40) & ~3)
        for _ in range(2000)
    ]
    for place in places:
        hr.random_bits(*place, 32)
        assert seen.setdefault(spy.last, place) == place
    assert len(seen) == len(set(places))


def test_streams_look_independent():
    """Bits of two streams, two elements, two seeds and two steps agree about half of the time."""
    n = 200
    neighbours = {
        "seed": (1, 0, 0, 0),
        "stream": (0, 1, 0, 0),
        "element": (0, 0, 1, 0),
        "step": (0, 0, 0, 1),
        "block": (0, 0, 0, 4),
    }
    for name, offset in neighbours.items():
        equal = 0
        for i in range(n):
            place = (i * 1000, 8 * i, 16 * i, 32 * i)
            other = tuple(a + b for a, b in zip(place, offset, strict=True))
            equal += 32 - (hr.random_bits(*place, 32) ^ hr.random_bits(*other, 32)).bit_count()
        assert abs(equal - 16 * n) < 5 * (8 * n) ** 0.5, name


def test_stream_numbers_never_meet():
    assert len(hr.Role) <= 8
    numbers = {hr.stream(call, role) for call in range(100) for role in hr.Role}
    assert len(numbers) == 100 * len(hr.Role)
    assert hr.stream(3, hr.Role.OUTPUT) == 28
    assert [hr.stream(0, role) for role in hr.Role] == sorted(int(role) for role in hr.Role)
