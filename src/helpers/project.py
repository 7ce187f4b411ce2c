"""Where things are: the root, the chapters, their parameters and the profiles.

Only the standard library and PyYAML; no chapter is executed here.
"""

from __future__ import annotations

import ast
import difflib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROFILES = ("quick", "laptop", "paper")
MARK = ".made-by-same-noise"  # in folders that the program may empty


class UsageError(Exception):
    """Something the person at the keyboard can put right: one line, exit status 2."""


def find_root(start: Path | None = None) -> Path | None:
    """Walk up from `start` (default: the working directory) to the folder of the book.

    Returns
    -------
    Path or None
        The first folder that holds ``notebooks/profiles.yml``; None outside the book.
    """
    here = (start or Path.cwd()).resolve()
    return next((folder for folder in (here, *here.parents)
                 if (folder / "notebooks" / "profiles.yml").is_file()), None)


def need_root() -> Path:
    """Return `find_root`, or raise UsageError with what to do."""
    root = find_root()
    if root is None:
        raise UsageError("no notebooks/profiles.yml in this folder or above it: "
                         "change to the folder of the book first")
    return root


def default_store(root: Path | None) -> Path:
    """Return the store's folder: ``_store`` in the book, else the user's cache."""
    if root is not None:
        return root / "_store"
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "same-noise" / "store"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that takes the place of `path`, whole, if the block ends well."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def own_folder(path: Path) -> Path:
    """Make `path` anew, an empty folder that only this program writes to.

    Raises
    ------
    UsageError
        If something is there that this program did not make; it stays as it is.
    """
    mark = path / MARK
    if path.exists() and not mark.is_file() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"{path} holds files that this program did not make, and it would have to "
                         "empty that folder: choose another --out, or move it away")
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    mark.touch()
    return path


def chapters(root: Path) -> list[Path]:
    """Return the chapters' scripts, ``notebooks/NN_slug.py``, in order."""
    return sorted((root / "notebooks").glob("[0-9][0-9]_*.py"))


def pick(root: Path, names: list[str]) -> list[Path]:
    """Find chapters by number or slug; all of them when `names` is empty.

    Raises
    ------
    UsageError
        For a name that is no chapter, listing those there are.
    """
    known = {path.stem: path for path in chapters(root)}
    if not known:
        raise UsageError("there is no chapter in notebooks/ (expected NN_slug.py)")
    chosen: dict[str, Path] = {}
    for name in names or list(known):
        stem = Path(name).stem if name.endswith((".py", ".ipynb")) else name
        number = f"{int(stem):02d}" if re.fullmatch(r"\d{1,2}", stem) else None
        found = [slug for slug in known if slug == stem or slug.split("_")[0] == number]
        if not found:
            raise UsageError(f"unknown chapter {name!r}; the chapters are {', '.join(known)}")
        chosen[found[0]] = known[found[0]]
    return [chosen[slug] for slug in sorted(chosen)]


