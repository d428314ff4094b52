"""Recipes: those that ship, what is read of a file, and the message for each mistake."""

import inspect

import pytest
import torch

pytest.importorskip("yaml", reason="needs the extra kdops[train]")
pytest.importorskip("pydantic", reason="needs the extra kdops[train]")

from kdops import Tapped, Teacher, methods
from kdops.recipes import reading, schema
from kdops.schedules import CriticalPeriod, LinearDecay
from kdops.training.nets import layers_of, make_net

HEAD = "title: a\nsource: b\nabout: c\n"
BASE = HEAD + "phases:\n  - method: AT\n"  # five lines


def text_of(error) -> str:
    return str(error.value)


def test_names():
    names = reading.names()
    assert names == sorted(names) and {"kd", "fitnets", "rkd", "irg", "cckd", "hkd"} <= set(names)


@pytest.mark.parametrize("name", reading.names())
def test_a_recipe_that_ships(name):
    """It reads, and each phase's method learns from the nets that it is trained on."""
    recipe = reading.read(name)
    nets = {"student": "student", "teacher": "teacher", **recipe.nets}
    images, labels = torch.rand(6, 1, 16, 16), torch.arange(6)
    for phase in recipe.phases:
        method = schema.make_method(phase.method, phase.options)
        assert type(method) is schema.METHODS[phase.method]
        if isinstance(method, methods.online.Online):
            assert_peers_learn(method, images, labels)
            continue
        ours, theirs = (x and make_net(nets[x], 10, 1) for x in (phase.net, phase.teacher))
        student = Tapped(ours, layers_of(ours, method.layers, {}))(images)
        answers = theirs and Teacher(theirs.eval(), layers_of(theirs, method.layers, {}))(images)
        method.prepare(student, answers)
        loss = method(student, answers, labels)
        loss.backward()
        assert loss.isfinite() and any(x.grad is not None for x in ours.parameters())


def assert_peers_learn(method, images, labels):
    """One step of each peer's turn, from the group's own images and rows."""
    layers = layers_of(make_net("student", 10, 1), method.layers, {})
    method.total_steps = 10
    group = method.assemble(lambda i: make_net("student", 10, 1), layers)
    if group.own_images or group.own_rows:
        images = images.expand(group.count, *images.shape)
    if group.own_rows:
        labels = labels.expand(group.count, -1)
    with torch.no_grad():
        method.prepare(group(images), None)
    for step, turn in enumerate(range(method.turns)):
        method.turn = group.active = turn if method.turns > 1 else None
        method.set_step(step, group)
        loss = method(group(images), labels)
        loss.backward()
        assert loss.isfinite()
    assert group.peer(0)(images[:1] if images.dim() == 4 else images[0]).shape[1] == 10
    for i in range(group.count):
        assert any(x.grad is not None and x.grad.any() for x in group.peer(i).parameters())


def test_a_file(tmp_path):
    path = tmp_path / "mine.yml"
    path.write_text(BASE + "steps: 7\nlr: 1e-3\n", encoding="utf-8")
    for given in (path, str(path)):
        recipe = reading.read(given)
        assert (recipe.steps, recipe.lr, recipe.batch) == (7, 1e-3, 64)
    path.write_text(BASE + "stepps: 7\n")
    with pytest.raises(reading.RecipeError) as error:
        reading.read(path)
    assert text_of(error) == f"{path}, line 6: stepps: no such key; near: steps"


def test_files_that_cannot_be_read(tmp_path):
    path = tmp_path / "mine.yaml"
    for content, text in (
        (None, "no such file"),
        (b"title: \xff", "a recipe must be UTF-8, byte 7 is not"),
        (b"#" * (reading.LARGEST + 1), f"a recipe is at most {reading.LARGEST} bytes"),
    ):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(reading.RecipeError) as error:
            reading.read(path)
        assert text_of(error) == f"{path}: {text}"
    with pytest.raises(reading.RecipeError, match=r"^no recipe 'fitnet'; there are fitnets"):
        reading.read("fitnet")
    with pytest.raises(reading.RecipeError, match=r"^no recipe 'zzz'; there are at, cckd, "):
        reading.read("zzz")


def phase(method, options):
    return f"{HEAD}phases:\n  - method: {method}\n    options:\n      weight: 1\n{options}"


