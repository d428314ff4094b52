"""In a training loop: autocast, GradScaler, optimiser steps, two processes."""

import os
import socket

import pytest
import torch
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

import kdops

from .cases import CASES, LOSSES, call, generator, small_inputs
from .metrics import upstream, value_and_gradient


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_autocast_changes_nothing(backend, case, dtype):
    student, teacher, kwargs = small_inputs(case, dtype)
    weights = upstream if case.kind == "map" else torch.ones_like
    expected = value_and_gradient(case.function, student, teacher, weights, **kwargs)
    student.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = call(case.function, student, teacher, **kwargs)
    (gradient,) = torch.autograd.grad(value, student, weights(value.detach()))
    assert value.dtype == torch.float32 and gradient.dtype == dtype
    assert torch.equal(value, expected[0]) and torch.equal(gradient, expected[1])


def test_autocast_model(backend):
    """bfloat16 features out of an autocast layer, float32 inside the loss."""
    model = torch.nn.Linear(6, 5)
    x, teacher = torch.randn(8, 6), torch.randn(8, 5)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(x)
        loss = kdops.kd_loss(out, teacher) + kdops.rkd_angle_loss(out, teacher)
    assert out.dtype == torch.bfloat16 and loss.dtype == torch.float32
    loss.backward()
    assert model.weight.grad.isfinite().all()


@pytest.mark.parametrize("case", LOSSES, ids=lambda case: case.name)
def test_grad_scaler_sees_infinities(backend, case):
    """A gradient that is not finite stays so: the step is skipped and the scale halves."""
    student, teacher, kwargs = small_inputs(case)
    parameter = torch.nn.Parameter(student.clone())
    with torch.no_grad():
        parameter[0, 0] = torch.inf
    before = parameter.detach().clone()
    optimiser = torch.optim.SGD([parameter], lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(case.function(parameter, teacher, **kwargs)).backward()
    scaler.step(optimiser)
    scaler.update()
    assert torch.equal(parameter.detach(), before) and scaler.get_scale() == 512.0


def test_grad_scaler_of_a_finite_loss(backend):
    student, teacher = torch.randn(2, 8, 10)
    parameter = torch.nn.Parameter(student.clone())
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimiser = torch.optim.SGD([parameter], lr=0.1)
    scaler.scale(kdops.kd_loss(parameter, teacher)).backward()
    scaler.step(optimiser)
    scaler.update()
    expected = student - 0.1 * value_and_gradient(kdops.kd_loss, student, teacher)[1]
    torch.testing.assert_close(parameter.detach(), expected, rtol=1e-5, atol=1e-6)


def losses_of_training(function, dtype, steps=60):
    """A linear student follows a linear teacher; its loss, step by step."""
    g = generator(1)
    x, w = torch.randn(32, 12, generator=g).to(dtype), torch.randn(12, 7, generator=g).to(dtype)
    student = (0.3 * torch.randn(12, 7, generator=g)).to(dtype).requires_grad_()
    optimiser = torch.optim.SGD([student], lr=0.5)
    values = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = function(x @ student, x @ w)
        loss.backward()
        optimiser.step()
        values.append(loss.item())
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("name", ["kd_loss", "rkd_distance_loss", "rkd_angle_loss", "cckd_loss"])
def test_training_follows_float64(backend, name):
    function = getattr(kdops, name)
    single, double = (losses_of_training(function, t) for t in (torch.float32, torch.float64))
    assert double[-1] < 0.7 * double[0]
    torch.testing.assert_close(single, double, rtol=1e-3, atol=1e-7)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def train(rank: int, port: int, backend: str, results):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = DistributedDataParallel(torch.nn.Linear(6, 5))
    g = generator(rank)
    with kdops.backend(backend):
        for rows in ((4, 6), (3, 0)):  # of the two ranks; the second has an empty batch
            model.zero_grad()
            out, teacher = (
                model(torch.randn(rows[rank], 6, generator=g)),
                torch.randn(rows[rank], 5),
            )
            loss = kdops.kd_loss(out, teacher) + kdops.rkd_distance_loss(out, teacher)
            loss.backward()
    gradient = model.module.weight.grad
    assert gradient.isfinite().all() and loss.isfinite()
    results[rank] = gradient.tolist()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes(backend):
    """DDP on gloo, uneven batches, an empty one: no hang, no NaN, the same gradient on both."""
    with mp.Manager() as manager:
        results = manager.dict()
        context = mp.spawn(train, (free_port(), backend, results), nprocs=2, join=False)
        assert context.join(timeout=60) or context.join(timeout=60)
        assert results[0] == results[1] and any(x != 0 for row in results[0] for x in row)
