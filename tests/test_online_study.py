"""The study of the online methods: its arms can be trained, its tables claim what the runs show."""

import pytest
import torch

pytest.importorskip("lightning_fabric", reason="needs the extra kdops[train]")

from kdops.recipes.schema import make_method
from kdops.results.compare import Entry
from kdops.results.entries import read_entries, write_entries
from kdops.studies import online
from kdops.studies.study import recipe_of
from kdops.training.nets import layers_of, make_net

SETTING = {"data": "mnist5k", "labels": 300, "augment": True, "missing": None}


def entry(name, tests, churns=None, student="student", peers=2):
    results = [{"seed": i, "seconds": 2.0, "test": test} for i, test in enumerate(tests)]
    for result, churn in zip(results, churns or (), strict=False):
        ensemble = {"val": 0.0, "test": result["test"] + 1}
        scores = [result["test"]] * peers
        result["peers"] = {"test": scores, "ensemble": ensemble, "churn": churn}
    return Entry(name, {**SETTING, "student": student}, results)


def entries() -> dict[str, Entry]:
    """Of a study in which DML gains 2 points every time, and nothing else does."""
    found = {"labels": entry("labels", [90.0, 91.0, 92.0])}
    for name in online.ARMS:
        student = "resnet" if name.startswith("resnet") else "student"
        found[name] = entry(name, [90.1, 90.9, 92.0], [9.0, 8.0, 7.0], student)
    found["online-dml"] = entry("online-dml", [92.0, 93.1, 94.0], [5.0, 5.0, 5.0])
    found["online-okddip"] = entry("online-okddip", [88.0, 88.9, 90.0], [5.0, 5.0, 5.0], peers=4)
    found["resnet-labels"] = entry("resnet-labels", [90.0, 91.0, 92.0], student="resnet")
    found["shards-codistillation"] = entry("shards", [90.2, 90.8, 92.1], [5.0, 4.1, 3.0])
    return found


@pytest.mark.parametrize("name", online.ARMS)
def test_an_arm_can_be_trained(name):
    arm = online.ARMS[name]
    phase = recipe_of(arm).phases[-1]
    method = make_method(phase.method, phase.options)
    if phase.method != "Labels":
        kind = arm.setting.get("student", "student")
        layers = layers_of(make_net(kind, 10, 1), method.layers, {})
        group = method.assemble(lambda i: make_net(kind, 10, 1), layers)
        shape = (group.count, 3) if group.own_images or group.own_rows else (3,)
        assert len(group.eval()(torch.rand(*shape, 1, 28, 28)).logits) >= group.count


def test_tables():
    text = "".join(online.sections(entries()))
    assert "| dml | 2 | 93.03 ± 1.00 | +2.03 ± 0.06 | 3/3 | 0.003 | better | 94.03 ± 1.00" in text
    assert "| okddip | 4 | 88.97 ± 1.00 | -2.03 ± 0.06 | 0/3 | 0.003 | worse | 89.97" in text
    assert "| labels | 1 | 91.00 ± 1.00 |  |  |  |  |  |  | 2.0 |" in text
    assert "better: dml; " in text and "worse: okddip." in text
    assert text.count("not distinguishable: ") == 2  # a note a table, the second's alone
    assert "Churn: +3.97 ± 0.06 points less, Holm p = 0.000: better." in text
    assert "Test: +0.03 ± 0.12 points, Holm p = 0.667: not distinguishable." in text


def test_the_control_is_no_comparison():
    """Two nets that learn nothing from each other are shown, and corrected for in no table."""
    found = entries()
    peers = {"labels": found["labels"], "dml": found["online-dml"]}
    few = online.peers_table("Peers", peers)
    more = online.peers_table("Peers", {**peers, "alone": found["online-alone"]})
    assert few.rows[1] == more.rows[1] and more.rows[2][3:7] == [""] * 4


def test_without_these_arms_there_are_no_tables():
    found = entries()
    del found["shards-alone"]
    assert online.sections(found) == []


def test_other_students_are_not_compared():
    found = entries()
    with pytest.raises(ValueError, match="student is 'resnet' and 'student'"):
        online.peers_table("Peers", {"labels": found["labels"], "dml": found["resnet-dml"]})


def test_the_record_keeps_what_tables_need(tmp_path):
    found = entries()
    write_entries(tmp_path / "r.json", found, {})
    assert online.sections(read_entries(tmp_path / "r.json")) == online.sections(found)
