"""Specialists trained: in processes of their own, and from clusters to answers."""

import os
import time

import pytest
import torch
from torch import nn

from kdops.methods.specialists import (
    PredictionCovariance,
    Specialists,
    class_clusters,
    dustbin_bias,
    specialist_labels,
    specialist_of,
    train_in_processes,
)
from kdops.samplers import HalfAndHalfBatchSampler


def train(job):
    """A few steps on random data from the job's net; what is random is torch's alone."""
    net, steps = job
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(steps):
        loss = net(torch.randn(16, 4)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    threads = torch.tensor(torch.get_num_threads())
    return {**net.state_dict(), "half": net.weight.bfloat16(), "threads": threads, "job": steps}


def process(job):
    return {"process": torch.tensor(os.getpid()), "empty": torch.zeros(0, 3)}


class AwkwardError(Exception):
    def __init__(self, first, second):
        super().__init__(first)


def fail(job):
    if job == "raise":
        raise AwkwardError("a bad", "one")
    if job == "die":
        os._exit(3)
    return [1] if job == "list" else {"x": lambda: 0} if job == "function" else {}


def jobs():
    torch.manual_seed(0)
    net = nn.Linear(4, 3)  # one that all jobs begin from
    return {"first": (net, 5), "second": (net, 5), "third": (net, 9)}


def same(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(each, other[key]) if isinstance(each, torch.Tensor) else each == other[key]
        for key, each in one.items()
    )


@pytest.mark.slow
def test_processes_train_as_one_after_another():
    here = jobs()
    before = here["first"][0].weight.clone()
    state = torch.get_rng_state()
    expected = train_in_processes(train, here, 1, threads=1)
    found = train_in_processes(train, here, 2, threads=1)
    assert list(found) == list(expected) == list(here)
    assert all(same(found[name], expected[name]) for name in here)
    assert torch.equal(here["first"][0].weight, before), "the jobs' net was trained itself"
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(found["first"]["weight"], found["second"]["weight"])  # other data
    assert found["first"]["half"].dtype == torch.bfloat16 and found["first"]["job"] == 5
    other = train_in_processes(train, {"first": here["first"]}, 1, seed=1)
    assert same(other["first"], expected["second"] | {"job": 5})
    assert torch.get_num_threads() == 1


@pytest.mark.slow
def test_processes_share_the_threads():
    torch.set_num_threads(4)
    one = train_in_processes(train, jobs(), 1)
    two = train_in_processes(train, jobs(), 2)
    assert {int(each["threads"]) for each in one.values()} == {4}
    assert {int(each["threads"]) for each in two.values()} == {2}
    assert torch.get_num_threads() == 4


@pytest.mark.slow
def test_processes_are_others():
    found = train_in_processes(process, dict.fromkeys("abcd"), 2)
    numbers = {int(each["process"]) for each in found.values()}
    assert os.getpid() not in numbers and len(numbers) in (1, 2)
    assert found["a"]["empty"].shape == (0, 3)
    found = train_in_processes(process, {"a": None}, 4)  # one job needs none
    assert int(found["a"]["process"]) == os.getpid()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("job", "text"),
    [("raise", "AwkwardError: a bad"), ("list", "TypeError: train must return a state")],
)
def test_an_error_names_its_job(workers, job, text):
    with pytest.raises(RuntimeError, match=rf"(?s)^train_in_processes: job 'b' failed:.*{text}"):
        train_in_processes(fail, {"a": "", "b": job, "c": ""}, workers)
    assert torch.get_num_threads() == 1


@pytest.mark.slow
@pytest.mark.parametrize("job", ["die", "function"])
def test_a_lost_process_is_an_error(job):
    with pytest.raises(RuntimeError, match=r"^train_in_processes: job '[ab]' failed: "):
        train_in_processes(fail, {"a": "", "b": job}, 2)


def test_a_function_that_cannot_be_sent():
    with pytest.raises(RuntimeError, match=r"^train_in_processes: job 'a' failed: "):
        train_in_processes(lambda job: {}, {"a": 0, "b": 0}, 2)


class Unsendable:
    """Fails to be pickled, when the failure of the job before it is already known."""

    def __reduce__(self):
        time.sleep(1)
        raise TypeError("cannot be sent")


@pytest.mark.slow
def test_jobs_that_cannot_be_sent():
    """An error, and no wait for ever, whichever of them fails first."""
    with pytest.raises(RuntimeError, match=r"^train_in_processes: job 'a' failed: .*local object"):
        train_in_processes(train, {"a": lambda: None, "b": Unsendable(), "c": Unsendable()}, 2)


def test_no_jobs():
    assert train_in_processes(train, {}, 3) == {}


# ---- from clusters to answers ------------------------------------------------------------------

CENTRES = torch.tensor([[0.0, 0, 2], [1, 0, 2], [0, 2, 0], [0, 2, 1], [2, 0, 0], [2, 1, 0.0]])


def data(rows, seed):
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(6, (rows,), generator=g)
    return CENTRES[label] + 0.7 * torch.randn(rows, 3, generator=g), label


def fit(net, x, target, batches):
    optimiser = torch.optim.Adam(net.parameters(), lr=0.02)
    for rows in batches:
        loss = nn.functional.cross_entropy(net(x[rows]), target[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net.eval().requires_grad_(False)


def test_the_bias_calibrates_a_specialist():
    """Trained on halves of a class that is one tenth: the mean dustbin is 1/2, or right with b."""
    torch.manual_seed(0)
    label = (torch.rand(20_000) > 0.1).long()
    x = torch.randn(20_000, 1) + label[:, None]
    sampler = HalfAndHalfBatchSampler(label == 0, 256, batches=300)
    net = fit(nn.Linear(1, 2), x, specialist_labels(label, (0,)), sampler)
    logits = net(x)
    assert abs(logits.softmax(1)[:, 1].mean() - 0.9) > 0.2
    logits[:, 1] += dustbin_bias(0.1, sampled=sampler.share)
    assert abs(logits.softmax(1)[:, 1].mean() - 0.9) < 0.01


def test_from_clusters_to_answers():
    """The clusters are the pairs that overlap, and specialists do not spoil the answer."""
    torch.manual_seed(0)
    x, label = data(1500, 0)
    x_test, label_test = data(3000, 1)
    generalist = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 6))
    fit(generalist, x, label, torch.randint(1500, (150, 64)))

    statistics = PredictionCovariance(6)
    for part in x.split(256):
        statistics.update(generalist(part).softmax(1))
    sets = class_clusters(statistics.covariance(), 3)
    assert sets == [(0, 1), (2, 3), (4, 5)]

    nets, biases = [], []
    for classes in sets:
        inside = torch.isin(label, torch.tensor(classes))
        sampler = HalfAndHalfBatchSampler(inside, 64, batches=200)
        net = specialist_of(generalist, "2", classes).requires_grad_()
        nets.append(fit(net, x, specialist_labels(label, classes), sampler))
        biases.append(dustbin_bias(float(inside.float().mean()), sampled=sampler.share))

    model = Specialists(generalist, nets, sets, biases)
    q = model(x_test)
    torch.testing.assert_close(q.sum(1), torch.ones(3000))
    alone = (generalist(x_test).argmax(1) == label_test).float().mean()
    assert (q.argmax(1) == label_test).float().mean() > alone - 0.01