MISTAKES = {
    "unknown key": (BASE + "stepps: 3\n", "6: stepps: no such key; near: steps"),
    "far from every key": (
        BASE + "zzz: 3\n",
        "6: zzz: no such key; there are about, batch, lr, nets, phases, source, ",
    ),
    "unknown key of a phase": (
        BASE + "    metod: KD\n",
        "6: phases.0.metod: no such key; near: method",
    ),
    "unknown key of a sampler": (
        BASE + "    sampler: {groups: classes, pergroup: 2}\n",
        "6: phases.0.sampler.pergroup: no such key; near: per_group",
    ),
    "unknown option": (
        phase("AT", "      wieght: 1\n"),
        "8: phases.0.options.wieght: no such key; near: weight",
    ),
    "option of another method": (
        phase("AT", "      gamma: 1\n"),
        "8: phases.0.options.gamma: no such key; there are ce_weight, kd_weight, layers, p, ",
    ),
    "unknown part of an option": (
        phase("HKD", "      schedule: {inital: 3}\n"),
        "8: phases.0.options.schedule.inital: no such key; near: initial",
    ),
    "what the training chooses": (
        phase("SP", "      gather: all\n"),
        "8: phases.0.options.gather: no such key",
    ),
    "unknown method": (BASE.replace("AT", "RDK"), "5: phases.0.method: no method 'RDK'; near: RKD"),
    "base class": (BASE.replace("AT", "Relation"), "5: phases.0.method: no method 'Relation'; "),
    "wrong type": (
        BASE + "steps: many\n",
        "6: steps: input should be a valid integer, unable to parse string as an integer, "
        "got 'many'",
    ),
    "boolean": (BASE + "steps: yes\n", "6: steps: must not be a boolean, got True"),
    "infinity": (BASE + "lr: .inf\n", "6: lr: input should be a finite number, got inf"),
    "below its range": (BASE + "batch: 0\n", "6: batch: input should be greater than or equal to"),
    "wrong type of an option": (
        phase("AT", "      layers: 3\n"),
        "8: phases.0.options.layers: input should be a valid string, got 3",
    ),
    "boolean option": (
        phase("AT", "      p: no\n"),
        "8: phases.0.options.p: must not be a boolean, got False",
    ),
    "option out of range": (
        phase("AT", "      ce_weight: -1\n"),
        "8: phases.0.options.ce_weight: AT: ce_weight must be finite and >= 0, got -1",
    ),
    "choice out of range": (
        phase("CCKD", "      kernel: rfb\n"),
        "8: phases.0.options.kernel: cckd_loss: kernel must be one of 'rbf', ",
    ),
    "schedule out of range": (
        phase("HKD", "      schedule: {initial: -3}\n"),
        "8: phases.0.options.schedule: CriticalPeriod: initial must be finite and >= 0, got -3",
    ),
    "NaN": (phase("AT", "      p: .nan\n"), "8: phases.0.options.p: input should be a finite"),
    "no options": (BASE + "    options:\n", "6: phases.0.options: must be a mapping, got None"),
    "missing key": ("title: a\nabout: c\nphases: [{method: AT}]\n", "1: source: must be given"),
    "missing method": (HEAD + "phases:\n  - name: a\n", "5: phases.0.method: must be given"),
    "no phases": (HEAD + "phases: []\n", "4: phases: list should have at least 1 item"),
    "twice the same key": (BASE + "title: z\n", "6: the key 'title' stands twice"),
    "twice deeper": (BASE + "    method: AT\n", "6: the key 'method' stands twice"),
    "alias": ("title: &a x\nsource: *a\n", "2: aliases are not allowed"),
    "tag": (
        "title: !!python/object/apply:os.system ['x']\n",
        "1: tags are not allowed, got 'tag:yaml.org,2002:python/object/apply:os.system'",
    ),
    "own tag": (BASE + "steps: !!timestamp abc\n", "6: tags are not allowed, got "),
    "syntax": ("title: [a\n", "2: expected ',' or ']', but got '<stream end>'"),
    "tab": ("title: a\n\tsource: b\n", r"2: found character '\t' that cannot start any token"),
    "control character": (BASE + "steps: \x00\n", "6: special characters are not allowed: "),
    "number that is none": (BASE + f"steps: {'9' * 5000}\n", "6: Exceeds the limit"),
    "date that is none": (BASE + "batch: 2020-13-45\n", "6: month must be in 1..12"),
    "list as a key": (BASE + "? [a]\n: b\n", "6: a key must be text; quotes make it so"),
    "number as a key": (BASE + "1: 2\n", "6: a key must be text; quotes make it so"),
    "merge key": (BASE + "<<: {steps: 3}\n", "6: a key must be text; quotes make it so"),
    "too deep": ("title: " + "[" * 3000, "1: nested more than 20 deep"),
    "two documents": (BASE + "---\n" + BASE, "6: but found another document"),
    "empty file": ("", "1: title: must be given"),
    "not a mapping": ("- a\n- b\n", "1: must be a mapping, got ['a', 'b']"),
    "text alone": ("hello\n", "1: must be a mapping, got 'hello'"),
    "unknown net": (BASE + "    net: wide\n", "6: phases.0.net: no net 'wide'; there are student"),
    "unknown teacher": (
        BASE + "    teacher: techer\n",
        "6: phases.0.teacher: no teacher 'techer'; near: teacher",
    ),
    "its own teacher": (BASE + "    teacher: student\n", "6: phases.0.teacher: no teacher "),
    "no teacher": (
        BASE + "    teacher: null\n",
        "6: phases.0.teacher: only Labels and the online methods can be without a teacher",
    ),
    "net of the setting": (
        BASE + "nets: {teacher: wide}\n",
        "6: nets.teacher: is chosen by who runs the recipe, not by it",
    ),
    "two phases of one name": (
        BASE + "  - method: Labels\n",
        "6: phases.1.name: 'student' is the name of another phase",
    ),
    "name that is none": (BASE + "    name: ../a\n", "6: phases.0.name: string should match"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake(mistake):
    text, message = MISTAKES[mistake]
    with pytest.raises(reading.RecipeError) as error:
        reading.parse(text, "my.yaml")
    assert text_of(error).startswith(f"my.yaml, line {message}")


def test_every_mistake_is_told_at_once():
    with pytest.raises(reading.RecipeError) as error:
        reading.parse("title: a\nsteps: 0\nlrr: 1\n", "x")
    lines = text_of(error).splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["x, line 1", "source"],
        ["x, line 1", "about"],
        ["x, line 2", "steps"],
        ["x, line 1", "phases"],
        ["x, line 3", "lrr"],
    ]


LABELS = {"ce_weight": 1.0, "kd_weight": 0.0, "temperature": 4.0}
SOFT = {"temperature": 1.0, "weight": 1.0, "ce_weight": 1.0, "ramp": None}
BASES = {
    methods.Method: LABELS,
    methods.Relation: {**LABELS, "pooling": "mean"},
    methods.online.Online: SOFT,
}


@pytest.mark.parametrize("name", schema.METHODS)
def test_options_of_a_method(name):
    """Its own keywords and its bases' as far as it hands them on, with their defaults; no more."""
    cls = schema.METHODS[name]
    own = inspect.signature(cls).parameters
    wanted = {key: p.default for key, p in own.items() if p.kind is not p.VAR_KEYWORD}
    if len(wanted) < len(own):
        bases = (methods.Relation, methods.online.Online, methods.Method)
        wanted = BASES[next(base for base in bases if issubclass(cls, base))] | wanted
    fields = schema.options_of(cls).model_fields
    assert {key: field.default for key, field in fields.items()} == wanted


def test_every_method_has_recipes():
    parts = {"Method", "Relation", "online", "specialists", "temperature_range"}
    online = set(methods.online.__all__) - {"Online"}
    assert set(schema.METHODS) == set(methods.__all__) - parts | online
    used = {phase.method for name in reading.names() for phase in reading.read(name).phases}
    assert used == set(schema.METHODS) - {"LogitMatching"}


def test_make_method():
    method = schema.make_method("RKD", {"layers": {"a": 2}, "angle_weight": "3"}, gather="all")
    assert (method.shares, method.angle_weight, method.gather) == ({"a": 2.0}, 3.0, "all")
    assert schema.make_method("AT", {"layers": ["a"]}, gather="all").layers == ("a",)
    hkd = schema.make_method("HKD", {"schedule": {"decay": 0.5}})
    assert hkd.schedule == CriticalPeriod(decay=0.5) and hkd.ce_weight == 0
    fitnets = schema.make_method("FitNets", {"schedule": {"start": 1, "saturate": 2}})
    assert fitnets.schedule == LinearDecay(start=1, saturate=2)
