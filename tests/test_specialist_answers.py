"""Hinton's specialists' answers: one distribution out of many, and the module that gives it."""

import pytest
import torch
from torch import nn

from kdops.methods.specialists import (
    Specialists,
    active_specialists,
    combination_objective,
    combine_specialists,
    dustbin_bias,
    reduced_targets,
    specialist_of,
)

from .cases import generator

GENERALIST = [[0.4, 0.3, 0.2, 0.1]]
ANSWERS = [[[0.2, 0.6, 0.2]], [[0.5, 0.3, 0.2]]]
CLASSES = [(0, 1), (1, 2)]
VECTORS = {
    0: (GENERALIST[0], 0.0, 0.0),
    1: ([0.3, 0.45, 1 / 6, 1 / 12], 0.0950172751730, 0.196165850602),
    2: ([0.25380665, 0.46666667, 0.21886581, 0.06066087], 0.156128082524, 0.389960048543),
}


def tensors(*arrays, dtype=torch.float64):
    return [torch.tensor(each, dtype=dtype) for each in arrays]


def close(value, expected, atol=1e-12):
    torch.testing.assert_close(value, expected, rtol=0, atol=atol)


def problem(rows=16, classes=12, specialists=4, seed=0, sharpness=2.0):
    """A generalist and overlapping specialists, all of them active."""
    g = generator(seed)
    sets = [
        tuple(sorted(torch.randperm(classes, generator=g)[: 3 + m % 3].tolist()))
        for m in range(specialists)
    ]
    widths = [classes, *(len(each) + 1 for each in sets)]
    rows = [
        (sharpness * torch.randn(rows, width, generator=g, dtype=torch.float64)).softmax(1)
        for width in widths
    ]
    return rows[0], rows[1:], sets, torch.ones(len(rows[0]), specialists, dtype=torch.bool)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 5e-9), (torch.float32, 1e-7)])
@pytest.mark.parametrize("number", VECTORS)
def test_vectors(number, dtype, atol):
    generalist, *answers = tensors(GENERALIST, *ANSWERS[:number], dtype=dtype)
    classes, active = CLASSES[:number], torch.ones(1, number, dtype=torch.bool)
    q = combine_specialists(generalist, answers, classes, active=active)
    expected, least, before = VECTORS[number]
    assert q.dtype == dtype
    close(q, torch.tensor([expected], dtype=dtype), atol)
    for at, value in ((q, least), (generalist, before)):
        objective = combination_objective(at, generalist, answers, classes, active=active)
        close(objective, torch.tensor([value], dtype=dtype), 5e-13 if dtype.itemsize == 8 else 1e-6)


def test_one_step_is_exact_for_one_specialist():
    generalist, answers, classes, active = problem(specialists=1)
    first, second = (
        combine_specialists(generalist, answers, classes, active=active, steps=n) for n in (1, 9)
    )
    close(first, second, 1e-15)


def test_the_objective_never_rises():
    for seed in range(5):
        arguments = (*problem(seed=seed),)
        values = [combination_objective(arguments[0], *arguments[:3], active=arguments[3])]
        for steps in range(1, 40):
            q = combine_specialists(*arguments[:3], active=arguments[3], steps=steps)
            close(q.sum(1), torch.ones(16).double())
            values.append(combination_objective(q, *arguments[:3], active=arguments[3]))
        values = torch.stack(values)
        assert (values.diff(dim=0) <= 1e-14).all()
        assert (values[1] < values[0] - 1e-3).all()


def test_agrees_with_gradient_descent_on_logits():
    generalist, answers, classes, active = problem(rows=8, classes=8, sharpness=0.5)
    q = combine_specialists(generalist, answers, classes, active=active, steps=300)
    z = generalist.log().requires_grad_()
    for _ in range(1000):
        value = combination_objective(z.softmax(1), generalist, answers, classes, active=active)
        (gradient,) = torch.autograd.grad(value.sum(), z)
        z.data -= gradient
    assert gradient.abs().max() < 1e-12
    close(z.softmax(1).detach(), q, 1e-11)


