"""Checks of the built pages: what a strict build lets through.

Sphinx does not look into raw HTML, at alternative texts, or at outputs stored in notebooks, and it
cannot know what a page will ask the network for. `check_html` does; `check_browser` (in
`helpers.browser`) opens the same pages in Chromium.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup

from helpers import book, project
from helpers.browser import missing_browser, print_pdf

# Elements whose addresses the browser loads by itself, and relations of a link that it does not.
LOADED = ("script", "img", "iframe", "source", "video", "audio", "embed", "object", "link")
NOT_LOADED = {"canonical", "alternate", "author", "license", "me", "next", "prev", "search",
              "index"}
MACHINE_PATH = re.compile(
    r"(?<![\w.:/%=-])/(?:home|root|tmp|work|workspace|Users|mnt|private|opt)/[\w.]+|"
    r"\b[A-Z]:\\\\?Users\\|site-packages/")
FILE_NAME = re.compile(r"^\S*\.(?:png|svg|jpe?g|gif|webp|ipynb)$|^\S*/\S*$", re.IGNORECASE)
CSS_ADDRESS = re.compile(r"(?:@import\s+|url\()\s*[\"']?((?:https?:)?//[^\"')\s]+)")
OUTSIDE = re.compile(r"(?:https?:|ftp:|wss?:)?//")
TRACEBACK = "Traceback (most recent call last)"


def _loads(page: BeautifulSoup) -> list[str]:
    """Addresses that the browser loads by itself."""
    found = []
    for element in page.find_all(LOADED):
        if element.name == "link" and NOT_LOADED & set(element.get("rel", ())):
            continue
        found += [element[name] for name in ("src", "poster", "data", "href") if element.get(name)]
        found += [part.split()[0] for part in element.get("srcset", "").split(",") if part.strip()]
    return list(dict.fromkeys(found))


def _anchors(page: BeautifulSoup) -> set[str]:
    named = {element["name"] for element in page.find_all("a", attrs={"name": True})}
    return {"top", *named, *(element["id"] for element in page.find_all(id=True))}


def _link_problems(path: Path, page: BeautifulSoup, anchors: dict[Path, set[str]]) -> list[str]:
    found, links = [], [element["href"] for element in page.find_all("a", href=True)]
    for address in dict.fromkeys(links + _loads(page)):
        parts = urlsplit(address)
        if parts.scheme == "file" or re.match(r"/(?!/)", address):
            found.append(f"absolute address {address!r}: write it relative to the page")
        elif not (parts.scheme or parts.netloc or address.startswith("#!")):
            file, fragment = (path.parent / unquote(parts.path)).resolve(), unquote(parts.fragment)
            if not parts.path:
                file = path
            elif file.is_dir():
                file = file / "index.html"
            if not file.exists():
                found.append(f"link to {address!r}, which is not there")
            elif fragment and fragment not in anchors.get(file, {fragment}):
                found.append(f"link to {address!r}: the page has no anchor {fragment!r}")
    return found


def _content_problems(page: BeautifulSoup, html: str) -> list[str]:
    found = [f"loads {address!r} from outside: vendor it under book/_static"
             for address in _loads(page) if OUTSIDE.match(address)]
    for image in page.find_all("img"):
        name, alt = image.get("src", "").rsplit("/", 1)[-1][:60], image.get("alt")
        if alt is None or (image.find_parent("article") and not alt.strip()):
            found.append(f"image {name!r} has no alternative text")
        elif FILE_NAME.match(alt.strip()):
            found.append(f"image {name!r} has a file name for an alternative text: {alt!r}")
    for match in sorted(set(MACHINE_PATH.findall(html))):
        found.append(f"shows a path of the machine that made it: {match!r}")
    if page.select(":is(.output, .cell_output):is(.traceback, .error)") or (
            TRACEBACK in page.get_text()):
        found.append("shows an error output: run the chapter again")
    if page.select(":is(.output, .cell_output).stderr"):
        found.append("shows what a cell wrote to stderr: silence the warning or the bar")
    return found


def check_html(folder: Path) -> list[str]:
    """Check built pages without a browser.

    Links and anchors exist; every image has an alternative text that is not a file name; no path of
    a machine, no error or stderr output; nothing is loaded from outside (plain links may leave).

    Parameters
    ----------
    folder : Path
        Folder of the built HTML, such as ``_build/html``.

    Returns
    -------
    list of str
        One line a finding, ``page: what``; empty when all is well.

    Raises
    ------
    FileNotFoundError
        If the folder holds no pages.
    """
    folder = Path(folder).resolve()
    files = [path for path in sorted(folder.rglob("*.html"))
             if not {"_static", "_sources"} & set(path.relative_to(folder).parts)]
    if not files:
        raise FileNotFoundError(f"no built pages in {folder.name}: run `python -m helpers build`")
    texts = {path: path.read_text("utf-8") for path in files}
    pages = {path: BeautifulSoup(text, "html.parser") for path, text in texts.items()}
    anchors = {path: _anchors(page) for path, page in pages.items()}
    found = []
    for path, page in pages.items():
        lines = _content_problems(page, texts[path]) + _link_problems(path, page, anchors)
        found += [f"{path.relative_to(folder).as_posix()}: {line}" for line in lines]
    for sheet in sorted(folder.rglob("*.css")):
        for address in sorted(set(CSS_ADDRESS.findall(sheet.read_text("utf-8", "replace")))):
            found.append(f"{sheet.relative_to(folder).as_posix()}: loads {address!r} from outside")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m helpers.pages pdf``: build the book as one page and print it."""
    parser = argparse.ArgumentParser(prog="python -m helpers.pages")
    parser.add_argument("what", choices=("pdf",))
    parser.add_argument("--out", type=Path, default=Path("_build/same-noise.pdf"))
    args = parser.parse_args(argv)
    try:
        if missing_browser():
            raise RuntimeError(f"no PDF: {missing_browser()}")
        with tempfile.TemporaryDirectory() as scratch:
            book.build(project.need_root(), Path(scratch),
                       ("--builder", "custom", "--custom-builder", "singlehtml"))
            print(print_pdf(Path(scratch) / "_build" / "singlehtml", args.out))
    except (project.UsageError, RuntimeError) as error:
        print(f"helpers: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