def read_profiles(root: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Read ``notebooks/profiles.yml``: profile -> chapter (or "all") -> parameter -> value."""
    import yaml

    where = "notebooks/profiles.yml"
    try:
        loaded = yaml.safe_load((root / where).read_text("utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error
    known = {"all", *(path.stem for path in chapters(root))}
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, part in _mapping(loaded, where).items():
        found[name] = {}
        for slug, values in _mapping(part, f"{where}, {name}").items():
            if slug not in known:
                raise UsageError(f"{where}, {name}: there is no chapter {slug!r}; known: "
                                 f"{', '.join(sorted(known))}")
            found[name][slug] = _mapping(values, f"{where}, {name}, {slug}")
    return found


def _mapping(part: Any, where: str) -> dict[str, Any]:
    if part is not None and not isinstance(part, dict):
        raise UsageError(f"{where}: needed are lines `name: value`, got {part!r}")
    return dict(part or {})


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: its name, annotation and default."""

    name: str
    annotation: str
    default: Any


def parse_parameters(source: str) -> dict[str, Parameter]:
    """Read a parameters cell, ``name: type = literal  # help`` one to a statement.

    Raises
    ------
    UsageError
        If a default is no literal or a statement is no annotated assignment.
    """
    found, lines = {}, source.splitlines()
    try:
        body = ast.parse(source).body
    except SyntaxError as error:
        raise UsageError(f"parameters cell, line {error.lineno}: {error.msg}") from error
    for node in body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if not isinstance(node, ast.AnnAssign) or node.value is None:
            raise UsageError(f"parameters cell, line {node.lineno}: only `name: type = value` "
                             f"belongs there, not {lines[node.lineno - 1].strip()!r}")
        name = ast.unparse(node.target)
        try:
            default = ast.literal_eval(node.value)
        except ValueError as error:
            raise UsageError(f"parameters cell: the default of {name!r} must be a plain "
                             "literal") from error
        found[name] = Parameter(name, ast.unparse(node.annotation), default)
    return found


def _kind(value: Any) -> str:
    """Name a value's type the way an annotation would: int, float, list[int], ..."""
    if isinstance(value, (list, tuple)) and value:
        return f"{type(value).__name__}[{' | '.join(sorted({_kind(item) for item in value}))}]"
    return "None" if value is None else type(value).__name__


def _fits(value: Any, node: ast.expr) -> bool:
    """Whether a value matches an annotation's syntax tree (an int may stand for a float)."""
    if isinstance(node, ast.BinOp):
        return _fits(value, node.left) or _fits(value, node.right)
    if isinstance(node, ast.Subscript):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        inside = value.values() if isinstance(value, dict) else value
        return _fits(value, node.value) and all(
            _fits(item, inner[isinstance(value, dict)]) for item in inside)
    kinds = {"int": int, "float": (int, float), "str": str, "bool": bool, "list": list,
             "tuple": (list, tuple), "dict": dict, "None": type(None)}
    name = ast.unparse(node)
    return isinstance(value, kinds.get(name, object)) and not (
        isinstance(value, bool) and name in ("int", "float"))


def check_value(parameter: Parameter, value: Any, origin: str = "") -> Any:
    """Return `value` if it has the parameter's type (an int becomes a float where one is due).

    Raises
    ------
    UsageError
        Naming the parameter, the type it wants and the value it got.
    """
    wanted = parameter.annotation
    if not _fits(value, ast.parse(wanted, mode="eval").body):
        raise UsageError(f"{origin}parameter {parameter.name!r} wants {wanted} "
                         f"(default {parameter.default!r}), got {_kind(value)}: {value!r}")
    if wanted == "float":
        return float(value)
    return tuple(value) if wanted.startswith("tuple") else value


def parse_value(parameter: Parameter, text: str) -> Any:
    """Read a value typed at the command line as the parameter's type; texts are taken as is."""
    wanted = parameter.annotation
    if wanted == "str" or (wanted.startswith("str |") and text != "None"):
        return text
    if "bool" in wanted and text.lower() in ("true", "false", "yes", "no"):
        return text.lower() in ("true", "yes")
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    return check_value(parameter, value, "-p: ")


def unknown_parameter(name: str, known: Iterable[str], where: str) -> UsageError:
    """Build the error for a misspelt parameter, with the nearest names."""
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(sorted(known))}"
    return UsageError(f"unknown parameter {name!r} for {where}; {hint}")


def resolve(root: Path, profile: str, slug: str, known: dict[str, Parameter],
            overrides: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the parameters that differ from the script for one chapter, checked.

    Parameters
    ----------
    root, profile, slug
        Folder of the book, profile and chapter.
    known : dict
        The chapter's parameters (`parse_parameters`).
    overrides : dict, optional
        Name -> text from the command line; names the chapter lacks are skipped, because the
        caller has checked that one of the chosen chapters has them.

    Raises
    ------
    UsageError
        For an unknown profile, an unknown parameter in the profile, or a wrong type.
    """
    profiles = read_profiles(root)
    names = dict.fromkeys([*PROFILES, *profiles])
    if profile not in names:
        raise UsageError(f"unknown profile {profile!r}; the profiles are {', '.join(names)}")
    part, chosen = profiles.get(profile, {}), {}
    for name, value in {**part.get("all", {}), **part.get(slug, {})}.items():
        if name in known:
            chosen[name] = check_value(known[name], value, "notebooks/profiles.yml: ")
        elif name in part.get(slug, {}):
            raise unknown_parameter(name, known, f"{slug} in notebooks/profiles.yml")
    for name, text in (overrides or {}).items():
        if name in known:
            chosen[name] = parse_value(known[name], text)
    return chosen