def test_gradient_is_zero_at_the_answer():
    """(1 + |A|) q - p^g - sum_m r^m, by autograd of the objective."""
    generalist, answers, classes, active = problem(specialists=6, seed=1)
    q = combine_specialists(generalist, answers, classes, active=active, steps=300)
    z = q.log().requires_grad_()
    combination_objective(
        z.softmax(1), generalist, answers, classes, active=active
    ).sum().backward()
    assert z.grad.abs().max() < 1e-13


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_precision(dtype):
    generalist, answers, classes, active = problem(rows=64, sharpness=4.0)
    generalist, answers = generalist.to(dtype), [each.to(dtype) for each in answers]
    q = combine_specialists(generalist, answers, classes, active=active)
    exact = combine_specialists(
        generalist.double(), [each.double() for each in answers], classes, active=active
    )
    assert q.dtype == torch.float32
    close(q.double(), exact, 5e-7)


def test_active_specialists():
    p = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.25, 0.25], [0.0, 0.7, 0.3, 0.0]])
    classes = [(0, 1), (2,), (1, 3)]
    expected = [[False, False, True], [True, False, False], [True, False, True]]
    assert active_specialists(p, classes).tolist() == expected
    assert active_specialists(p, classes, top=2).tolist()[0] == [False, True, True]
    assert active_specialists(p, classes, top=4).all()
    assert active_specialists(p, []).shape == (3, 0)


def test_rows_are_independent():
    """Each with its own active set: as if it were alone; the generalist's where that is empty."""
    generalist, answers, classes, _ = problem(rows=20, specialists=5)
    active = torch.rand(20, 5, generator=generator(3)) < 0.4
    active[4] = False
    q = combine_specialists(generalist, answers, classes, active=active)
    assert torch.equal(q[4], generalist[4])
    for row, chosen in enumerate(active):
        which = chosen.nonzero()[:, 0].tolist()
        alone = combine_specialists(
            generalist[row : row + 1],
            [answers[m][row : row + 1] for m in which],
            [classes[m] for m in which],
            active=torch.ones(1, len(which), dtype=torch.bool),
        )
        close(q[row], alone[0])
        alone = combination_objective(
            q[row : row + 1],
            generalist[row : row + 1],
            [answers[m][row : row + 1] for m in which],
            [classes[m] for m in which],
            active=torch.ones(1, len(which), dtype=torch.bool),
        )
        close(combination_objective(q, generalist, answers, classes, active=active)[row], alone[0])
    by_default = combine_specialists(generalist, answers, classes, top=2)
    active = active_specialists(generalist, classes, top=2)
    assert torch.equal(by_default, combine_specialists(generalist, answers, classes, active=active))


def test_order_of_classes_is_that_of_the_columns():
    generalist, answers, classes, active = problem()
    expected = combine_specialists(generalist, answers, classes, active=active)
    classes = [each[::-1] for each in classes]
    answers = [torch.cat([p[:, :-1].flip(1), p[:, -1:]], 1) for p in answers]
    close(combine_specialists(generalist, answers, classes, active=active), expected)


def test_specialists_of_all_classes_give_the_mean():
    generalist, answers = torch.tensor(GENERALIST), torch.tensor([[0.4, 0.1, 0.2, 0.3]])
    q = combine_specialists(generalist, [answers], [(3, 2, 1, 0)])
    close(q, (generalist + answers.flip(1)) / 2, 1e-7)
    value = combination_objective(q, generalist, [answers], [(3, 2, 1, 0)])
    assert value.isfinite() and value > 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_mass_where_the_generalist_has_none(dtype):
    (p,) = tensors([[0.5, 0.5, 0.0, 0.0]], dtype=dtype)
    # in S: half of the specialist's; p^g_j = 0 outside of S stays 0
    q = combine_specialists(p, tensors([[0.3, 0.1, 0.6]], dtype=dtype), [(0, 2)])
    close(q, torch.tensor([[0.4, 0.55, 0.05, 0.0]], dtype=dtype), 1e-7)
    # in the dustbin, Q = 0 under p^g: any split of it is optimal, the answer's is even
    answers = tensors([[0.2, 0.3, 0.5]], dtype=dtype)
    q = combine_specialists(p, answers, [(0, 1)])
    close(q, torch.tensor([[0.35, 0.4, 0.125, 0.125]], dtype=dtype), 1e-7)
    assert combination_objective(q, p, answers, [(0, 1)]).isfinite()
    assert combination_objective(p, p, answers, [(0, 1)]) == torch.inf
    # many at once
    q = combine_specialists(p, answers * 40, [(0, 1)] * 40)
    close(q.sum(1), torch.ones(1, dtype=dtype), 1e-5)


