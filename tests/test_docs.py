"""The pages of docs: their examples run, their links, recipes, options and defaults are there."""

import ast
import inspect
import itertools
import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from kdops import methods

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="not a source tree")
METHODS = sorted((ROOT / "docs" / "methods").glob("*.md"))
MIGRATION = sorted((ROOT / "docs" / "migrate").glob("*.md"))
OTHERS = [ROOT / name for name in ("README.md", "docs/training.md", "docs/peers.md")]
PAGES = [*OTHERS, *MIGRATION, *METHODS]
EXTRA = {"specialists": "sklearn", "training": "lightning_fabric"}  # what a page's examples need
CLASSES = 6


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def examples(page: Path) -> list[str]:
    """The Python blocks that are meant to run: those that import kdops."""
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [block for block in blocks if re.search(r"^(import|from) kdops", block, re.MULTILINE)]


class Stages(nn.Module):
    """A small net with the layers of torchvision's ResNets."""

    def __init__(self, width: int):
        super().__init__()
        sizes = [3, width, 2 * width, 2 * width, 4 * width]
        for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes), 1):
            convolution = nn.Conv2d(inputs, outputs, 3, stride=1 + (number < 3), padding=1)
            stage = nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())
            setattr(self, f"layer{number}", stage)
        self.fc = nn.Linear(4 * width, CLASSES)

    def forward(self, images):
        x = self.layer4(self.layer3(self.layer2(self.layer1(images))))
        return self.fc(x.mean((2, 3)))


def preamble() -> dict:
    """What the pages say is given."""
    torch.manual_seed(0)
    student, images = Stages(2), torch.randn(24, 3, 8, 8)
    labels = torch.arange(24) % CLASSES
    return {
        "student": student,
        "teacher": Stages(4),
        "auxiliary": Stages(4),
        "generalist": Stages(4),
        "images": images,
        "labels": labels,
        "loader": DataLoader(TensorDataset(images, labels), batch_size=12),
        "optimizer": torch.optim.Adam(student.parameters(), 1e-3),
        "epochs": 2,
        "make_net": lambda i: Stages(2) if i else student,
        "__name__": "example",
    }


@pytest.mark.filterwarnings("ignore:kdops runs")
@pytest.mark.parametrize("page", [page for page in PAGES if examples(page)], ids=name_of)
def test_examples_run(page, monkeypatch, tmp_path):
    """One after the other, as one script; where they train, weights move and stay finite."""
    if page.stem in EXTRA:
        pytest.importorskip(EXTRA[page.stem], reason="needs the extra kdops[train]")
    monkeypatch.chdir(tmp_path)
    given = preamble()
    before = [weight.detach().clone() for weight in given["student"].parameters()]
    asked = [weight.detach().clone() for weight in given["teacher"].parameters()]
    for block in examples(page):
        exec(compile(block, name_of(page), "exec"), given)
    if "loss" in given:
        assert given["loss"].isfinite()
    after = [weight.detach() for weight in given["student"].parameters()]
    assert all(weight.isfinite().all() for weight in after)
    if page in METHODS and page.stem != "specialists":
        assert not all(map(torch.equal, before, after))
    assert all(
        map(torch.equal, asked, (weight.detach() for weight in given["teacher"].parameters()))
    )


def test_every_method_has_an_example():
    assert [page.stem for page in METHODS if not examples(page)] == ["README"]
    listed = re.findall(
        r"^\| \[.*?\]\(([\w-]+)\.md\)", (METHODS[0].parent / "README.md").read_text(), re.M
    )
    assert sorted(listed) == sorted(page.stem for page in METHODS if page.stem != "README")


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", sorted({*PAGES, *(ROOT / "docs").glob("*.md")}), ids=name_of)
def test_links_resolve(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def tables(text: str):
    """(header, rows) of each table, cells as text."""
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines()]
        yield lines[0], lines[2:]


def literal(cell: str):
    """(The value that a cell of a table says,); None for words."""
    try:
        return (ast.literal_eval(cell),)
    except (SyntaxError, ValueError):
        return None


def names_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def options_by_column(header: list[str]):
    """Of the columns that name a method or a recipe in backticks: its options with defaults."""
    for number, cell in enumerate(header):
        for name in names_in(cell):
            yield number, (defaults(name) if class_of(name) else recipe_options(name))


