"""Images: exact scaling, fixed subsets, built-in sets, and every rule for a user's file."""

import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from helpers import datasets
from helpers.datasets import DataError, area, load, subset_indices, to_model, to_uint8

RANDOM = np.random.default_rng(3)
IMAGES = RANDOM.integers(0, 256, (21, 16, 16), np.uint8)


def npz(folder, **arrays):
    path = folder / "mine.npz"
    np.savez(path, **arrays)
    return path


def refused(path, *words):
    with pytest.raises(DataError) as caught:
        load(path)
    message = str(caught.value)
    assert "mine." in message
    for word in words:
        assert word in message, message


def test_fashion16_is_the_pinned_set():
    images = load("fashion16")
    assert images.train.shape == (60000, 16, 16, 1) and images.test.shape == (10000, 16, 16, 1)
    assert images.train.dtype == np.uint8 and (images.size, images.channels) == (16, 1)
    assert np.bincount(images.attribute("label")).tolist() == [6000] * 10
    assert np.bincount(images.attribute("label", test=True)).tolist() == [1000] * 10
    footwear = np.isin(images.attributes["label"], (5, 7, 9))
    assert (images.attribute("footwear") == footwear).all() and footwear.sum() == 18000
    assert not images.train.flags.writeable
    assert load("fashion16") is images
    assert load("fashion16", 8).sha256 != images.sha256


def test_damaged_or_missing_committed_file(tmp_path, monkeypatch):
    monkeypatch.setenv("SAME_NOISE_DATA", str(tmp_path))
    datasets._built_in.cache_clear()
    with pytest.raises(DataError, match=r"fashion16\.npz is missing.*data fashion16"):
        load("fashion16")
    (tmp_path / "fashion16.npz").write_bytes(b"PK\3\4 cut short")
    with pytest.raises(DataError, match="damaged"):
        load("fashion16")
    np.savez(tmp_path / "fashion16.npz", images=IMAGES, labels=IMAGES[:, 0, 0],
             footwear=IMAGES[:, 0, 0])
    with pytest.raises(DataError, match="decoded arrays have SHA-256"):
        load("fashion16")


def test_digits8():
    images = load("digits8")
    assert len(images.train) + len(images.test) == 1797 and len(images.test) == 256
    assert images.train.shape[1:] == (8, 8, 1) and images.train.max() == 255
    assert set(images.attributes) == {"label", "even"}


