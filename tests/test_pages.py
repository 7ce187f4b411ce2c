"""The checks of the built pages find what they are for; the book's own files are in order."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import pytest
import yaml

from helpers import browser, pages

ROOT = Path(__file__).resolve().parent.parent

GOOD = """<!DOCTYPE html><html lang="en"><head><title>T</title>
<link rel="canonical" href="https://elsewhere.example/page.html">
<link rel="stylesheet" href="s.css"><link rel="icon" href="dot.png"></head>
<body><main><article><h1 id="top-of-it">Noise</h1>
<p>A <a href="https://elsewhere.example/">link out</a>, <a href="b.html#there">one in</a>,
<a href="#top-of-it">one here</a>.</p><img src="dot.png" alt="One grey dot">
{more}</article></main></body></html>"""
OTHER = """<!DOCTYPE html><html lang="en"><head><title>B</title>
<link rel="icon" href="dot.png"></head><body><main>
<h1 id="there">There</h1></main></body></html>"""


def png() -> bytes:
    """A grey picture of one pixel."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(b"\x00\x80")) + chunk(b"IEND", b""))


def site(folder: Path, more: str = "", css: str = "body { color: #111; }") -> Path:
    (folder / "a.html").write_text(GOOD.replace("{more}", more), encoding="utf-8")
    (folder / "b.html").write_text(OTHER, encoding="utf-8")
    (folder / "s.css").write_text(css, encoding="utf-8")
    (folder / "dot.png").write_bytes(png())
    return folder


def test_good_pages_pass(tmp_path):
    assert pages.check_html(site(tmp_path)) == []


@pytest.mark.parametrize("more, words", [
    ('<a href="c.html">x</a>', "link to 'c.html', which is not there"),
    ('<a href="b.html#nowhere">x</a>', "no anchor 'nowhere'"),
    ('<a href="/b.html">x</a>', "absolute address"),
    ('<a href="file:///b.html">x</a>', "absolute address"),
    ('<img src="dot.png">', "no alternative text"),
    ('<img src="dot.png" alt=" ">', "no alternative text"),
    ('<img src="dot.png" alt="../_images/3f2a.png">', "a file name for an alternative text"),
    ('<img src="dot.png" alt="figure.svg">', "a file name for an alternative text"),
    ('<img src="gone.png" alt="A picture">', "which is not there"),
    ('<img src="//elsewhere.example/x.png" alt="A picture">', "from outside"),
    ('<script src="https://elsewhere.example/x.js"></script>', "from outside"),
    ('<img srcset="dot.png 1x, https://elsewhere.example/x.png 2x" alt="Two">', "from outside"),
    ('<iframe src="https://elsewhere.example/" title="x"></iframe>', "from outside"),
    ("<p>saved in /home/someone/book/x.npz</p>", "path of the machine"),
    ("<pre>File \"/usr/lib/site-packages/x.py\"</pre>", "path of the machine"),
    ('<div class="output traceback highlight">E</div>', "error output"),
    ("<pre>Traceback (most recent call last)</pre>", "error output"),
    ('<div class="output stderr highlight">W</div>', "stderr"),
])
def test_each_fault_is_found(tmp_path, more, words):
    found = pages.check_html(site(tmp_path, more))
    assert len(found) == 1 and found[0].startswith("a.html: ") and words in found[0], found


def test_links_out_and_decoration_are_allowed(tmp_path):
    more = ('<a href="mailto:a@b.example">m</a> <a href="https://arxiv.org/abs/2310.05264">p</a>'
            "<p>and/or, 1/2, https://elsewhere.example/home/index.html</p>"
            "<script>let inText = 'Traceback (most recent call last)';</script>")
    assert pages.check_html(site(tmp_path, more)) == []


def test_style_sheets_load_nothing_from_outside(tmp_path):
    (found,) = pages.check_html(site(tmp_path, css="@import url('https://fonts.example/f.css');"))
    assert found.startswith("s.css: ") and "from outside" in found


def test_no_pages_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="helpers build"):
        pages.check_html(tmp_path)


def test_without_a_browser_the_reason_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(browser, "find_browser", lambda: None)
    assert browser.check_browser(site(tmp_path)) == []
    assert "browser checks skipped: no Chromium" in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="no PDF: no Chromium"):
        browser.print_pdf(tmp_path, tmp_path / "x.pdf")
    assert not (tmp_path / "x.pdf").exists()


needs_browser = pytest.mark.skipif(browser.missing_browser() is not None,
                                   reason=str(browser.missing_browser()))


@needs_browser
def test_good_pages_pass_in_chromium(tmp_path):
    assert browser.check_browser(site(tmp_path)) == []


