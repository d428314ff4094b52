"""Pages beside those of docs, the order of all, and links that lead out of docs."""

import posixpath
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mkdocs.structure.files import File, Files

from benchmarks import numerics

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "examples/README.md": "examples.md",
}
SOURCES = {uri: source for source, uri in PAGES.items()}
OUTSIDE = "repository"  # where a file that a page links to lies on the site
LINK = re.compile(r"(\]\()([^)\s#]+)(?=[)#])")
PICTURE = re.compile(r"<!-- picture: (\S+) (.+?) -->", re.DOTALL)


def on_config(config):
    named = set(_named(config.nav))
    config.nav = _expanded(config.nav, named)
    return config


def _named(items: list) -> Iterator[str]:
    for item in items:
        value = next(iter(item.values())) if isinstance(item, dict) else item
        yield from _named(value) if isinstance(value, list) else [value]


def _expanded(items: list, named: set[str]) -> list:
    """A pattern replaced by its pages; a section without a page is left out."""
    found = []
    for item in items:
        if isinstance(item, str):
            found += _pages(item, named) if "*" in item else [item]
            continue
        [(title, value)] = item.items()
        if isinstance(value, list) or "*" in value:
            value = _expanded(value if isinstance(value, list) else [value], named)
        found += [{title: value}] if value else []
    return found


def _pages(pattern: str, named: set[str]) -> list[str]:
    pages = sorted(DOCS.glob(pattern), key=lambda page: (page.name != "README.md", page.name))
    return [uri for page in pages if (uri := page.relative_to(DOCS).as_posix()) not in named]


def on_files(files: Files, config) -> Files:
    for source, uri in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, uri, content=text))
    for path in sorted({path for page in files.documentation_pages() for path in _outside(page)}):
        uri = site_uri(path)
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    with tempfile.TemporaryDirectory() as folder:
        for path in numerics.draw(numerics.measured(), Path(folder)):
            uri = f"pictures/{path.name}"
            files.append(File.generated(config, uri, content=path.read_bytes()))
    return files


def _folder(uri: str) -> Path:
    """Where the text of a page lies, from which its links lead."""
    return (ROOT / SOURCES[uri] if uri in SOURCES else DOCS / uri).parent


def _linked(folder: Path, target: str) -> Path | None:
    """The file of the repository that a link leads to."""
    path = (folder / target).resolve()
    return path if path.is_file() and path.is_relative_to(ROOT) else None


def _outside(page: File) -> Iterator[Path]:
    for _, target in LINK.findall(page.content_string):
        path = _linked(_folder(page.src_uri), target)
        if (
            path
            and not path.is_relative_to(DOCS)
            and path.relative_to(ROOT).as_posix() not in PAGES
        ):
            yield path


def site_uri(path: Path) -> str:
    """Of a file of the repository."""
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    inside = path.relative_to(ROOT).as_posix()
    return PAGES.get(inside, f"{OUTSIDE}/{inside}")


def on_page_markdown(markdown: str, page, **_) -> str:
    """Pictures that are drawn for the site, and links as they are there."""
    uri = page.file.src_uri

    def link(found: re.Match) -> str:
        path = _linked(_folder(uri), found[2])
        if path is None:
            return found[0]
        return found[1] + posixpath.relpath(site_uri(path), posixpath.dirname(uri) or ".")

    markdown = LINK.sub(link, markdown)
    return PICTURE.sub(lambda found: f"![{' '.join(found[2].split())}]({found[1]})", markdown)
