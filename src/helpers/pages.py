"""Checks of the built pages that need only the standard library: what a strict build lets through.

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
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from helpers.browser import check_browser, missing_browser, print_pdf

__all__ = ["Page", "check_browser", "check_html", "missing_browser", "parse", "print_pdf"]

# Elements whose address the browser loads by itself, and the attribute that holds it.
LOADED = {"script": ("src",), "img": ("src", "srcset"), "iframe": ("src",), "source": ("src",
          "srcset"), "video": ("src", "poster"), "audio": ("src",), "embed": ("src",),
          "object": ("data",), "link": ("href",)}
NOT_LOADED_RELATIONS = {"canonical", "alternate", "author", "license", "me", "next", "prev",
                        "search", "index"}
MACHINE_PATH = re.compile(
    r"(?<![\w.:/%=-])/(?:home|root|tmp|work|workspace|Users|mnt|private|opt)/[\w.]+|"
    r"\b[A-Z]:\\\\?Users\\|site-packages/")
FILE_NAME = re.compile(r"^\S*\.(?:png|svg|jpe?g|gif|webp|ipynb)$|^\S*/\S*$", re.IGNORECASE)
CSS_ADDRESS = re.compile(r"(?:@import\s+|url\()\s*[\"']?((?:https?:)?//[^\"')\s]+)")
TRACEBACK = "Traceback (most recent call last)"


@dataclass
class Page:
    """What one built page holds, as `parse` found it; addresses are as written."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    images: list[tuple[str, str | None, bool]] = field(default_factory=list)
    outputs: set[str] = field(default_factory=set)
    text: list[str] = field(default_factory=list)


class _Reader(HTMLParser):
    """Fill a `Page`; the article is what the author wrote, the rest is the theme's."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page, self.article, self.silent = Page(), 0, 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        have = {name: value or "" for name, value in attrs}
        present = {name for name, _ in attrs}
        self.article += tag == "article"
        self.silent += tag in ("script", "style")
        for name in ("id", "name") if tag == "a" else ("id",):
            if have.get(name):
                self.page.ids.add(have[name])
        if tag == "a" and "href" in present:
            self.page.links.append(have["href"])
        relations = set(have.get("rel", "").lower().split())
        if not (tag == "link" and relations & NOT_LOADED_RELATIONS):
            for name in LOADED.get(tag, ()):
                if have.get(name):
                    self.page.loads += [part.split()[0] for part in (
                        have[name].split(",") if name == "srcset" else [have[name]]) if part]
        if tag == "img":
            alt = have["alt"] if "alt" in present else None
            self.page.images.append((have.get("src", ""), alt, self.article > 0))
        classes = set(have.get("class", "").split())
        if "output" in classes or "cell_output" in classes:
            self.page.outputs |= classes & {"traceback", "stderr", "error"}

    def handle_endtag(self, tag: str) -> None:
        self.article -= tag == "article" and self.article > 0
        self.silent -= tag in ("script", "style") and self.silent > 0

    def handle_data(self, data: str) -> None:
        if not self.silent:
            self.page.text.append(data)


def parse(html: str) -> Page:
    """Read one page's HTML.

    Parameters
    ----------
    html : str

    Returns
    -------
    Page
    """
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.page


def _external(address: str) -> bool:
    return bool(re.match(r"(?:https?:|ftp:|wss?:)?//", address))


def _target(folder: Path, page: Path, address: str) -> tuple[Path, str] | None:
    """Return (file, fragment) of a local address; None for one that leaves the book."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return None
    path = unquote(parts.path)
    if not path:
        return page, unquote(parts.fragment)
    start = folder / path.lstrip("/") if path.startswith("/") else page.parent / path
    file = start.resolve()
    return (file / "index.html" if file.is_dir() else file), unquote(parts.fragment)


def _link_problems(folder: Path, path: Path, pages: dict[Path, Page]) -> list[str]:
    page, found = pages[path], []
    for address in dict.fromkeys(page.links + page.loads):
        if address.startswith(("mailto:", "javascript:", "data:", "#!")):
            continue
        if urlsplit(address).scheme == "file" or re.match(r"/(?!/)", address):
            found.append(f"absolute address {address!r}: write it relative to the page")
            continue
        target = _target(folder, path, address)
        if target is None:
            continue
        file, fragment = target
        if not file.exists():
            found.append(f"link to {address!r}, which is not there")
        elif fragment and file in pages and fragment not in pages[file].ids:
            if fragment != "top":
                found.append(f"link to {address!r}: the page has no anchor {fragment!r}")
    return found


def _content_problems(page: Page, html: str) -> list[str]:
    found = []
    for address in dict.fromkeys(page.loads):
        if _external(address):
            found.append(f"loads {address!r} from outside: vendor it under book/_static")
    for source, alt, authored in page.images:
        name = source.rsplit("/", 1)[-1][:60]
        if alt is None or (authored and not alt.strip()):
            found.append(f"image {name!r} has no alternative text")
        elif FILE_NAME.match(alt.strip()):
            found.append(f"image {name!r} has a file name for an alternative text: {alt!r}")
    for match in sorted(set(MACHINE_PATH.findall(html))):
        found.append(f"shows a path of the machine that made it: {match!r}")
    if page.outputs & {"traceback", "error"} or TRACEBACK in "".join(page.text):
        found.append("shows an error output: run the chapter again")
    if "stderr" in page.outputs:
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
    pages = {path: parse(text) for path, text in texts.items()}
    found = []
    for path in files:
        name = path.relative_to(folder).as_posix()
        lines = _content_problems(pages[path], texts[path])
        lines += _link_problems(folder, path, pages)
        found += [f"{name}: {line}" for line in lines]
    for sheet in sorted(folder.rglob("*.css")):
        for address in sorted(set(CSS_ADDRESS.findall(sheet.read_text("utf-8", "replace")))):
            found.append(f"{sheet.relative_to(folder).as_posix()}: loads {address!r} from outside")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m helpers.pages pdf``: build the book as one page and print it."""
    from helpers import book, project

    parser = argparse.ArgumentParser(prog="python -m helpers.pages")
    parser.add_argument("what", choices=("pdf",))
    parser.add_argument("--out", type=Path, default=Path("_build/same-noise.pdf"))
    args = parser.parse_args(argv)
    reason = missing_browser()
    if reason:
        print(f"helpers: no PDF: {reason}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        try:
            book.build(project.need_root(), Path(scratch),
                       ("--builder", "custom", "--custom-builder", "singlehtml"))
        except (project.UsageError, RuntimeError) as error:
            print(f"helpers: {error}", file=sys.stderr)
            return 2
        print(print_pdf(Path(scratch) / "_build" / "singlehtml", args.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
