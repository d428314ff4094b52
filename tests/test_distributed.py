"""gather='all': the loss of the batch of all ranks, and its gradient."""

import importlib

import pytest
import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode

import kdops
from kdops.distributed import global_batch, global_loss

from .ranks import LOSSES, Batch, all_results, linear, objective, on_ranks, penalty, result, samples

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="no gloo"),
]

BATCHES = {
    2: tuple(
        Batch(*each)
        for each in (
            ((5, 3),),
            ((0, 4),),
            ((1, 0),),
            ((0, 0),),
            ((4, 3), "duplicates"),
            ((3, 5), "corners"),
            ((5, 3), "randn", torch.float32),
            ((5, 3), "randn", torch.bfloat16),
            ((5, 3), "big", torch.float32),
            ((5, 3), "nan"),
        )
    ),
    3: tuple(Batch(*each) for each in (((4, 0, 3),), ((3, 3, 2), "duplicates"))),
}
CHUNKS = {2: 2**22, 3: 1}
each_batch = pytest.mark.parametrize(
    "batch", [batch for batches in BATCHES.values() for batch in batches], ids=str
)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Of every number of ranks, each rank's results."""
    return {
        world: on_ranks(
            world, tmp_path_factory.mktemp("ranks"), all_results, batches, CHUNKS[world]
        )
        for world, batches in BATCHES.items()
    }


def assert_near(actual, expected, tolerance):
    """Within tolerance of the largest entry; exactly NaN or infinite where that is."""
    assert actual.shape == expected.shape and actual.dtype == expected.dtype
    if not expected.numel():
        return
    scale = expected[expected.isfinite()].abs().amax().item() if expected.isfinite().any() else 1
    torch.testing.assert_close(
        actual, expected, rtol=tolerance, atol=tolerance * max(scale, 1e-3), equal_nan=True
    )


TOLERANCE = {torch.float64: (1e-12, 1e-12), torch.float32: (1e-5, 1e-5)}
TOLERANCE[torch.bfloat16] = (1e-5, 1e-2)


@each_batch
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_one_process_with_all_rows(results, loss, batch):
    with kdops.backend("reference"):
        value, gradients = result(loss, batch)
    world = len(batch.rows)
    ranks = [each[f"{batch} {loss}"] for each in results[world]]
    tolerance = TOLERANCE[batch.dtype]
    if value.dim():
        assert_near(torch.cat([value for value, _ in ranks]), value, tolerance[0])
    else:
        assert all(torch.equal(each.nan_to_num(), ranks[0][0].nan_to_num()) for each, _ in ranks)
        assert_near(ranks[0][0], value, tolerance[0])
    if batch.distribution == "nan":
        return
    factor = 1 if value.dim() else world  # every rank adds the whole loss
    for ours, whole in zip(zip(*[g for _, g in ranks], strict=True), gradients, strict=True):
        assert (ours[0] is None) == (whole is None)
        if whole is not None:
            assert_near(torch.cat(ours), factor * whole, tolerance[1])


@pytest.mark.parametrize("world", BATCHES)
def test_ddp_has_the_gradients_of_one_process(results, world):
    model = linear()
    x, teacher, _ = samples(world)
    objective(model(x), teacher).backward()
    for rank in results[world]:
        for ours, parameter in zip(rank["parameters"], model.parameters(), strict=True):
            assert_near(ours, parameter.grad, 1e-12)


@pytest.mark.parametrize("world", BATCHES)
@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("columns", ("(n, 3) torch.float32 with gradient", "(n, 4) torch.float32 with gradient")),
        ("dtype", ("torch.float64", "torch.float32")),
        ("gradient", ("without gradient",)),
        ("students", ("rank 0: ", "rank 1: ")),
        ("options", ("(0.0, 'mean')", "(1.0, 'mean')")),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_calls_that_differ_raise_on_every_rank(results, world, name, texts):
    for rank in results[world]:
        assert rank[name].startswith("rkd_distance_loss: gather must have calls that differ in ")
        assert all(text in rank[name] for text in texts), rank[name]


