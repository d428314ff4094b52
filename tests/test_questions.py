"""docs/questions.md: its headings, its marks, its words, and the study behind it."""

import json
import re
from pathlib import Path

import pytest
import torch

pytest.importorskip("lightning_fabric", reason="needs the extra kdops[train]")

from kdops.recipes.schema import make_method
from kdops.results.compare import Entry
from kdops.results.entries import read_entries, write_entries
from kdops.studies import command, forks, gates, questions, tuning
from kdops.studies.page import Experiment, Page
from kdops.studies.study import Arm, recipe_of

from .cases import generator

DOCS = Path(__file__).parents[1] / "docs"
HEADINGS = """\
# Questions
## Distilling the Knowledge in a Neural Network (Hinton, Vinyals, Dean, 2015)
### Review: soft targets regularise, by the information hidden in the low scores
## FitNets: Hints for Thin Deep Nets (Romero et al., 2015)
### Review
#### Is it not a waste to use what hint and guide have learned for initialisation alone?
#### Why not merge this loss into KD's and train all at once?
#### Could it be applied to hints and guides at several layers?
#### Initialisation matters much in deeper nets, the experiments show: is it that they are so \
non-convex and nonlinear, with local minima that are hard to fathom?
## Knowledge Distillation via Instance Relationship Graph (Liu et al., 2019)
### Problem
#### What exactly does "moderate" mean?
#### IRG looks like a general idea: is it used anywhere else?
#### IRG uses L2 distances throughout: could it be softmax and cross-entropy?
#### Is the loss taken of logits, or of soft targets?
#### Teacher and student have different dimensions, and section 3.2 takes distances between them \
at the logits only: has L_IRG of middle layers distance matrices alone?
#### What is one-to-many?
#### Is it, for distance matrices, the sum of one matrix's differences from several?
#### How are middle layers chosen?
#### Does one-to-many say nothing of how the guiding layers are chosen?
### Review: distance matrices work, and so does their change between layers
## Relational Knowledge Distillation (Park et al., 2019)
### Problem
#### Distances of teacher and student differ in scale with the dimension: how can they match, and \
would normalising help?
#### In what is an angle of higher order than a distance?
#### Order is the number of samples that take part: why is that higher order?
#### Can the losses of angles and of distances be combined?
#### What does section 3.2.4 mean, what are individual outputs?
#### How are middle layers chosen, as for IRG: it seems that the experiments have none?
## Correlation Congruence for Knowledge Distillation (Peng et al., 2019)
### Minibatches are mostly of different classes, says the paper, hence an intra-class bias: why do \
the two papers before not mention it?
### Does that mean that the problem is not serious?
### The Gaussian RBF's Taylor expansion: how does it get rid of the lengths of x and y?
## Heterogeneous Knowledge Distillation using Information Flow Modeling (Passalis, Tzelepi, Tefas, \
2020)
### Problem
#### Are teacher and auxiliary teacher not wired at random just the same?
#### Is the student not even worse off then?
#### Is it that the auxiliary teacher is fat enough not to be too bad?
## Knowledge Distillation by On-the-Fly Native Ensemble (Lan, Zhu, Gong, 2018)
### How does the gate of the ensemble work: "one FC layer followed by batch normalisation, ReLU \
activation, and softmax, and uses the same input features as the branches"?
## Collaborative Learning for Deep Neural Networks (Song, Chai, 2018)
### Gradient variance control
#### Why not simply multiply the learning rate by H, to go faster?
#### What would be wrong with it?
## One theme: DML, codistillation, Collaborative Learning, ONE
### Are these the first papers in which several students learn from each other?
### The same medicine with another label: what differs beside tree or nets, the loss, and the \
scale at the fork?
"""
GROUPS = ("### Problem", "### Review", "### Gradient variance control")
MEASURED = {
    name: json.loads((DOCS / "results" / "questions.json").read_text())[name]
    for name in questions.MEASURED
}


def entry(name, tests, **setting):
    setting = {
        "data": "mnist5k",
        "labels": None,
        "student": "student",
        "augment": True,
        "missing": None,
    } | setting
    results = [
        {"seed": seed, "test": test, "val": 90.0, "steps": 600, "seconds": 1.0, "phases": []}
        for seed, test in enumerate(tests)
    ]
    return Entry(name, setting, results)


