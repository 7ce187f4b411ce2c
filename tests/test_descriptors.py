"""Descriptors: unit rows, independence of the batch, whitening, thresholds, SSCD's file."""

import hashlib

import numpy as np
import pytest
import torch

from helpers import descriptors, recall, squeezenet
from helpers.datasets import DataError, load
from helpers.descriptors import Descriptor, Whitening

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def images():
    return load("digits8")


@pytest.fixture(scope="module")
def both(images):
    return descriptors.squeezenet(images.test)


def test_weights_know_a_stupa():
    """A temple photo (scikit-learn's) is ImageNet class 832: weights, layout and channel order."""
    from sklearn.datasets import load_sample_image

    photo = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1)[None] / 255.0
    photo = torch.nn.functional.interpolate(photo[..., :427, 100:527], size=(227, 227),
                                            mode="bilinear", antialias=True)
    taps = squeezenet.Taps(descriptors.load_weights())
    assert taps.logits(photo).argmax() == 832
    assert [m.shape[1] for m in taps.maps(photo)] == [64, 128, 256, 384, 384, 512, 512]


@pytest.mark.parametrize("kind", ["pixels", "squeezenet"])
def test_rows_are_unit_and_independent_of_the_batch(images, both, kind):
    one = both if kind == "squeezenet" else descriptors.pixels(images.test)
    rows = one.embed(images.train[:150])
    for block in rows:
        assert block.dtype == np.float32
        assert np.allclose(np.linalg.norm(block, axis=1), 1, atol=1e-6)
    for i in (0, 63, 64, 149):
        for alone, block in zip(one.embed(images.train[i:i + 1]), rows, strict=True):
            assert (alone[0] == block[i]).all()
    assert all(block.shape[0] == 0 for block in one.embed(images.train[:0]))
    assert np.allclose(one.paired(rows, rows), 1, atol=1e-6)


def test_colour_and_grey_agree(both, images):
    grey = images.train[:5]
    assert np.allclose(both.embed(grey)[0], both.embed(grey)[0])
    taps = squeezenet.Taps(descriptors.load_weights())
    assert np.allclose(taps(grey), taps(np.repeat(grey, 3, 3)), atol=1e-6)


def test_whitening_makes_the_fitted_part_white():
    random = np.random.default_rng(0)
    rows = random.normal(size=(500, 6)) * [1, 2, 3, 4, 5, 6] + 9
    white = Whitening.fit(rows, ridge=0.0)
    z = (rows - white.mean) @ white.matrix
    assert np.allclose(z.T @ z, np.eye(6), atol=1e-4)
    assert Whitening.fit(rows, dimensions=3).matrix.shape == (6, 3)
    with pytest.raises(DataError, match="feature vectors are equal"):
        Whitening.fit(np.ones((50, 4)))


def test_threshold_rule(images):
    one = descriptors.pixels(images.test)
    first, second = descriptors._held_out(images.test, "pixels")
    assert len(first) == 128 and len(second) == 128
    taken = {image.tobytes() for image in first} & {image.tobytes() for image in second}
    assert not taken
    similarity, _ = one.nearest(one.embed(second), one.embed(first))
    assert np.isclose(one.threshold, np.quantile(similarity, 0.99), atol=1e-5)
    assert one.record["threshold"] == one.threshold and len(one.record["held_out"]) == 64
    with pytest.raises(DataError, match="39 held-out images; at least 40"):
        descriptors.pixels(images.test[:39])


def test_nearest_in_chunks():
    random = np.random.default_rng(0)
    a = tuple(random.normal(size=(1100, d)).astype(np.float32) for d in (5, 9))
    refs = tuple(random.normal(size=(777, d)).astype(np.float32) for d in (5, 9))
    full = np.maximum(a[0] @ refs[0].T, a[1] @ refs[1].T)
    for chunk in (10, 100, 5000):
        similarity, index = Descriptor.nearest(a, refs, chunk)
        assert (index == full.argmax(1)).all()
        assert np.allclose(similarity, full.max(1), atol=1e-5)
    assert np.allclose(Descriptor.paired(a, a), np.maximum((a[0]**2).sum(1), (a[1]**2).sum(1)))
    with pytest.raises(DataError, match="no references"):
        Descriptor.nearest(a, tuple(r[:0] for r in refs))


def test_embed_refuses_other_arrays(both):
    for bad in (np.zeros((2, 8, 8, 1)), np.zeros((2, 8, 8), np.uint8),
                np.zeros((2, 8, 8, 2), np.uint8)):
        with pytest.raises(DataError, match="need uint8"):
            both.embed(bad)


def test_fit_and_embeddings_through_the_store(images, tmp_path, monkeypatch):
    from helpers.store import Store

    store = Store(tmp_path)
    first = descriptors.pixels(images.test, store=store)
    rows = first.embed_cached(images.train[:30], store)
    monkeypatch.setattr(Whitening, "fit", lambda *_: pytest.fail("fitted again"))
    again = descriptors.pixels(images.test, store=store)
    assert again.threshold == first.threshold and again.record == first.record
    assert (again.embed_cached(images.train[:30], store)[0] == rows[0]).all()
    assert (again.embed(images.train[:30])[0] == rows[0]).all()
    assert len(list(store.keys())) == 2


def test_weights_that_are_missing_damaged_or_other(tmp_path, monkeypatch):
    from safetensors.numpy import save_file

    monkeypatch.setenv("SAME_NOISE_DATA", str(tmp_path))
    path = tmp_path / "squeezenet11.safetensors"
    with pytest.raises(DataError, match="is missing"):
        descriptors.load_weights()
    path.write_bytes(b"short")
    with pytest.raises(DataError, match="is damaged"):
        descriptors.load_weights()
    save_file({"a": np.zeros(3, np.float32)}, path)
    with pytest.raises(DataError, match="the pinned one is"):
        descriptors.load_weights()


class Tiny(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) + x[:, :, 0, 0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_sscd_from_a_torchscript_file(tmp_path):
    path = tmp_path / "sscd.pt"
    torch.jit.script(Tiny()).save(str(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    one = descriptors.sscd(path, digest, size=32)
    assert one.threshold == 0.6 and one.record["weights"] == digest and one.record["side"] == 32
    pictures = np.random.default_rng(0).integers(0, 256, (11, 16, 16, 3), np.uint8)
    rows = one.embed(pictures)[0]
    assert rows.shape == (11, 3) and np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert (one.embed(pictures[9:])[0] == rows[9:]).all()
    with pytest.raises(DataError, match="not opened"):
        descriptors.sscd(path, "0" * 64)
    with pytest.raises(DataError, match="no such file"):
        descriptors.sscd(tmp_path / "absent.pt", digest)
    path.write_bytes(b"not TorchScript")
    with pytest.raises(DataError, match="not a TorchScript file"):
        descriptors.sscd(path, hashlib.sha256(b"not TorchScript").hexdigest())


def test_recall_is_measured_and_committed(images):
    found = recall.measure_set(images, references=300, queries=40)
    assert found["recall"]["raw pixels"]["noise 0.1"]["value"] > 0.9
    assert found["recall"]["pixels"]["noise 0.1"]["value"] > 0.8
    committed = recall.read()
    assert committed["protocol"]["queries"] == 200 and set(committed["sets"]) == set(recall.SETS)
    assert committed["sets"]["fashion16"]["images_sha256"] == load("fashion16").sha256
    assert committed["protocol"]["ridge"] == descriptors.RIDGE
    assert recall.table(committed).count("\n") == 13
