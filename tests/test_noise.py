"""The noise bank: what index i gives depends on i, the seed, the shape and the stream alone."""

import hashlib
import math
import random

import numpy as np
import pytest
import torch
from scipy import stats
from small import output

from helpers.noise import Bank, generator, noise, stream_key, torch_generator

# Made once by printing noise(...) with numpy 2.4 on x86-64; confirmed by `by_hand` below, which
# uses no NumPy generator. Words are exact everywhere; the last bit of log and cos may differ
# between mathematical libraries, hence a tolerance of one unit of float32 on the numbers.
GOLDEN = {
    0: [1.074566125869751, 1.0702847242355347, -0.04754700884222984, 0.13345098495483398],
    1: [0.5218246579170227, -0.4910241961479187, 0.04970366880297661, -0.44211438298225403],
    1023: [0.9490745663642883, 0.6734360456466675, 0.7322140336036682, 0.9716259241104126],
}
MASK = 2**64 - 1


def philox(key: int, counter: int) -> list[int]:
    """Philox4x64-10 of Salmon et al. (2011): one block of four words."""
    words = [(counter >> (64 * i)) & MASK for i in range(4)]
    keys = [key & MASK, key >> 64]
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * words[0], 0xCA5A826395121157 * words[2]
        words = [(second >> 64) ^ words[1] ^ keys[0], second & MASK,
                 (first >> 64) ^ words[3] ^ keys[1], first & MASK]
        keys = [(keys[0] + 0x9E3779B97F4A7C15) & MASK, (keys[1] + 0xBB67AE8584CAA73B) & MASK]
    return words


def by_hand(index: int, shape: tuple[int, ...], seed: int = 0, stream: str = "bank") -> list[float]:
    """Draw one noise with the standard library alone."""
    text = "/".join([stream, str(seed), *map(str, shape)])
    key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
    count = math.prod(shape)
    pairs = (count + 1) // 2
    words, block = [], 1
    while len(words) < 2 * pairs:
        words += philox(key, (index << 128) + block)
        block += 1
    uniform = [((w >> 11) + 0.5) / 2**53 for w in words[: 2 * pairs]]
    radius = [math.sqrt(-2 * math.log(u)) for u in uniform[:pairs]]
    angle = [2 * math.pi * u for u in uniform[pairs:]]
    both = [r * math.cos(a) for r, a in zip(radius, angle, strict=True)]
    both += [r * math.sin(a) for r, a in zip(radius, angle, strict=True)]
    return both[:count]


@pytest.mark.parametrize("index", GOLDEN)
def test_golden_values(index):
    drawn = noise([index], (1, 2, 2))
    assert drawn.dtype == np.float32 and drawn.shape == (1, 1, 2, 2)
    assert np.allclose(drawn.ravel(), GOLDEN[index], atol=3e-7, rtol=0)


@pytest.mark.parametrize("index, shape, seed, stream", [
    (0, (1, 2, 2), 0, "bank"), (1023, (1, 16, 16), 0, "bank"), (7, (3, 3, 3), 5, "injected/4"),
    (2**40, (1, 4, 4), 2**33, "bank"),
])
def test_equals_an_implementation_by_hand(index, shape, seed, stream):
    drawn = noise([index], shape, seed, stream).ravel()
    assert np.allclose(drawn, by_hand(index, shape, seed, stream), atol=1e-6, rtol=0)


def test_independent_of_order_batch_and_count():
    whole = noise(range(40), (1, 4, 4))
    order = generator("test").permutation(40)
    assert np.array_equal(noise(order, (1, 4, 4)), whole[order])
    assert np.array_equal(np.concatenate([noise([i], (1, 4, 4)) for i in range(40)]), whole)
    assert np.array_equal(noise(range(7), (1, 4, 4)), whole[:7])
    assert np.array_equal(noise(iter([3, 3]), (1, 4, 4)), whole[[3, 3]])
    assert np.array_equal(Bank(10, first=5).noise((1, 4, 4)), whole[5:15])
    assert Bank(2, seed=1).noise((1, 4, 4)).tobytes() == noise([0, 1], (1, 4, 4), 1).tobytes()


def test_is_standard_normal():
    drawn = noise(range(400), (1, 16, 16)).astype(np.float64)
    flat = drawn.ravel()
    assert stats.kstest(flat, "norm").pvalue > 1e-3
    assert stats.kstest((drawn**2).sum((1, 2, 3)), "chi2", args=(256,)).pvalue > 1e-3
    assert abs(stats.skew(flat)) < 0.03 and abs(stats.kurtosis(flat)) < 0.06
    assert 4 < np.abs(flat).max() < 6.5
    rows = drawn.reshape(400, 256)
    off = np.corrcoef(rows)[np.triu_indices(400, 1)] * math.sqrt(256)
    assert stats.kstest(off, "norm").pvalue > 1e-3  # noises are uncorrelated with each other
    first, second = rows[:, :128].ravel(), rows[:, 128:].ravel()  # cosines and sines of Box-Muller
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    assert abs(np.corrcoef(first**2, second**2)[0, 1]) < 0.02


def test_streams_are_distinct():
    base = noise(range(64), (1, 8, 8)).ravel()
    others = {
        "seed": noise(range(64), (1, 8, 8), seed=1), "stream": noise(range(64), (1, 8, 8), 0, "x"),
        "index": noise(range(1, 65), (1, 8, 8)), "shape": noise(range(64), (8, 8, 1)),
        "size": noise(range(16), (1, 16, 16)),
    }
    for name, other in others.items():
        assert abs(np.corrcoef(base, other.ravel())[0, 1]) < 4.5 / math.sqrt(base.size), name


def test_counter_blocks_of_indices_do_not_overlap():
    blocks = [set(noise([i], (3, 64, 64)).ravel().tolist()) for i in (0, 1, 2)]
    shared = max(len(a & b) for a in blocks for b in blocks if a is not b)
    assert shared < 20  # float32 collisions by chance


def test_same_in_another_process():
    code = ("import hashlib; from helpers.noise import *; "
            "print(hashlib.sha256(noise(range(20), (1, 8, 8)).tobytes()).hexdigest(), "
            "stream_key('init', 3), generator('a', 1).integers(2**60))")
    here = hashlib.sha256(noise(range(20), (1, 8, 8)).tobytes()).hexdigest()
    wanted = f"{here} {stream_key('init', 3)} {generator('a', 1).integers(2**60)}"
    assert {output(code, hash_seed=s) for s in ("0", "12345")} == {wanted}


def test_generators_are_named_and_leave_global_state_alone():
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    a, b, c, d = (torch.rand(64, generator=torch_generator(*k))
                  for k in (("x", 0), ("x", 0), ("x", 1), ("y", 0)))
    assert torch.equal(a, b) and not torch.equal(a, c) and not torch.equal(a, d)
    assert generator("x", 2).random() == generator("x", 2).random() != generator("x", 3).random()
    noise(range(3), (1, 2, 2))
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1]) and before[2] == random.getstate()
    assert stream_key("x", 1) == stream_key("x", np.int64(1)) < 2**128


def test_nothing_asked_and_bad_requests():
    assert noise([], (1, 2, 2)).shape == (0, 1, 2, 2)
    with pytest.raises(ValueError, match="start at 0, got -3"):
        noise([2, -3], (1, 2, 2))
    with pytest.raises(ValueError, match="at least 1 noise, got count=0"):
        Bank(0)