def every_entry():
    g = generator()
    return {
        name: entry(name, (90 + torch.rand(3, generator=g)).tolist(), **arm.setting)
        for name, arm in questions.ARMS.items()
    }


def headings(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("#")]


def test_headings_are_the_notes_questions_in_order():
    text = questions.the_page(MEASURED).text(every_entry())
    assert headings(text) == HEADINGS.splitlines()
    assert sum(line.endswith("?") for line in headings(text)) == 29 + 1  # and "moderate"
    parts = re.split(r"^#+ .*$", text, flags=re.MULTILINE)[1:]
    for heading, answer in zip(headings(text), parts, strict=True):
        grouping = heading.startswith("## ") or heading in GROUPS
        assert bool(answer.strip()) != grouping, heading


def test_every_experiment_is_shown_and_every_arm_is_in_one():
    template = questions.the_page(MEASURED).template
    for name in questions.EXPERIMENTS:
        assert template.count(f"{{{{experiment {name}}}}}") == 1, name
    used = {arm for e in questions.EXPERIMENTS.values() for pair in e.pairs for arm in pair}
    assert used == set(questions.ARMS)
    pairs = [(name, pair) for name, e in questions.EXPERIMENTS.items() for pair in e.pairs]
    text = " ".join(template.split())
    said = [(n, p) for n, p in pairs if f"{{{{gain {n}: {p[0]} / {p[1]}}}}}" in text]
    assert len(said) >= len(questions.EXPERIMENTS)


def test_arms_are_recipes():
    for name, arm in questions.ARMS.items():
        for phase in recipe_of(arm).phases:
            make_method(phase.method, phase.options), name
    sampled = recipe_of(questions.ARMS["cckd-classes"]).phases[-1]
    assert (sampled.sampler.groups, sampled.sampler.per_group) == ("classes", 16)
    assert sampled.options == recipe_of(Arm("cckd")).phases[-1].options
    assert recipe_of(questions.ARMS["hkd-narrow"]).nets == {"auxiliary": "student"}
    assert recipe_of(questions.ARMS["kd-long"]).phases[-1].steps == 800
    assert recipe_of(questions.ARMS["edges"]).phases[-1].options["edge_weight"] == 1
    for name in tuning.QUESTIONS:
        option = tuning.QUESTIONS[name][0]
        assert f"{name} {option}=" in " ".join(tuning.arms())


def test_the_words_are_the_verdicts():
    pairs = (("up", "base"), ("down", "base"), ("noise", "base"))
    page = Page(
        "page",
        "{{seeds}} {{labels}} {{data}}\n{{gain x: up / base}}\n{{gain x:\ndown / base}}\n"
        "{{gain x: noise / base}}\n{{experiment x}}",
        {"x": Experiment("Title", pairs)},
    )
    found = {
        "base": entry("base", [90.0, 91.0, 89.0]),
        "up": entry("up", [92.0, 93.1, 91.0]),
        "down": entry("down", [88.0, 89.0, 87.1]),
        "noise": entry("noise", [95.0, 90.0, 89.5]),
    }
    lines = page.text(found).splitlines()
    assert lines[:4] == [
        "3 seeds 300 mnist5k",
        "+2.03 ± 0.06 points, better",
        "-1.97 ± 0.06 points, worse",
        "+1.50 ± 3.12 points, not distinguishable",
    ]
    assert lines[-1] == "![Title](pictures/page-x.svg)"
    table = [line for line in lines if line.startswith("| `")]
    assert [line.split(" | ")[-1].strip(" |") for line in table] == [
        "better",
        "worse",
        "not distinguishable",
    ]
    gains = page.experiments["x"].gains(found).values()
    smallest = min(gain.p for gain in gains)
    assert min(gain.p_holm for gain in gains) == pytest.approx(3 * smallest)  # Holm's, of a table


@pytest.mark.parametrize("mark", ["gain x: up / other", "experiment y", "gain", "nothing"])
def test_a_mark_that_is_none(mark):
    page = Page("page", f"{{{{{mark}}}}}", {"x": Experiment("Title", (("up", "base"),))})
    found = {"up": entry("up", [90.0, 92.0]), "base": entry("base", [90.0, 91.0])}
    with pytest.raises(ValueError, match="mark"):
        page.text(found)


