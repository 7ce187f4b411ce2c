"""Is everything that was generated up to date? Each check returns problems, one line each."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

from helpers import claims, notebooks
from helpers.costs import published
from helpers.project import UsageError, chapters, resolve

FOLDERS = {"notebooks": "laptop", "tests/notebooks": "quick"}
AUDITS = Path("results") / "audits.json"


def notebook_problems(root: Path, folder: str) -> list[str]:
    """Compare the executed notebooks in ``notebooks`` or ``tests/notebooks`` with the scripts."""
    profile, found = FOLDERS[folder], []
    for script_path in chapters(root):
        slug = script_path.stem
        script = notebooks.read_script(script_path)
        chosen = resolve(root, profile, slug, notebooks.parameters_of(script, slug))
        run = notebooks.run_of(root, script, slug, profile, chosen)
        path = root / folder / f"{slug}.ipynb"
        state = notebooks.state(notebooks.inject(script, profile, chosen), path, run)
        if state != "fresh":
            again = "" if folder == "notebooks" else f" --profile {profile} --out {folder}"
            found.append(f"{folder}/{slug}.ipynb is {state}: `python -m helpers run {slug[:2]}"
                         f"{again}` makes it anew")
    known = {path.stem for path in chapters(root)}
    found += [f"{folder}/{path.name} has no script notebooks/{path.stem}.py"
              for path in sorted((root / folder).glob("*.ipynb")) if path.stem not in known]
    return found


def claim_problems(root: Path) -> list[str]:
    """Compare the scoreboard and ``claims.json`` with the published notebooks."""
    paths = [path.with_suffix(".ipynb") for path in chapters(root)]
    try:
        return claims.stale(root, [path for path in paths if path.is_file()])
    except UsageError as error:
        return [str(error)]


def code_fingerprint(modules: list[str]) -> str:
    """Return the store's fingerprint of modules, as published records keep it."""
    from helpers.store import fingerprint

    return fingerprint(modules)


def record_problems(root: Path) -> list[str]:
    """Find published measurements whose code has changed since, unless an audit covers them.

    A record says which modules made it (``modules``) and what they looked like (``fingerprint``).
    When they look different now, either the stage's version is raised (and the cells recomputed)
    or an audit of one of its cells against the present code is recorded.
    """
    records, audits = list(published(root)), load_audits(root)
    if records and find_spec("numpy") is None:
        print("note: the code behind published measurements is not checked without numpy")
        return []
    changed, found, codes = Counter(), [], {}  # many records share their modules
    for key, record, folder in records:
        stage = record["stage"], record["version"]
        damage = _damage(folder)
        if damage:
            found.append(f"results/{key[:12]}: {damage}: restore it, for instance with `git "
                         "checkout results`")
        if "modules" not in record or "fingerprint" not in record:
            found.append(f"results/{key[:12]} ({stage[0]}) records no modules and fingerprint")
            continue
        modules = tuple(record["modules"])
        if modules not in codes:
            codes[modules] = code_fingerprint(list(modules))
        now = codes[modules]
        if now != record["fingerprint"] and {"stage": stage[0], "version": stage[1],
                                             "fingerprint": now} not in audits:
            changed[stage] += 1
    return found + [
        f"{count} published measurements of stage {name} (version {version}) were made by other "
        "code: raise the stage's version and run again, or run `python -m helpers audit "
        "--per-stage --record`" for (name, version), count in sorted(changed.items())]


def _damage(folder: Path) -> str:
    """What is wrong with an entry's files by its manifest; empty when nothing is."""
    try:
        files = json.loads((folder / "manifest.json").read_text("utf-8"))["files"]
        wrong = [name for name, sums in files.items() if
                 hashlib.sha256((folder / name).read_bytes()).hexdigest() != sums["sha256"]]
    except (OSError, ValueError, KeyError) as error:
        return f"its manifest or files cannot be read ({type(error).__name__}: {error})"
    return f"{', '.join(wrong)} differ from the manifest" if wrong else ""


def load_audits(root: Path) -> list[dict[str, object]]:
    """Read ``results/audits.json``: stage, version and fingerprint of every audit that passed."""
    path = root / AUDITS
    return json.loads(path.read_text("utf-8")) if path.is_file() else []


def problems(root: Path) -> list[str]:
    """Run every check that needs no built pages."""
    found = [line for folder in FOLDERS for line in notebook_problems(root, folder)]
    return found + claim_problems(root) + record_problems(root)


def page_problems(html: Path, browser: bool = True) -> list[str]:
    """Check the built pages with `helpers.pages`, in Chromium too where there is one."""
    from helpers.browser import check_browser
    from helpers.pages import check_html

    if not html.is_dir():
        return [f"no built pages in {html}: run `python -m helpers build` first"]
    return check_html(html) + (check_browser(html) if browser else [])
