"""Where kdops.compat.torchdistill is not torchdistill: what the page of migration says, shown."""

import pytest
import torch

from kdops.compat import torchdistill as ours

from .torchdistill_cases import LOGITS, outputs, pair

theirs = pytest.importorskip(
    "torchdistill.losses.mid_level", reason="torchdistill is not installed"
)
HUGE = 1e4


def batch(rows=8, columns=5):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, rows, columns, generator=generator, dtype=torch.float64).unbind()


def evaluated(module, name, student, teacher, *args, **kwargs):
    """The value and the student's gradient."""
    student = student.clone().requires_grad_()
    loss = getattr(module, name)(*args, **kwargs)
    value = loss(outputs(fc=student), outputs(fc=teacher))
    return value.item(), torch.autograd.grad(value, student)[0]


def compared(*arguments, **kwargs):
    """Of both packages; ours is finite and of usual size."""
    mine, peers = (evaluated(module, *arguments, **kwargs) for module in (ours, theirs))
    assert abs(mine[0]) < HUGE and mine[1].abs().amax() < HUGE
    return mine, peers


def is_nan(x) -> bool:
    return bool(torch.as_tensor(x).isnan().any())


def test_one_row(backend):
    (value, gradient), peers = compared("RKDLoss", *batch(1), "fc", "fc", 1.0, 2.0, "mean")
    assert value == 0 and (gradient == 0).all() and is_nan(peers[0])


@pytest.mark.parametrize("factors", [(1.0, 2.0), (0, 1.0)])
def test_duplicates(backend, factors):
    student, teacher = batch()
    student[1] = student[0]
    mine, peers = compared("RKDLoss", student, teacher, "fc", "fc", *factors, "mean")
    assert mine[0] == pytest.approx(peers[0], rel=1e-9)
    assert peers[1].abs().amax() > 1e6


def test_a_factor_of_none(backend):
    student, teacher = batch()
    assert evaluated(ours, "RKDLoss", student, teacher, "fc", "fc", 2.0, None, "mean")[0] > 0
    with pytest.raises(TypeError):
        evaluated(theirs, "RKDLoss", student, teacher, "fc", "fc", 2.0, None, "mean")


HOOKS = {"paraphraser_path": "fc", "translator_path": "fc"}
KTA_HOOKS = {"knowledge_translator_path": "fc", "feature_adapter_path": "fc"}


@pytest.mark.parametrize(
    "name, args, kwargs",
    [
        ("SPKDLoss", ("fc", "fc", "batchmean"), {}),
        ("SKDDirectionLoss", LOGITS, {}),
        ("FTLoss", (), HOOKS),
        ("KTALoss", (), KTA_HOOKS),
    ],
)
def test_a_zero_row(backend, name, args, kwargs):
    student, teacher = batch()
    student[1] = 0
    _, peers = compared(name, student, teacher, *args, **kwargs)
    assert is_nan(peers[1]) or peers[1].abs().amax() > 1e6


def test_a_zero_row_of_pkt(backend):
    student, teacher = batch()
    student[1] = 0
    mine, peers = (evaluated(x, "PKTLoss", student, teacher, *LOGITS) for x in (ours, theirs))
    assert mine[0] == pytest.approx(peers[0], rel=1e-9)
    assert mine[1].isfinite().all() and is_nan(peers[1])


def test_a_row_of_equal_logits(backend):
    student, teacher = batch()
    student[1] = 0
    options = {"temperature": 2.0, "alpha": 0}
    mine, peers = compared("LogitStdKDLoss", student, teacher, *LOGITS, **options)
    assert (mine[1][1] == 0).all() and peers[1].abs().amax() > HUGE


def test_a_channel_of_zeros(backend):
    student, teacher = (x.reshape(4, 2, 5, 1) for x in batch())
    student[0, 0] = 0
    _, peers = compared("AffinityLoss", student, teacher, "fc", "fc")
    assert is_nan(peers[0])


def test_equal_directions(backend):
    student, _ = batch()
    (value, gradient), peers = compared("SKDDirectionLoss", student, student, *LOGITS)
    assert value == 0 and (gradient == 0).all() and is_nan(peers[1])


def test_a_masked_class(backend):
    student, teacher = batch()
    student[:, 1] = teacher[:, 1] = -torch.inf
    options = {"temperature": 2.0, "alpha": 0}
    mine, peers = compared("KDLoss", student, teacher, *LOGITS, **options)
    assert mine[0] > 0 and is_nan(peers[0])


def test_attention_of_two_sizes(backend):
    student, teacher = torch.randn(4, 3, 4, 4), torch.randn(4, 6, 8, 8)
    assert evaluated(ours, "ATLoss", student, teacher, {"block": pair("fc")})[0] > 0
    with pytest.raises(RuntimeError):
        evaluated(theirs, "ATLoss", student, teacher, {"block": pair("fc")})


