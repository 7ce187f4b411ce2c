"""The built pages in Chromium: as a reader sees them, in light, in dark and on a phone.

Pages are read from their folder and nothing else can be reached, so a page that needs the network
fails here. Where playwright or a browser is missing, the checks say so and find nothing.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from helpers.project import find_root

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]
AXE = Path("tests") / "_static" / "axe.min.js"
BASE = "https://book.invalid/"
PATIENCE_MS = 120_000  # a busy machine is no fault of the page
# docutils gives the bibliography list roles that its entries contradict: known, upstream.
KNOWN_EXEMPTION = "div.citation-list"


class View(NamedTuple):
    """One way of looking at the pages."""

    name: str
    width: int
    height: int
    scheme: str
    axe: bool


VIEWS = (View("light", 1280, 900, "light", True), View("dark", 1280, 900, "dark", True),
         View("390 px", 390, 844, "light", False))

# What a page says of itself once its equations are set.
LOOK = """async () => {
  const deadline = Date.now() + 60000;
  const formulas = [...document.querySelectorAll('.math')].filter(m => m.textContent.trim());
  const open = () => formulas.filter(m => !m.querySelector('mjx-container'));
  if (window.MathJax && MathJax.startup && MathJax.startup.promise) await MathJax.startup.promise;
  while (open().length && Date.now() < deadline) await new Promise(r => setTimeout(r, 50));
  await document.fonts.ready;
  const images = [...document.images];
  while (images.some(i => !i.complete) && Date.now() < deadline)
    await new Promise(r => setTimeout(r, 50));
  const root = document.documentElement;
  const wide = [...document.querySelectorAll('body *')].filter(e => {
    const box = e.getBoundingClientRect();
    if (box.width === 0 || box.right <= innerWidth + 1) return false;
    const clips = p => ['auto', 'scroll', 'hidden', 'clip'].includes(getComputedStyle(p).overflowX);
    for (let p = e.parentElement; p && p !== document.body; p = p.parentElement)
      if (clips(p)) return false;
    return getComputedStyle(e).position !== 'fixed' && getComputedStyle(e).visibility !== 'hidden';
  });
  return {
    formulas: formulas.length,
    unset: open().length,
    bad: document.querySelectorAll('mjx-merror, [data-mjx-error], mjx-container .merror').length,
    broken: images.filter(i => i.naturalWidth === 0).map(i => i.getAttribute('src').slice(-60)),
    overflow: Math.max(root.scrollWidth, document.body.scrollWidth) - innerWidth,
    widest: wide.slice(0, 2).map(e => e.tagName.toLowerCase() + '.' + e.className),
    theme: root.dataset.theme || '',
  };
}"""
RUN_AXE = """async (exempt) => {
  const context = document.querySelector(exempt) ? {exclude: [[exempt]]} : document;
  const options = {runOnly: {type: 'tag', values: ['wcag2a', 'wcag2aa']}};
  const result = await axe.run(context, options);
  return result.violations.map(v => ({id: v.id, help: v.help, count: v.nodes.length,
    where: v.nodes[0].target.join(' '), why: v.nodes[0].failureSummary.split('\\n')[1] || ''}));
}"""


def find_browser() -> str | None:
    """Return the path of a Chromium on this machine, or None."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def missing_browser() -> str | None:
    """Return why pages cannot be opened in a browser here; None when they can."""
    if find_spec("playwright") is None:
        return "the package playwright is not installed (pip install -r requirements.lock)"
    if find_browser() is None:
        return f"no Chromium was found (looked for {', '.join(BROWSERS)})"
    return None


def _open(browser, folder: Path, **options):
    """Open a page that reads the files of a folder at `BASE` and reaches nothing else."""
    def answer(route) -> None:
        parts = urlsplit(route.request.url)
        file = folder / unquote(parts.path).lstrip("/")
        if parts.scheme in ("data", "blob"):
            route.continue_()
        elif parts.netloc != urlsplit(BASE).netloc:
            route.abort()
        elif file.is_file():
            route.fulfill(path=file)
        else:
            route.fulfill(status=404)

    page = browser.new_page(**options)
    page.route("**/*", answer)
    return page


def _files(folder: Path) -> list[str]:
    """The pages to open: all but those that only send the reader on to another."""
    return [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.html"))
            if not {"_static", "_sources"} & set(path.relative_to(folder).parts)
            and 'http-equiv="refresh"' not in path.read_text("utf-8")[:500].lower()]


def _listen(page, heard: list[str]) -> None:
    """Note console errors, script errors and failed or outgoing requests of a page."""
    page.on("console", lambda m: heard.append(f"console: {m.text}") if m.type == "error" else None)
    page.on("pageerror", lambda error: heard.append(f"script error: {error}"))
    # ERR_ABORTED is the browser's own: a request that the next page made needless.
    page.on("requestfailed", lambda r: heard.append(f"request failed: {r.url} ({r.failure})")
            if "ERR_ABORTED" not in (r.failure or "") else None)
    page.on("response", lambda r: heard.append(f"{r.status} for {r.url}")
            if r.status >= 400 else None)


