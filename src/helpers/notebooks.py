"""Scripts and notebooks: read a chapter, hash what its numbers depend on, clean, compare.

A chapter's script is the only source. Its notebook is that script, executed and then cleaned until
nothing is left in it that differs between two runs on one machine. The notebook remembers a hash of
everything its outputs depend on, so a stale one can be told from a fresh one without running it.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import json
from pathlib import Path
from typing import Any

from helpers.project import Parameter, UsageError, parse_parameters, replacing
from helpers.syntax import syntax
from helpers.verdicts import KEPT

PACKAGE = Path(__file__).resolve().parent
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def read_script(path: Path):
    """Read a percent script as a notebook without outputs (`nbformat.NotebookNode`)."""
    import jupytext

    return jupytext.read(path, fmt="py:percent")


def parameters_of(notebook, name: str) -> dict[str, Parameter]:
    """Return the parameters of a chapter read by `read_script`.

    Raises
    ------
    UsageError
        If there is not exactly one cell tagged ``parameters``.
    """
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise UsageError(f"{name}: a chapter has exactly one cell tagged 'parameters', "
                         f"this one has {len(cells)}")
    return parse_parameters(cells[0].source)


def _imports(source: str) -> set[str]:
    """Names of the modules of this package that a source text imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            relative = "helpers" if getattr(node, "level", 0) else None
            base = [part for part in (relative, getattr(node, "module", None)) if part]
            names = [".".join([*base, alias.name]) for alias in node.names]
            found |= {name.split(".")[1] for name in names if name.startswith("helpers.")}
    return {name for name in found if (PACKAGE / f"{name}.py").is_file()}


def modules_used(sources: list[str]) -> list[str]:
    """Return the modules of this package that source texts import, directly or through others."""
    waiting, done = list(sources), set()
    while waiting:
        for name in _imports(waiting.pop()) - done:
            done.add(name)
            waiting.append((PACKAGE / f"{name}.py").read_text("utf-8"))
    return sorted(done)


def source_hash(root: Path, notebook, parameters: dict[str, Any]) -> str:
    """Hash everything a chapter's outputs depend on.

    That is its code cells, the syntax trees of the modules it uses, the parameters and the lock
    file; prose, comments in modules and docstrings are left out.
    """
    import jupytext

    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    lock = root / "requirements.lock"
    pins = [line for line in (lock.read_text("utf-8").splitlines() if lock.is_file() else [])
            if line.strip() and not line.lstrip().startswith("#")]
    used = {name: syntax((PACKAGE / f"{name}.py").read_text("utf-8"))
            for name in modules_used([jupytext.writes(notebook, "py:percent")])}
    return _sha({"code": code, "helpers": used, "parameters": parameters, "lock": pins})


def _sha(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def run_of(root: Path, notebook, name: str, profile: str, chosen: dict[str, Any]) -> dict[str, Any]:
    """Return a run's metadata: profile, all parameters, source hash."""
    defaults = {key: item.default for key, item in parameters_of(notebook, name).items()}
    everything = json.loads(json.dumps({**defaults, **chosen}))
    return {"profile": profile, "parameters": everything,
            "source_hash": source_hash(root, notebook, everything)}


def inject(notebook, profile: str, chosen: dict[str, Any]):
    """Return a copy with the chosen parameters in a cell of their own, below the defaults."""
    import nbformat

    notebook = copy.deepcopy(notebook)
    if chosen:
        lines = [f"# Parameters of this run (profile {profile})"]
        lines += [f"{name} = {value!r}" for name, value in chosen.items()]
        at = next(i for i, cell in enumerate(notebook.cells)
                  if "parameters" in cell.metadata.get("tags", []))
        new = nbformat.v4.new_code_cell("\n".join(lines))
        new.metadata["tags"] = ["injected-parameters"]
        notebook.cells.insert(at + 1, new)
    return notebook


def clean(notebook, run: dict[str, Any]):
    """Strip what differs from run to run and add the run's metadata; changes `notebook`."""
    notebook.metadata = {"kernelspec": dict(KERNEL), "language_info": {"name": "python"},
                         "run": run}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for index, cell in enumerate(notebook.cells):
        cell.id = f"{index:03d}-{hashlib.sha1(cell.source.encode()).hexdigest()[:8]}"
        cell.metadata.pop("lines_to_next_cell", None)
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
    return notebook


def _joined(outputs: list) -> list:
    """Join neighbouring pieces of one stream: how they were cut depends on timing."""
    joined: list = []
    for output in outputs:
        last = joined[-1] if joined else None
        if (last is not None and output.output_type == last.output_type == "stream"
                and output.name == last.name):
            last.text += output.text
        else:
            joined.append(output)
    return joined


def write(notebook, path: Path) -> None:
    """Write a notebook through a temporary file beside it: it appears whole or not at all."""
    import nbformat

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_text(nbformat.writes(notebook) + "\n", "utf-8")


def read(path: Path):
    """Read an executed notebook.

    Raises
    ------
    UsageError
        If the file is no notebook.
    """
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except (ValueError, TypeError, AttributeError, KeyError,
            nbformat.ValidationError) as error:
        raise UsageError(f"{path.name} is not a readable notebook ({' '.join(str(error).split())}):"
                         " remove it and run the chapter again") from error


def kept(notebook) -> list[dict[str, Any]]:
    """Return what a chapter left in the metadata of its outputs (`helpers.verdicts.KEPT`)."""
    return [output.get("metadata", {}).get(KEPT, {})
            for cell in notebook.cells for output in cell.get("outputs", ())]


def refreshed(prepared, executed, run: dict[str, Any]):
    """Return the script's present prose and captions with the executed notebook's outputs.

    Parameters
    ----------
    prepared
        The script, with injected parameters.
    executed
        The notebook that was run; its code cells have the same sources in the same order.
    """
    result = copy.deepcopy(prepared)
    done = iter([cell for cell in executed.cells if cell.cell_type == "code"])
    for cell in result.cells:
        if cell.cell_type == "code":
            source = next(done)
            cell.outputs, cell.execution_count = source.outputs, source.execution_count
    return clean(result, run)


def state(prepared, path: Path, run: dict[str, Any]) -> str:
    """Compare a chapter with its executed notebook.

    Returns
    -------
    str
        "missing", "stale" (code, parameters, package or pins changed, or a cell has no result),
        "prose" (only text or captions changed) or "fresh".
    """
    if not path.is_file():
        return "missing"
    try:
        executed = read(path)
    except UsageError:
        return "stale"
    code = [[cell.source for cell in book.cells if cell.cell_type == "code"]
            for book in (prepared, executed)]
    if dict(executed.metadata.get("run", {})) != run or code[0] != code[1]:
        return "stale"
    if any(cell.get("execution_count") is None for cell in executed.cells
           if cell.cell_type == "code" and cell.source.strip()):
        return "stale"
    import nbformat

    wanted = nbformat.writes(refreshed(prepared, executed, run)) + "\n"
    return "fresh" if wanted == path.read_text("utf-8") else "prose"
