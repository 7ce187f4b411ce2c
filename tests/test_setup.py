"""The files that describe the environment agree with each other and with what is installed."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent


def pins(name: str) -> dict[str, Requirement]:
    """The lock's requirements by canonical name; every one must be an exact pin."""
    found = {}
    for line in (ROOT / name).read_text("utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        pin = Requirement(line)
        assert re.fullmatch(r"==[^*,]+", str(pin.specifier)), f"{name}: {line!r} is no exact pin"
        key = canonicalize_name(pin.name)
        assert key not in found, f"{name} names {key} twice"
        found[key] = pin
    return found


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def version_of(pin: Requirement) -> str:
    return str(pin.specifier).removeprefix("==")


def covers(pin: Requirement, wanted: Requirement) -> bool:
    return wanted.specifier.contains(version_of(pin), prereleases=True)


@pytest.mark.parametrize("group", ["dependencies", "docs", "test"])
def test_lock_satisfies_pyproject(group):
    wanted = project()["dependencies"] if group == "dependencies" else \
        project()["optional-dependencies"][group]
    lock = pins("requirements.lock")
    for line in wanted:
        requirement = Requirement(line)
        pin = lock.get(canonicalize_name(requirement.name))
        assert pin is not None, f"requirements.lock lacks {requirement.name}"
        assert covers(pin, requirement), f"{pin} does not satisfy {requirement}"


def test_docs_lock_is_a_part_of_the_lock_and_has_no_torch():
    lock, docs = pins("requirements.lock"), pins("requirements-docs.lock")
    assert {name: str(pin) for name, pin in docs.items()}.items() <= {
        name: str(pin) for name, pin in lock.items()}.items()
    for line in project()["optional-dependencies"]["docs"]:
        assert canonicalize_name(Requirement(line).name) in docs
    assert not {"torch", "diffusers", "numpy"} & set(docs)


@pytest.mark.parametrize("lock, start", [
    ("requirements.lock", "all"), ("requirements-docs.lock", "docs")])
@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_lock_is_closed(lock, start, python):
    """Whatever a locked package needs on a supported Python is locked too, at a fitting version."""
    have, seen, queue = pins(lock), set(), []
    told = project()
    first = told["optional-dependencies"]["docs"] + (
        told["dependencies"] + told["optional-dependencies"]["test"] if start == "all" else [])
    queue = [Requirement(line) for line in first]
    here = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": "linux"}
    while queue:
        wanted = queue.pop()
        name = canonicalize_name(wanted.name)
        assert name in have, f"{lock} lacks {wanted.name}, needed on Python {python}"
        assert covers(have[name], wanted), f"{have[name]} does not satisfy {wanted}"
        marker = have[name].marker
        assert marker is None or marker.evaluate(here), f"{name} is not locked on Python {python}"
        if (name, tuple(sorted(wanted.extras))) in seen:
            continue
        seen.add((name, tuple(sorted(wanted.extras))))
        try:
            needs = metadata.distribution(wanted.name).requires or []
        except metadata.PackageNotFoundError:
            continue  # locked for another Python only
        for line in needs:
            need = Requirement(line)
            if _cuda(need.name):
                continue
            if need.marker is None or any(need.marker.evaluate(here | {"extra": extra})
                                          for extra in ("", *wanted.extras)):
                queue.append(need)


def _cuda(name: str) -> bool:
    """Packages that only the CUDA build of torch asks for; pip takes them from its own pins."""
    return name.startswith(("nvidia-", "cuda-")) or name == "triton"


def test_installed_versions_are_the_locked_ones():
    wrong = []
    for name, pin in pins("requirements.lock").items():
        if pin.marker is not None and not pin.marker.evaluate():
            continue
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{name} is not installed")
            continue
        if installed.split("+")[0] != version_of(pin):
            wrong.append(f"{name} is {installed}, locked {version_of(pin)}")
    if wrong and not (ROOT / ".venv" / ".complete").exists():
        pytest.skip(f"this environment was not made from the lock: {'; '.join(wrong[:3])}")
    assert not wrong


def test_conda_environment_agrees():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    plain = [line for line in conda["dependencies"] if isinstance(line, str)]
    (by_pip,) = [part["pip"] for part in conda["dependencies"] if isinstance(part, dict)]
    assert "pip" in plain
    assert "-r requirements.lock" in by_pip and "-e ." in by_pip
    assert len(by_pip) == 2, "versions belong into requirements.lock, not into environment.yml"
    (python,) = [line for line in plain if line.startswith("python")]
    assert SpecifierSet(python.removeprefix("python").strip()) == SpecifierSet(
        project()["requires-python"])
    assert conda["name"] == project()["name"]


def test_versions_agree():
    import helpers

    version = project()["version"]
    assert helpers.__version__ == version
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == version and citation["cff-version"] == "1.2.0"
    newest = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert newest and newest.group(1) == version


def test_licences_are_there():
    assert "MIT License" in (ROOT / "LICENSE").read_text("utf-8")
    assert "Creative Commons Attribution 4.0 International" in \
        (ROOT / "LICENSE-text").read_text("utf-8")
    for path in ("book/_static/mathjax/LICENSE", "tests/_static/axe-LICENSE.txt"):
        assert (ROOT / path).stat().st_size > 1000


def test_make_explains_itself():
    shown = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("quick", "test", "laptop", "book", "pdf", "bench", "check", "clean"):
        assert re.search(rf"^  make {target} +\S", shown.stdout, re.M), target


def test_make_says_which_python_it_needs(tmp_path):
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    done = subprocess.run(["make", "-s", "quick", "PYTHON=no-such-python"], cwd=tmp_path,
                          capture_output=True, text=True)
    assert done.returncode == 2
    assert "Python 3.11 or 3.12 is needed" in done.stderr and "PYTHON=" in done.stderr
    assert not (tmp_path / ".venv" / ".complete").exists()


def test_nothing_is_typed_where_a_run_should_fill_it():
    text = (ROOT / "README.md").read_text("utf-8")
    assert not re.findall(r"@@[A-Z_]+@@", text), "README.md still has measured values to fill in"