def _look(page, view: View, axe: str | None) -> list[str]:
    """Findings on an opened page."""
    seen, found = page.evaluate(LOOK), []
    if seen["unset"]:
        found.append(f"{seen['unset']} of {seen['formulas']} formulas were not set")
    if seen["bad"]:
        found.append(f"{seen['bad']} formulas hold an error")
    found += [f"image {source!r} did not load" for source in seen["broken"]]
    if seen["overflow"] > 1:
        found.append(f"{seen['overflow']} px wider than the window ({', '.join(seen['widest'])})")
    if seen["theme"] and seen["theme"] != view.scheme:
        found.append(f"theme is {seen['theme']!r} though the reader prefers {view.scheme!r}")
    if axe and view.axe:
        page.add_script_tag(content=axe)
        found += [f"axe {v['id']}: {v['help']} ({v['count']} x, first {v['where']}; "
                  f"{v['why'].strip()})" for v in page.evaluate(RUN_AXE, KNOWN_EXEMPTION)]
    return found


def check_browser(folder: Path, views: tuple[View, ...] = VIEWS) -> list[str]:
    """Open built pages in Chromium and report what a reader would stumble over.

    In each view: no console error, no failed or outgoing request, every formula set without an
    error, every image loaded, nothing wider than the window; in light and dark no violation of
    WCAG 2 A and AA that axe-core can find, docutils' citation list excepted. The search must find
    a word.

    Parameters
    ----------
    folder : Path
        Folder of the built HTML.
    views : tuple of View
        How to look.

    Returns
    -------
    list of str
        One line a finding, ``page [view]: what``. Empty, after a printed reason, where there is no
        browser.
    """
    reason = missing_browser()
    if reason:
        print(f"browser checks skipped: {reason}")
        return []
    folder = Path(folder).resolve()
    root = find_root(folder) or find_root()
    script = (root / AXE).read_text("utf-8") if root and (root / AXE).is_file() else None
    if script is None:
        print("axe-core skipped: tests/_static/axe.min.js was not found")
    from playwright.sync_api import sync_playwright

    found: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=find_browser(), args=FLAGS)
        for view in views:
            page, heard = _open(browser, folder, color_scheme=view.scheme, reduced_motion="reduce",
                                viewport={"width": view.width, "height": view.height}), []
            page.set_default_timeout(PATIENCE_MS)
            _listen(page, heard)
            for name in _files(folder):
                heard.clear()
                page.goto(BASE + name, wait_until="load")
                lines = _look(page, view, script)
                found += [f"{name} [{view.name}]: {line}"
                          for line in dict.fromkeys([*heard, *lines])]
            if view is views[0] and (folder / "search.html").is_file():
                page.goto(BASE + "search.html?q=noise", wait_until="load")
                try:  # a word that every book on diffusion holds
                    page.wait_for_selector("#search-results li a", timeout=10_000)
                except Exception:
                    found.append("search.html: a search for 'noise' finds nothing")
            page.close()
    return found


def print_pdf(folder: Path, out: Path) -> Path:
    """Print a book that was built as one page (Sphinx's ``singlehtml``) to a PDF.

    Parameters
    ----------
    folder : Path
        Folder of the built page. Its root page may lie in a subfolder: the addresses inside are
        written from the top, so a copy at the top is what gets printed.
    out : Path
        PDF to write; its folder is made.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    RuntimeError
        If there is no browser; the message says what is missing.
    """
    reason = missing_browser()
    if reason:
        raise RuntimeError(f"no PDF: {reason}")
    folder, out = Path(folder).resolve(), Path(out)
    inner = folder / "book" / "index.html"
    if inner.is_file():
        shutil.copyfile(inner, folder / "index.html")
    out.parent.mkdir(parents=True, exist_ok=True)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=find_browser(), args=FLAGS)
        page = _open(browser, folder, color_scheme="light")
        page.set_default_timeout(5 * PATIENCE_MS)
        page.goto(BASE + "index.html", wait_until="load")
        page.add_style_tag(content="details, details * { animation: none !important; "
                                   "transition: none !important; } figure, table, pre "
                                   "{ break-inside: avoid; }")
        page.evaluate("() => document.querySelectorAll('details').forEach(d => { d.open = true; })")
        page.evaluate(LOOK)
        page.emulate_media(media="print")
        page.pdf(path=str(out), format="A4", print_background=True, outline=True, tagged=True,
                 margin={"top": "18mm", "bottom": "18mm", "left": "16mm", "right": "16mm"})
    return out
