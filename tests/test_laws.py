"""Training laws: nested subsets, disjoint halves, and a mixture whose score is the one stated."""

import hashlib

import numpy as np
import pytest
import torch
from small import output

from helpers import datasets, laws
from helpers.images import DataError
from helpers.laws import Law
from helpers.oracles import Mixture
from helpers.store import Store

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("laws"))


@pytest.fixture(scope="module")
def mixture(store):
    return laws.load("mixture:digits8", 8, store)


@pytest.fixture(params=["images", "mixture"])
def law(request, mixture):
    return mixture if request.param == "mixture" else laws.load("digits8", 8)


def rows(images):
    return {image.tobytes() for image in images}


def test_subsets_are_nested_and_halves_disjoint(law):
    assert law.subset(40).dtype == np.float32 and law.subset(40).shape == (40, 1, 8, 8)
    for half in (None, 0, 1):
        assert np.array_equal(law.subset(300, 0, half)[:64], law.subset(64, 0, half))
    assert not rows(law.subset(700, 0, 0)) & rows(law.subset(700, 0, 1))
    assert not rows(law.subset(700)) & rows(law.held_out(200))
    assert rows(law.subset(64, 0)) != rows(law.subset(64, 1))
    assert rows(law.subset(64, 0, 0)) <= rows(law.subset(128, 0, None))


def test_held_out_images(law):
    assert np.array_equal(law.held_out(50)[:10], law.held_out(10))
    assert law.held_out(10).shape == (10, 1, 8, 8) and law.held_out(10).dtype == np.float32
    assert len(law.held_out(10**6)) == len(law.test)


def test_images_are_those_of_the_data_set():
    data, law = datasets.load("digits8", 8), laws.load("digits8", 8)
    assert law.sha256 == data.sha256 and law.mixture is None
    index = datasets.subset_indices(len(data.train), 20, 3, 1)
    found = law.subset(20, 3, 1)
    assert np.allclose(found, np.moveaxis(data.train[index], 3, 1) / 127.5 - 1, atol=1e-6)
    assert found.min() >= -1 and found.max() <= 1


def test_too_many_images_are_refused(law):
    total = len(law.train)
    with pytest.raises(DataError, match=f"choose n between 1 and {(total + 1) // 2}"):
        law.subset((total + 1) // 2 + 1, 0, 0)
    with pytest.raises(DataError, match="half 2 is not None, 0 or 1"):
        law.subset(5, 0, 2)


def test_the_mixture_draws_from_the_law_whose_score_it_states(mixture):
    parts, weights = mixture.mixture.parts, mixture.mixture.weights
    assert len(parts) == laws.COMPONENTS and abs(float(weights.sum()) - 1) < 1e-9
    mean = sum(w * p.mean for w, p in zip(weights, parts, strict=True)).numpy()
    drawn = mixture.train.reshape(len(mixture.train), -1)
    error = (drawn.mean(0) - mean) / (drawn.std(0) / np.sqrt(len(drawn)))
    assert len(drawn) == laws.DRAWS and np.abs(error).max() < 4.5
    second = sum(w * ((p.vectors * p.values) @ p.vectors.T + torch.outer(p.mean, p.mean))
                 for w, p in zip(weights, parts, strict=True)).numpy() - np.outer(mean, mean)
    assert np.allclose(np.cov(drawn.T), second, atol=0.03 * np.diag(second).max())
    half = drawn[:2000]  # the posterior mean is the regression of x0 on x: errors do not correlate
    x0 = torch.from_numpy(half).view(-1, 1, 8, 8).double()
    x = x0 + 0.5 * torch.randn(x0.shape, generator=torch.Generator().manual_seed(1),
                               dtype=torch.float64)
    left = (x0 - mixture.mixture(x, 0.5)).flatten(1)
    slope = (left * x.flatten(1)).mean() / x.square().mean()
    assert abs(slope) < 0.01 and left.square().mean() < 0.2 * x0.var()


def test_the_mixture_is_fitted_once(mixture, store, monkeypatch):
    monkeypatch.setattr(Mixture, "fit", lambda *a, **k: pytest.fail("fitted again"))
    again = laws.load("mixture:digits8", 8, store)
    assert again.sha256 == mixture.sha256 != laws.load("digits8", 8).sha256
    assert again.train.tobytes() == mixture.train.tobytes()
    assert again.test.tobytes() == mixture.test.tobytes()
    assert torch.equal(again.mixture.weights, mixture.mixture.weights)
    with pytest.raises(pytest.fail.Exception, match="fitted again"):
        laws.load("mixture:digits8", None, store)  # another side is another law


def test_the_same_draws_in_another_process(mixture, store):
    code = ("import hashlib, sys; from helpers import laws; from helpers.store import Store\n"
            "law = laws.load('mixture:digits8', 8, Store(sys.argv[1]))\n"
            "print(law.sha256, hashlib.sha256(law.train.tobytes()).hexdigest())")
    here = f"{mixture.sha256} {hashlib.sha256(mixture.train.tobytes()).hexdigest()}"
    assert output(code, store.root, hash_seed="3") == here


def test_unknown_laws():
    for name in ("nothing", "mixture:nothing"):
        with pytest.raises(DataError):
            laws.load(name)
    assert isinstance(laws.load("digits8"), Law)