def test_a_process_group(results):
    first, outside, last = results[3]
    batch = BATCHES[3][0]
    loss = next(loss for loss in LOSSES if loss.name == "sp_loss")
    (student,), (teacher,) = batch.features(loss)
    members = torch.cat([torch.arange(7)[batch.mine(rank)] for rank in (0, 2)])
    assert torch.equal(first["group"], last["group"])
    assert_near(first["group"], kdops.sp_loss(student[members], teacher[members]), 1e-12)
    assert "gather must be None, 'all' or a process group of this rank" in outside["outside"]


def test_autocast_changes_nothing(results):
    assert all(all(rank["autocast"]) for ranks in results.values() for rank in ranks)


@pytest.mark.parametrize("world", BATCHES)
def test_second_derivatives(results, world):
    x, teacher, _ = samples(world)
    with kdops.backend("reference"):
        expected = penalty(kdops.sp_loss, x, teacher)
    ours = torch.cat([rank["twice"] for rank in results[world]])
    assert_near(ours, world**2 * expected, 1e-12)  # of a square
    assert all("_cdist_backward" in rank["not twice"] for rank in results[world])


@pytest.fixture
def one_rank():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


FUNCTIONS = [loss for loss in LOSSES if loss.options.get("reduction", "mean") == "mean"]


@pytest.mark.parametrize("loss", FUNCTIONS, ids=str)
def test_one_rank_is_one_process(backend, loss, one_rank):
    features = Batch((7,)).features(loss)
    assert torch.equal(loss(*features, gather="all"), loss(*features))


@pytest.mark.parametrize("loss", FUNCTIONS, ids=str)
def test_without_a_process_group(loss):
    name = loss.name if hasattr(kdops, loss.name) else ".*_loss"
    features = Batch((7,)).features(loss)
    with pytest.raises(RuntimeError, match=f"^{name}: gather='all' must have a process group, got"):
        loss(*features, gather="all")


@pytest.mark.parametrize("gather", ["ALL", "", True, 1, torch.ones(2)], ids=str)
@pytest.mark.parametrize("loss", FUNCTIONS, ids=str)
def test_what_gather_may_be(loss, gather):
    features = Batch((7,)).features(loss)
    text = r"_loss: gather must be None, 'all' or a process group of this rank, got "
    with pytest.raises(ValueError, match=text):
        loss(*features, gather=gather)


class Largest(TorchDispatchMode):
    """The largest tensor that an operation returns."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        for x in result if isinstance(result, tuple | list) else (result,):
            if isinstance(x, torch.Tensor):
                self.elements = max(self.elements, x.numel())
        return result


@pytest.mark.parametrize("columns", [13, 70])
@pytest.mark.parametrize(
    ("loss", "scalars"),
    [
        ("rkd_distance_loss", (0.0, "mean")),
        ("rkd_angle_loss", (0.0, "mean")),
        ("irg_edge_loss", ("mean",)),
        ("cckd_loss", ("rbf", 0.4, None, True, "mean")),
        ("pkt_loss", ("student_t", "kl", True, 0.0, "mean")),
        ("sp_loss", (2, "mean")),
    ],
    ids=str,
)
def test_no_tensor_of_differences(loss, scalars, columns, one_rank, monkeypatch):
    """Maps and features are the largest, forward and backward: no N x N x D, no N x N x N."""
    monkeypatch.setattr(global_batch, "CHUNK", 1)
    formula = importlib.import_module(f"kdops.functional.{loss}")._formula
    student, teacher = (torch.randn(40, columns, requires_grad=True) for _ in range(2))
    with Largest() as largest:
        global_loss(loss, formula, (student, teacher), scalars, "all").backward()
    assert largest.elements == 40 * max(40, columns)