def test_arms_of_other_protocols_are_not_compared():
    found = {"a": entry("a", [90.0, 91.0]), "b": entry("b", [90.0, 91.0], labels=75)}
    with pytest.raises(ValueError, match="labels"):
        Experiment("Title", (("a", "b"),)).gains(found)


def test_entries_in_a_file(tmp_path):
    first, second = entry("a", [90.05, 100 / 3]), entry("b", [91.0, 92.0], labels=75)
    first.results[0]["teacher"] = {"test": 200 / 3, "saw": 2500}
    path = tmp_path / "results" / "x.json"
    write_entries(path, {"a": first, "b": second}, {"torch": "2"})
    found = read_entries(path)
    assert found["a"].setting == first.setting and found["b"].setting == second.setting
    assert found["a"].test == [90.05, 33.3333] and found["a"].seeds == [0, 1]
    assert found["a"].results[0]["teacher"] == {"test": 66.6667, "saw": 2500}
    assert "phases" not in found["a"].results[0]
    assert json.loads(path.read_text())["environment"] == {"torch": "2"}
    for text in ("{", "[]", '{"arms": {"a": {}}}'):
        path.write_text(text)
        with pytest.raises(ValueError, match="no results of a study"):
            read_entries(path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:kdops runs")
def test_quick_study(tmp_path, monkeypatch, capsys):
    """From training to a page, and the same page from the file alone."""
    names = {"labels", "edges", "soft-edges", "hkd-direct"}
    template = "{{seeds}} {{data}} {{gain x: edges / labels}}\n{{experiment x}}\n"
    pairs = (("edges", "labels"), ("soft-edges", "labels"), ("hkd-direct", "labels"))
    monkeypatch.setattr(questions, "ARMS", {x: questions.ARMS[x] for x in names})
    template += "{{measured gates}}\n{{measured training}}\n"

    def the_page(measured):
        tables = {"gates": gates.table(measured["gates"])}
        tables["training"] = forks.training_table(measured["forks"])
        return Page("questions", template, {"x": Experiment("Title", pairs)}, tables)

    monkeypatch.setattr(questions, "the_page", the_page)
    monkeypatch.setattr(forks, "PROBES", 5)
    out, docs, again = tmp_path / "out", tmp_path / "docs", tmp_path / "again"
    arguments = ["questions", "--quick", "--out", str(out), "--docs", str(docs)]
    assert command.main(arguments) == 0
    text = (docs / "questions.md").read_text()
    assert text.startswith("1 seed digits ") and "one seed, no test" in text
    assert "<svg" in (docs / "pictures" / "questions-x.svg").read_text()
    kept = docs / "results" / "questions.json"
    assert kept.read_text() == (out / "questions.json").read_text()
    assert command.main(["questions", "--from-json", str(kept), "--docs", str(again)]) == 0
    assert (again / "questions.md").read_text() == text
    assert set(json.loads(kept.read_text())["arms"]) == names
    assert "| Adam, rescaled forks |" in text and "| even rows, % |" in text
    found = json.loads((out / "forks.json").read_text())["found"]
    assert found["sum / H, rate * H"]["distance"] == [0.0]
    variances = {name: found[name]["stem variance"][0] for name in ("sum", "rescaled forks")}
    assert variances["rescaled forks"] == pytest.approx(variances["sum"] / 16)


def test_wrong_arguments(tmp_path, capsys):
    with pytest.raises(SystemExit):
        command.main(["tuning", "--docs", str(tmp_path)])
    with pytest.raises(SystemExit):
        command.main(["questions", "--seeds", "0"])
    missing = str(tmp_path / "no.json")
    assert command.main(["questions", "--from-json", missing, "--docs", str(tmp_path)]) == 2
    assert "holds no results of a study" in " ".join(capsys.readouterr().out.split())


@pytest.mark.skipif(not DOCS.exists(), reason="not a source tree")
def test_the_page_is_what_its_results_say():
    page, entries = questions.the_page(MEASURED), read_entries(DOCS / "results" / "questions.json")
    assert (DOCS / "questions.md").read_text(encoding="utf-8") == page.text(entries)
    for name in page.experiments:
        assert "<svg" in (DOCS / page.picture(name)).read_text(encoding="utf-8")