def class_of(name: str) -> type | None:
    """A method with or without a teacher."""
    for room in (methods, methods.online):
        if name in room.__all__:
            return getattr(room, name)
    return None


def defaults(method: str) -> dict:
    found = {}
    for cls in class_of(method).__mro__[::-1]:
        if "__init__" in vars(cls) and issubclass(cls, methods.Method):
            parameters = inspect.signature(cls.__init__).parameters
            found |= {name: parameter.default for name, parameter in parameters.items()}
    return found


def recipe_options(name: str) -> dict:
    reading = pytest.importorskip("kdops.recipes.reading", reason="needs the extra kdops[train]")
    phases = reading.read(name).phases
    phase = next((x for x in phases if x.method == "FSP"), phases[-1])
    return defaults(phase.method) | phase.options


@pytest.mark.parametrize("page", METHODS, ids=name_of)
def test_defaults(page):
    """The numbers of a page's table are the method's, and the shipped recipes'."""
    section = page.read_text().partition("## Defaults\n")[2].partition("\n## ")[0]
    checked = 0
    for header, rows in tables(section):
        for number, options in options_by_column(header):
            for row in rows:
                names, said = names_in(row[0]), literal(row[number])
                if said and names and all(name in options for name in names):
                    values = tuple(options[name] for name in names)
                    assert said[0] == (values if len(names) > 1 else values[0]), (header, row)
                    checked += 1
    assert checked or page.stem in ("README", "specialists")


def test_recipes():
    """Every shipped recipe is in the index, and every named one is shipped."""
    reading = pytest.importorskip("kdops.recipes.reading", reason="needs the extra kdops[train]")
    index = (METHODS[0].parent / "README.md").read_text()
    for name in reading.names():
        assert f"`{name}`" in index, name
    for page in PAGES:
        named = set(re.findall(r"--recipe ([\w-]+)", page.read_text()))
        for header, rows in tables(page.read_text()):
            if "recipes" in header:
                column = header.index("recipes")
                named |= {name for row in rows for name in names_in(row[column])}
        assert named <= set(reading.names()), name_of(page)


def test_recipe_of_the_page():
    reading = pytest.importorskip("kdops.recipes.reading", reason="needs the extra kdops[train]")
    [text] = re.findall(r"^```yaml\n(.*?)^```$", training(), re.MULTILINE | re.DOTALL)
    assert [phase.method for phase in reading.parse(text).phases] == ["Hint", "RKD"]


def test_keys_of_recipes():
    """Each key with its default."""
    schema = pytest.importorskip("kdops.recipes.schema", reason="needs the extra kdops[train]")
    found = [rows for header, rows in tables(training()) if header[:2] == ["key", "default"]]
    models = (schema.Recipe, schema.Phase, schema.Sampler, schema.Specialists)
    for model, rows in zip(models, found, strict=True):
        said = {name: row[1] for row in rows for name in names_in(row[0])}
        assert set(said) == set(model.model_fields), model
        for name, field in model.model_fields.items():
            assert said[name] == ("required" if field.is_required() else str_of(field.default)), (
                name
            )


def str_of(value) -> str:
    return f"{value:g}" if isinstance(value, float) and value >= 1e-4 else repr(value)


def training() -> str:
    return (ROOT / "docs" / "training.md").read_text()


def test_options_of_the_command():
    command = pytest.importorskip("kdops.training.command", reason="needs the extra kdops[train]")
    [rows] = [rows for header, rows in tables(training()) if header[0] == "option"]
    said = {name for row in rows for name in names_in(row[0])}
    assert said | {"--help", "-h"} == set(command.parser()._option_string_actions)


def test_error_messages_are_the_sources():
    sources = (ROOT / "kdops").rglob("*.py")
    text = "\n".join(source.read_text() for source in sources)
    text = re.sub(r'"\s*\n\s*f?"', "", text)  # literals over several lines
    [rows] = [rows for header, rows in tables(training()) if header[0] == "message"]
    for row in rows:
        for part in names_in(row[0])[0].split("…"):
            assert part.strip(" .") in text.replace('\\"', '"'), row[0]