def test_area_against_direct_averages():
    half = area(IMAGES, 8)
    sums = IMAGES.reshape(21, 8, 2, 8, 2).astype(int).sum((2, 4))
    assert (half == (sums + 2) // 4).all()
    assert (area(IMAGES, 16) == IMAGES).all()
    # 28 to 16 (overlaps of quarters): cells of a 112 x 112 copy are averaged directly.
    big = RANDOM.integers(0, 256, (5, 28, 28, 3), np.uint8)
    cells = big.repeat(4, 1).repeat(4, 2).reshape(5, 16, 7, 16, 7, 3).astype(int).sum((2, 4))
    assert (area(big, 16) == (2 * cells + 49) // 98).all()
    flat = np.full((1, 20, 20), 77, np.uint8)
    assert (area(flat, 12) == 77).all()


@pytest.mark.parametrize("size", [0, 17])
def test_area_refuses_other_sizes(size):
    with pytest.raises(DataError, match=r"outside 1\.\.16"):
        area(IMAGES, size)


@pytest.mark.parametrize("bad", [IMAGES.astype(float), IMAGES[0], IMAGES[:, :8]])
def test_area_refuses_other_arrays(bad):
    with pytest.raises(DataError, match="need uint8"):
        area(bad, 8)


def test_model_values_and_back():
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    values = to_model(every)
    assert values.dtype == np.float32 and values.shape == (1, 1, 16, 16)
    assert values.min() == -1 and values.max() == 1
    assert (to_uint8(values) == every).all()
    assert to_uint8(np.full((1, 1, 2, 2), 7.0)).max() == 255
    with pytest.raises(DataError, match="1 of 4 values are not finite"):
        to_uint8(np.array([0, 0, 0, np.nan]).reshape(1, 1, 2, 2))
    with pytest.raises(DataError, match="to_model"):
        to_model(IMAGES)
    with pytest.raises(DataError, match="to_uint8"):
        to_uint8(np.zeros((2, 2)))


def test_subsets_are_nested_and_halves_disjoint():
    assert (subset_indices(1000, 50) == subset_indices(1000, 400)[:50]).all()
    first, second = subset_indices(1001, 501, half=0), subset_indices(1001, 500, half=1)
    assert sorted([*first, *second]) == list(range(1001))
    assert (subset_indices(1000, 50, seed=1) != subset_indices(1000, 50)).any()


def test_subsets_are_the_same_in_another_process():
    code = "from helpers.datasets import subset_indices as s; print(*s(60000, 5, 2, 1))"
    for salt in ("1", "2"):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                              check=True, env={**os.environ, "PYTHONHASHSEED": salt})
        assert done.stdout.split() == [str(i) for i in subset_indices(60000, 5, 2, 1)]


@pytest.mark.parametrize(("n", "half", "words"), [
    (1001, None, "1001 images asked for, but there are 1000"),
    (501, 1, "501 images asked for, but there are 500 in half 1"), (0, None, "between 1 and 1000"),
    (5, 2, "half 2 is not None, 0 or 1")])
def test_subsets_that_are_not_there(n, half, words):
    with pytest.raises(DataError, match=words):
        subset_indices(1000, n, half=half)


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_user_file(tmp_path, ending):
    path = tmp_path / f"mine.{ending}"
    floats = (IMAGES / 255.0).astype(np.float32)
    arrays = {"images": floats, "smile": np.arange(21) % 2, "age": np.linspace(0, 1, 21)}
    np.savez(path, **arrays) if ending == "npz" else save_file(arrays, path)
    images = load(path)
    assert images.train.shape == (18, 16, 16, 1) and images.test.shape == (3, 16, 16, 1)
    both = np.concatenate([images.train, images.test])[..., 0]
    assert (np.sort(both.reshape(21, -1), 0) == np.sort(IMAGES.reshape(21, -1), 0)).all()
    for image, age in zip(images.train, images.attribute("age"), strict=True):
        assert (image[..., 0] == IMAGES[round(age * 20)]).all()
    assert load(path).sha256 == images.sha256
    assert load(path, 8).train.shape == (18, 8, 8, 1)
    with pytest.raises(DataError, match="no attribute 'hat'; present: age, smile"):
        images.attribute("hat")
    images.require(18)
    with pytest.raises(DataError, match=r"mine\..*: 19 images asked for, but there are 18"):
        images.require(19)
    assert images.subset(4, half=0).shape == (4, 16, 16, 1)


def test_colour_strings_and_booleans(tmp_path):
    colour = RANDOM.integers(0, 256, (14, 8, 8, 3), np.uint8)
    path = npz(tmp_path, images=colour, name=np.array(["a", "b"] * 7), flag=np.ones(14, bool))
    images = load(path)
    assert images.channels == 3 and images.attribute("name").dtype.kind == "U"


@pytest.mark.parametrize(("images", "words"), [
    (IMAGES[:, :, 0], ["[21, 16]", "N x H x W"]),
    (np.repeat(IMAGES[..., None], 2, 3), ["[21, 16, 16, 2]", "C = 1 or 3"]),
    (IMAGES[:, :12], ["12 x 16", "H = W"]),
    (IMAGES[:, :14, :14], ["side 14", "multiple of 4"]),
    (IMAGES[:, :4, :4], ["side 4", "from 8 to 64"]),
    (np.zeros((8, 68, 68), np.uint8), ["side 68", "from 8 to 64"]),
    (IMAGES[:5], ["5 images", "at least 7"]),
    (IMAGES[:0], ["0 images", "at least 7"]),
    (np.where(IMAGES == 7, np.nan, IMAGES / 255), ["nan", "finite"]),
    (np.where(IMAGES == 7, np.inf, IMAGES / 255), ["inf", "finite"]),
    (IMAGES.astype(float), ["255", "[0, 1]", "uint8"]),
    (IMAGES / 255 - 0.5, ["-0.5", "[0, 1]"]),
    (IMAGES.astype(np.int64), ["int64", "uint8"]),
    (np.full((9, 8, 8), 3, np.uint8), ["9 images is constant"]),
    (np.arange(9, dtype=np.uint8).reshape(9, 1, 1) * np.ones((1, 8, 8), np.uint8),
     ["9 images is constant"]),
    (np.repeat(IMAGES[:1], 9, 0), ["9 images are the same picture"])])
def test_user_images_that_break_a_rule(tmp_path, images, words):
    refused(npz(tmp_path, images=images), *words)


@pytest.mark.parametrize(("values", "words"), [
    (np.zeros(20), ["'x'", "[20]", "length 21"]), (np.zeros((21, 2)), ["[21, 2]", "1-D"]),
    (np.full(21, np.nan), ["'x'", "21 values", "not finite"]),
    (np.zeros(21, complex), ["complex128", "numbers or strings"])])
def test_user_attributes_that_break_a_rule(tmp_path, values, words):
    refused(npz(tmp_path, images=IMAGES, x=values), *words)


def test_user_files_that_cannot_be_read(tmp_path):
    refused(tmp_path / "mine.npz", "no such file")
    refused(tmp_path / "mine.png", "fashion16, digits8, mnist, cifar10", "'.png'")
    refused(npz(tmp_path, pictures=IMAGES), "no array named 'images'", "pictures")
    refused(npz(tmp_path, images=np.array([IMAGES, None], object)), "object array", "pickle")
    refused(npz(tmp_path, images=IMAGES, x=np.array([None] * 21, object)), "object array")
    whole = npz(tmp_path, images=IMAGES).read_bytes()
    for content in (b"", whole[:300], whole[:-40], b"not a zip file at all"):
        (tmp_path / "mine.npz").write_bytes(content)
        refused(tmp_path / "mine.npz", "damaged")
    (tmp_path / "mine.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{broken}")
    refused(tmp_path / "mine.safetensors", "damaged")


def test_sizes():
    for size in (7, 10, 68):
        with pytest.raises(DataError, match="multiple of 4 from 8 to 64"):
            load("digits8", size)
    with pytest.raises(DataError, match="size 16 is above the images' own 8"):
        load("digits8", 16)
