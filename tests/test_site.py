"""The documentation site, built once with warnings as errors: what is on it, where it leads."""

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

import kdops

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="not a source tree")
for package in ("material", "mkdocstrings_handlers", "matplotlib"):
    pytest.importorskip(package, reason="needs the extra kdops[docs]")
from website import docstrings, hooks  # noqa: E402

ROOMS = {
    "functional": kdops.functional,
    "nn": kdops.nn,
    "methods": kdops.methods,
    "methods.specialists": kdops.methods.specialists,
    "methods.online": kdops.methods.online,
    "peers": kdops.peers,
    "peers.exchange": kdops.peers.exchange,
}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def html_of(page: Path) -> str:
    uri = page.relative_to(DOCS).with_suffix(".html").as_posix()
    return uri.replace("README.html", "index.html")


def targets(text: str) -> set[str]:
    """What a page links to and shows."""
    return {unquote(x) for x in re.findall(r'(?:href|src)="([^"#?]+)', text)}


def test_every_page_is_in_the_navigation(site):
    front = (site / "index.html").read_text()
    pages = sorted(DOCS.rglob("*.md"))
    assert len(pages) > 30
    for page in pages:
        assert (site / html_of(page)).is_file()
        assert html_of(page) in targets(front), page


def test_every_link_leads_somewhere(site):
    """Pictures and files of the repository too, on a site that is read from a folder."""
    for page in site.rglob("*.html"):
        for target in targets(page.read_text()):
            if not target.startswith(("https://", "mailto:", "data:")) and page.name != "404.html":
                assert (page.parent / target).resolve().exists(), (page, target)


def test_nothing_is_fetched(site):
    """No script, style, font or picture of another host."""
    for page in (*site.rglob("*.html"), *site.rglob("*.css")):
        text = page.read_text()
        assert not re.search(r'src="(?:https?:)?//|url\(["\']?(?:https?:)?//|@import', text), page
        loaded = [link for link in re.findall(r"<link [^>]+>", text) if "canonical" not in link]
        assert not [link for link in loaded if "//" in link], page


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_has_its_reference(site, room):
    pages = "".join(page.read_text() for page in (site / "reference").glob("*.html"))
    names = [x for x in ROOMS[room].__all__ if f"{room}.{x}" not in {*ROOMS}]
    missing = [name for name in names if f'id="kdops.{room}.{name}"' not in pages]
    assert not missing


def test_no_formula_is_taken_for_html(site):
    """As <x_i, x_j> outside backticks is."""
    for page in site.rglob("*.html"):
        assert not re.search(r"<\w+[_,]", page.read_text()), page


def test_sections_of_docstrings(site):
    """Each public function's, parsed; no heading is left in the text as it was written."""
    text = (site / "reference" / "functional.html").read_text()
    for kind in ("gradient", "source"):
        assert text.count(f'<details class="{kind}"') == len(kdops.functional.__all__)
    assert text.count("ValueError</span>") >= len(kdops.functional.__all__)
    assert not re.search(r">\s*(Args|Returns|Raises|Gradient|Source):\s", re.sub("<b>", "", text))


def test_pictures(site):
    gallery = (site / "gallery.html").read_text()
    drawn = {f"pictures/numerics-{story}.svg" for story in ("kl", "angle", "distance")}
    committed = {f"pictures/{path.name}" for path in (DOCS / "pictures").glob("*.svg")}
    speed = {
        f"repository/benchmarks/results/{x.name}" for x in ROOT.glob("benchmarks/results/*.svg")
    }
    assert drawn | committed | speed <= targets(gallery)
    assert drawn <= targets((site / "numerics.html").read_text())


def test_a_section_without_pages_is_left_out():
    named = {"index.md", "methods/README.md"}
    nav = [{"kdops": "index.md"}, {"Nothing": "nothing/*.md"}, {"Methods": ["methods/*.md"]}]
    front, methods = hooks._expanded(nav, named)
    assert front == {"kdops": "index.md"}
    assert "methods/kd.md" in methods["Methods"] and "methods/README.md" not in methods["Methods"]


def test_adapted_docstring():
    text = (
        "What.\n\nRaises:\n    TypeError: for this\n        and that. ValueError: for those.\n"
        "Source: A paper,\n    2020.\n\n>>> f(1)\n1\n"
    )
    assert docstrings.adapted(text) == (
        "What.\n\nRaises:\n    TypeError: for this and that.\n    ValueError: for those.\n\n"
        "Source:\n    A paper,\n    2020.\n\n```pycon\n>>> f(1)\n1\n```\n"
    )