def test_tiny_dustbins():
    for tiny in (1e-30, 1e-45, 0.0):
        p = torch.tensor([[0.5, 0.5, tiny, 0.0]])
        for mass in (0.5, 1e-20, 1e-45, 0.0):
            q = combine_specialists(p, [torch.tensor([[1 - mass, 0.0, mass]])], [(0, 1)])
            assert q.isfinite().all() and q.sum() == pytest.approx(1, abs=1e-6)


def test_nan_stays_in_its_row():
    generalist, answers, classes, active = problem(rows=6)
    clean = combine_specialists(generalist, answers, classes, active=active)
    generalist[1], answers[2][3] = torch.nan, torch.nan
    q = combine_specialists(generalist, answers, classes, active=active)
    assert q[[1, 3]].isnan().all() and torch.equal(q[[0, 2, 4, 5]], clean[[0, 2, 4, 5]])
    active[3, 2] = False
    assert combine_specialists(generalist, answers, classes, active=active)[3].isfinite().all()


def test_no_rows():
    q = combine_specialists(torch.ones(0, 4), [torch.ones(0, 3)], [(0, 1)])
    assert q.shape == (0, 4)


def test_differentiable():
    generalist, answers, classes, active = problem(rows=2, classes=5, specialists=2)

    def answer(z, first):
        q = [z.softmax(1), first.softmax(1), answers[1]]
        return combine_specialists(q[0], q[1:], classes, active=active, steps=5)

    inputs = [x.log().requires_grad_() for x in (generalist, answers[0])]
    assert torch.autograd.gradcheck(answer, inputs)


# ---- the module --------------------------------------------------------------------------------


def nets():
    torch.manual_seed(0)
    generalist = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 8))
    classes = [(0, 1, 2), (4, 5)]
    specialists = [specialist_of(generalist, "2", each) for each in classes]
    with torch.no_grad():
        for each in specialists:
            each[2].weight += 0.3 * torch.randn_like(each[2].weight)
    return generalist, specialists, classes, [dustbin_bias(0.2), dustbin_bias(0.1)]


def test_module_is_the_function_of_the_softmaxes():
    generalist, specialists, classes, biases = nets()
    x = torch.randn(32, 6)
    model = Specialists(generalist, specialists, classes, biases, top=2, steps=20).eval()
    answers = []
    for net, bias in zip(specialists, biases, strict=True):
        logits = net(x)
        logits[:, -1] += bias
        answers.append(logits.softmax(1))
    p = generalist(x).softmax(1)
    close(model(x), combine_specialists(p, answers, classes, top=2, steps=20), 1e-6)
    assert model(x[:0]).shape == (0, 8)
    assert sorted(model.state_dict())[0].startswith("generalist.") and "top=2" in repr(model)


class Counting(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net, self.rows = net, []

    def forward(self, x):
        self.rows.append(len(x))
        return self.net(x)


def test_only_the_active_are_asked():
    generalist, specialists, classes, _ = nets()
    with torch.no_grad():
        generalist[2].bias[4:6] = -100.0
    counting = [Counting(each) for each in specialists]
    model, x = Specialists(generalist, counting, classes), torch.randn(32, 6)
    q, top = model(x), generalist(x).argmax(1)
    assert counting[0].rows == [int((top < 3).sum())] and counting[1].rows == []
    assert torch.equal(q[top > 2], generalist(x).softmax(1)[top > 2])


def test_a_specialist_that_knows_nothing_new_changes_nothing():
    """Its answer is the generalist's own, reduced."""
    generalist, answers, classes, active = problem()
    answers = [reduced_targets(generalist, each) for each in classes]
    close(combine_specialists(generalist, answers, classes, active=active), generalist)


def test_module_of_all_classes_has_no_dustbin():
    generalist = nets()[0]
    model = Specialists(generalist, [generalist], [range(8)], [5.0])
    x = torch.randn(3, 6)
    close(model(x), generalist(x).softmax(1), 1e-6)