@needs_browser
def test_chromium_finds_each_fault(tmp_path):
    more = ("<script>console.error('oh'); undefinedThing();</script>"
            '<script src="https://elsewhere.example/x.js"></script>'
            '<p style="color:#999;background:#aaa">pale</p>'
            '<div style="width:2000px">wide</div><span class="math">x^2</span>'
            '<img src="s.css" alt="Not a picture">')
    found = browser.check_browser(site(tmp_path, more),
                                  (browser.View("light", 390, 800, "light", True),))
    text = "\n".join(found)
    for words in ("console: oh", "undefinedThing", "request failed", "axe color-contrast",
                  "px wider than the window", "1 of 1 formulas were not set", "did not load"):
        assert words in text, f"{words!r} missing in\n{text}"
    assert all(line.startswith("a.html [light]: ") for line in found)


@needs_browser
def test_pdf_is_printed(tmp_path):
    site(tmp_path)
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "index.html").write_text(
        OTHER.replace("</main>", "<details><summary>s</summary>in</details></main>"), "utf-8")
    out = browser.print_pdf(tmp_path, tmp_path / "made" / "x.pdf")
    assert out.read_bytes().startswith(b"%PDF-") and out.stat().st_size > 1000


def config() -> dict:
    return yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))


def test_config_keeps_what_was_learnt_the_hard_way():
    book = config()
    assert book["execute"]["execute_notebooks"] == "off"
    assert book["sphinx"]["recursive_update"] is True
    settings = book["sphinx"]["config"]
    assert settings["suppress_warnings"] == [] and settings["nitpicky"] is True
    assert (ROOT / "book" / "_static" / settings["mathjax_path"]).is_file()
    assert not any(settings["public_address"].startswith(x) for x in ("http://127", "http://local"))


def test_contents_name_pages_that_exist():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    files = [toc["root"], *(chapter["file"] for part in toc["parts"]
                            for chapter in part["chapters"])]
    for name in files:
        ends = (".ipynb",) if name.startswith("notebooks/") else (".md",)
        assert any((ROOT / f"{name}{end}").is_file() for end in ends), name
    prose = {path.stem for path in (ROOT / "book").glob("*.md")}
    assert prose <= {Path(name).name for name in files}, "a page of book/ is in no contents"


def test_citations_have_entries_and_entries_have_addresses():
    text = (ROOT / "book" / "references.bib").read_text("utf-8")
    keys = re.findall(r"^@\w+\{(\w+),", text, re.M)
    assert len(keys) == len(set(keys))
    for entry in re.split(r"^@", text, flags=re.M)[1:]:
        number = re.search(r"arXiv:(\d{4}\.\d{5})", entry)
        assert number is None or f"abs/{number.group(1)}" in entry, entry[:60]
        assert "url " in entry, entry[:60]
    sources = [*(ROOT / "book").glob("*.md"), *(ROOT / "notebooks").glob("[0-9]*.py")]
    for path in sources:
        for group in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", path.read_text("utf-8")):
            for key in group.split(","):
                assert key.strip() in keys, f"{path.name} cites {key.strip()!r}"


def test_claims_are_listed_once():
    parts = yaml.safe_load((ROOT / "book" / "claims.yml").read_text("utf-8"))["parts"]
    ids = [claim["id"] for part in parts for claim in part["claims"]]
    assert len(ids) == len(set(ids))
    assert {f"C{i}" for i in range(1, 19)} | {f"DI-C{i}" for i in range(1, 9)} <= set(ids)
    for part in parts:
        for claim in part["claims"]:
            assert re.fullmatch(r"\d\d_\w+", claim["chapter"]) and claim["text"].endswith(".")


def test_numbers_in_prose_come_from_records_that_exist():
    import json

    wanted: dict[str, set[str]] = {}
    for path in (ROOT / "book").glob("*.md"):
        for slug, key in re.findall(r"/notebooks/(\w+)\.ipynb::(\w+)", path.read_text("utf-8")):
            wanted.setdefault(slug, set()).add(key)
    for slug, keys in wanted.items():
        path = ROOT / "notebooks" / f"{slug}.ipynb"
        assert path.is_file(), f"the prose glues numbers of {slug}, which is not executed"
        have = {output["metadata"]["scrapbook"]["name"]
                for cell in json.loads(path.read_text("utf-8"))["cells"]
                for output in cell.get("outputs", ())
                if "scrapbook" in output.get("metadata", {})}
        assert keys <= have, f"{slug} records no {', '.join(sorted(keys - have))}"


def test_recall_table_is_the_measured_one():
    from helpers import recall

    shown = (ROOT / "book" / "_generated" / "recall_table.md").read_text("utf-8")
    assert shown.strip() == recall.table(recall.read()).strip(), \
        "book/_generated/recall_table.md does not match data/descriptor_recall.json"
