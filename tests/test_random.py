"""Random bits: Philox4x32-10 is the published one, and no two places draw from the same counter; LFSRs are periodic
as they should be, and their bits by position are those of stepping.

Known answers: Random123 1.14, file ``tests/kat_vectors`` (Salmon et al., SC 2011, doi:10.1145/2063384.2063405).
"""

import itertools

import cases
import halfulp as hu
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


@pytest.mark.parametrize(("k", "width"), [(1, 8), (8, 8), (9, 16), (16, 16), (17, 32), (32, 32)])
def test_pieces_of_a_block_are_dealt_in_runs_of_16_elements(k, width):
    """The fifth elements of the runs of a group share a block: words in turn, the upper pieces of all of them first."""
    pieces = 128 // width
    block = hr.philox4x32((2, 3 * 16 + 5, 3, 0), (7, 0))
    dealt = [word >> (32 - width * (part + 1)) & ((1 << width) - 1) for part in range(32 // width) for word in block]
    drawn = [hr.random_bits(7, 3, 3 * 16 * pieces + 16 * run + 5, 2, k) for run in range(pieces)]
    assert drawn == [piece >> (width - k) for piece in dealt]


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
    for seed, stream, element, step in places():
        place = seed, stream, element, step
        words = tuple(hr.random_bits(seed, stream, near, step, 32) for near in (element, element ^ 1))
        assert blocks.setdefault(words, place) == place
    assert len(blocks) == 1 + 62 + 3 * 40


def test_high_bits_of_arguments_do_not_collide(monkeypatch):
    """Every (stream, element >> 2, step) has a Philox counter of its own, also where two arguments are large."""
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
            (0, 1, ONES, ONES + 1, 2**40 - 1), (0, 4, 2**34, 2**40 - 4), (0, 1, ONES, ONES + 1, 2**40 - 1)
        )
    ]
    places += [
        (draw.getrandbits(62), draw.getrandbits(40), draw.getrandbits(40) & ~3, draw.getrandbits(40))
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
        "block": (0, 0, 4, 0),
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


# --------------------------------------------------------------------------------------------------------- LFSRs


def clocked(state, lfsr):
    """The next state of a Galois register, as its RTL has it: shift left, and on a carry out flip the taps."""
    shifted = state << 1
    return shifted ^ lfsr.polynomial if shifted >> lfsr.width else shifted


def prime_factors(n):
    factors, p = set(), 2
    while p * p <= n:
        while n % p == 0:
            factors.add(p)
            n //= p
        p += 1
    return factors | ({n} - {1})


@pytest.mark.parametrize("width", range(2, 17))
def test_tabled_registers_run_through_every_state(width):
    lfsr = hr.LFSR(width)
    state, clocks = clocked(1, lfsr), 1
    while state != 1:
        state, clocks = clocked(state, lfsr), clocks + 1
    assert clocks == 2**width - 1


@pytest.mark.parametrize("width", hr.TAPS)
def test_tabled_polynomials_are_primitive(width):
    """x has order 2^w - 1: x^(2^w - 1) = 1, and x^((2^w - 1) / q) is not, for every prime factor q."""
    lfsr, period = hr.LFSR(width), 2**width - 1
    assert lfsr.after(period) == 1
    assert all(lfsr.after(period // q) != 1 for q in prime_factors(period))


@pytest.mark.parametrize(
    "lfsr", [hr.LFSR(5), hr.LFSR(16, seed=0xACE1), hr.LFSR(8, 0x11D, 0x5A), hr.LFSR(32), hr.LFSR(4, 0x1F)]
)
def test_jumping_ahead_is_stepping(lfsr):
    state = lfsr.seed
    for clocks in range(300):
        assert lfsr.after(clocks) == state
        assert lfsr.after(clocks, state) == lfsr.after(2 * clocks)
        state = clocked(state, lfsr)


@pytest.mark.parametrize("clocks", [1, 3, 16])
def test_a_sum_draws_the_top_bits_of_its_register(clocks):
    lfsr = hr.LFSR(16, clocks=clocks, units=4)
    state = lfsr.state(7, 12, 6, 0)
    for step in range(50):
        for k in (1, 5, 16):
            assert lfsr.random_bits(7, 12, 6, step, k) == state >> (16 - k)
        for _ in range(clocks):
            state = clocked(state, lfsr)


def test_registers_are_shared_by_units():
    def drawn(lfsr):
        return [lfsr.random_bits(0, 4, element, 9, 8) for element in range(12)]

    shared, columns, own = (drawn(hr.LFSR(16, units=units)) for units in (1, 3, None))
    assert len(set(shared)) == 1
    assert columns == columns[:3] * 4 and len(set(columns)) == 3
    assert len(set(own)) > 8


def test_registers_start_in_different_states():
    lfsr = hr.LFSR(10)
    assert len({lfsr.state(0, 0, element, 0) for element in range(1023)}) == 1023
    assert hr.LFSR(10, seed=77).state(0, 0, 0, 0) == 77
    starts = {
        hr.LFSR(32, units=8).state(seed, stream, u, 0) for seed in (0, 5) for stream in (8, 9, 17) for u in range(8)
    }
    assert len(starts) == 48


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"width": 1}, "2 to 32 bits, not 1"),
        ({"width": 33}, "2 to 32 bits, not 33"),
        ({"width": 8, "polynomial": 0x1D}, r"has x\^8, 1 and nothing above"),
        ({"width": 8, "polynomial": 0x11C}, r"has x\^8, 1 and nothing above"),
        ({"width": 8, "polynomial": 0x31D}, r"has x\^8, 1 and nothing above"),
        ({"width": 8, "seed": 0}, r"seed of a 8-bit LFSR lies in 1\.\.\.2\*\*8 - 1"),
        ({"width": 8, "seed": 256}, "seed of a 8-bit LFSR"),
        ({"width": 8, "units": 0}, "at least one unit"),
        ({"width": 8, "clocks": 0}, "at least one clock"),
    ],
)
def test_what_is_no_register_is_refused(fields, why):
    with pytest.raises(hu.HalfulpError, match=why):
        hr.LFSR(**fields)


def test_more_bits_than_the_register_has_are_refused():
    with pytest.raises(hu.HalfulpError, match="8-bit LFSR gives at most 8 random bits, not 9"):
        hr.LFSR(8).random_bits(0, 0, 0, 0, 9)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("philox", hr.Philox()),
        ("lfsr16", hr.LFSR(16)),
        ("lfsr16:units=8", hr.LFSR(16, units=8)),
        ("lfsr8:polynomial=0x11d:seed=0x5a:units=1:clocks=8", hr.LFSR(8, 0x11D, 0x5A, 1, 8)),
    ],
)
def test_sources_have_names(text, source):
    assert hr.source(text) == source and str(source) == text and hr.source(source) is source


@pytest.mark.parametrize(
    "text", ["", "mt19937", "lfsr", "lfsr8:", "lfsr8:taps=3", "lfsr8:seed", "lfsr8:seed=1:seed=1", "philox:seed=1"]
)
def test_unknown_sources_are_refused(text):
    with pytest.raises(hu.HalfulpError, match=r"unknown random source .*: use philox or lfsr<width>"):
        hr.source(text)


def test_philox_is_a_source():
    assert hr.Philox().random_bits(7, 3, 5, 2, 9) == hr.random_bits(7, 3, 5, 2, 9)