def test_a_long_expansion():
    kernel = {"type": "gaussian", "gamma": 0.4, "max_p": 9}
    with pytest.raises(ValueError, match=r"order must be in 0..8"):
        evaluated(ours, "CCKDLoss", *batch(), "fc", "fc", kernel, "sum")


def test_agreement_of_channels_costs():
    """torchdistill's sign in DIST+, kept."""
    maps = {"block": {"output": torch.randn(6, 4, 3, 3)}, **outputs(fc=torch.randn(6, 5))}
    hooks = (*LOGITS, "block", "output", "block", "output")
    for module in (ours, theirs):
        assert module.DISTPlusLoss(*hooks)(maps, maps).item() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("row", [1, 4])
def test_a_zero_row_of_self_supervision(backend, row):
    """A copy's, an image's."""
    student, teacher = batch()
    student[row] = 0
    options = {"loss_weights": [0, 0, 1, 0]}
    call = student, teacher, SSKD, torch.tensor([0, 1]), options
    ours_sskd, theirs_sskd = (supervised(x, *call)[1] for x in (ours, theirs))
    student.requires_grad_()
    ours_aux, theirs_aux = (
        torch.autograd.grad(x.AuxSSKDLoss("fc")({}, outputs(fc=student)), student)[0]
        for x in (ours, theirs)
    )
    for mine, peers in (ours_sskd, theirs_sskd), (ours_aux, theirs_aux):
        assert (mine[row] == 0).all() and 0 < mine.abs().amax() < HUGE < peers.abs().amax()


SSKD = ("fc", "fc", "fc", "fc", 4.0, 0.5, 4.0, 1.0, 1.0)


def supervised(module, student, teacher, arguments, targets, options):
    """SSKD of a net whose logits are its self-supervision too."""
    student = student.clone().requires_grad_()
    loss = module.SSKDLoss(*arguments, **options)
    value = loss(outputs(fc=student), outputs(fc=teacher), targets)
    return value, torch.autograd.grad(value, student)[0]


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")
def test_no_copy_is_kept(backend):
    """The teacher has the one copy wrong, and a share of 0 leaves none."""
    student = torch.tensor([[1.0, 2.0, 3.0], [2.0, 0.0, 1.0]])
    for options in ({}, {"reduction": "mean"}):
        arguments = (*SSKD[:-1], 0.0)
        call = student, student.flip(1), arguments, torch.tensor([0]), options
        (value, gradient), (nan, _) = (supervised(x, *call) for x in (ours, theirs))
        assert value.isfinite() and gradient.isfinite().all() and nan.isnan()


def test_half_types_of_self_supervision():
    """The cross-entropy too is float32's."""
    student, teacher = (x.bfloat16() for x in batch())
    options = {"loss_weights": [1.0, 0, 0, 0]}
    call = SSKD, torch.tensor([0, 1]), options
    value, _ = supervised(ours, student, teacher, *call)
    assert value == supervised(ours, student.float(), teacher.float(), *call)[0]


def test_bad_batches_of_copies():
    student, teacher = batch()
    with pytest.raises(ValueError, match=r"SSKDLoss: target must have .* shape \(2,\), got \(8,\)"):
        supervised(ours, student, teacher, SSKD, torch.arange(8), {})
    with pytest.raises(TypeError, match="SSKDLoss: target must be int64"):
        supervised(ours, student, teacher, SSKD, torch.ones(2), {})
    with pytest.raises(ValueError, match="SSKDLoss: teacher must have student's shape"):
        supervised(ours, student, teacher[:7], SSKD, torch.arange(2), {})
    with pytest.raises(ValueError, match="SSKDLoss: student's logits must hold an image and a cop"):
        supervised(ours, student[:1], teacher[:1], SSKD, torch.arange(1), {})
    with pytest.raises(ValueError, match="SSKDLoss: reduction must be one of"):
        ours.SSKDLoss(*SSKD, reduction="none")
    with pytest.raises(ValueError, match=r"AuxSSKDLoss: teacher's output must be \(N, D\)"):
        ours.AuxSSKDLoss("fc")(None, outputs(fc=student[:, :, None]))
    other = outputs(other=torch.ones(12, 3))
    nets = outputs(fc=student), outputs(fc=teacher) | other
    loss = ours.SSKDLoss("fc", "fc", "fc", "other", *SSKD[4:])
    with pytest.raises(ValueError, match=r"SSKDLoss: teacher must have student's shape \(6, 2\)"):
        loss(*nets, torch.arange(2))


def test_activations_of_exactly_0():
    """As behind a ReLU: no difference, 0 is on the inactive side in both."""
    student, teacher = batch()
    pairs = {"fc": {name: {"path": "fc", "io": "output"} for name in ("student", "teacher")}}
    call = student, teacher.relu(), pairs, 0.4, "mean"
    mine, peers = compared("AltActTransferLoss", *call)
    assert mine[0] == pytest.approx(peers[0], rel=1e-9)
    torch.testing.assert_close(mine[1], peers[1], rtol=1e-9, atol=0)
