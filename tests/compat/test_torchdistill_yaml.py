"""A YAML file of torchdistill, run by its own training code: one more line, the same curve."""

import sys
import types

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

pytest.importorskip("torchdistill", reason="torchdistill is not installed")
yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

LINE = "dependencies: [{name: kdops.compat.torchdistill}]\n"
FILE = """
train:
  num_epochs: 4
  train_data_loader:
    dataset_id: tiny
    sampler:
      class_or_func: !import_get {key: torch.utils.data.SequentialSampler}
    kwargs: {batch_size: 16, drop_last: True}
  teacher:
    forward_hook: {input: [fc], output: [fc]}
    forward_proc: forward_batch_only
    requires_grad: False
  student:
    forward_hook: {input: [fc], output: [body, fc]}
    forward_proc: forward_batch_only
  optimizer:
    key: SGD
    kwargs: {lr: 0.05, momentum: 0.9}
  scheduler:
    key: MultiStepLR
    kwargs: {milestones: [2], gamma: 0.1}
  criterion:
    key: WeightedSumLoss
    kwargs:
      sub_terms:
        kd:
          criterion:
            key: KDLoss
            kwargs:
              student_module_path: fc
              student_module_io: output
              teacher_module_path: fc
              teacher_module_io: output
              temperature: 4.0
              alpha: 0.1
              reduction: batchmean
          weight: 1.0
        rkd:
          criterion:
            key: RKDLoss
            kwargs:
              student_output_path: fc
              teacher_output_path: fc
              dist_factor: 1.0
              angle_factor: 2.0
              reduction: mean
          weight: 3.0
"""


class Net(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, width), nn.Tanh())
        self.fc = nn.Linear(width, 5)

    def forward(self, x):
        return self.fc(self.body(x))


@pytest.fixture
def training(monkeypatch):
    """torchdistill's DistillationBox. It imports torchvision for its zoo of models and data sets
    alone: where that is missing, empty names stand in for it.
    """
    try:
        import torchvision  # noqa: F401
    except ModuleNotFoundError:
        names = {
            "torchvision": ("models",),
            "torchvision.datasets": (),
            "torchvision.models": (),
            "torchvision.models.densenet": ("_DenseBlock", "_Transition"),
            "torchvision.models.resnet": ("BasicBlock", "conv1x1"),
        }
        for module, wanted in names.items():
            stand_in = types.ModuleType(module)
            for name in wanted:
                setattr(stand_in, name, object)
            monkeypatch.setitem(sys.modules, module, stand_in)
    from torchdistill.core.distillation import DistillationBox

    return DistillationBox


@pytest.fixture
def as_imported_first(monkeypatch):
    """torchdistill's own losses in its registry, and kdops's module not yet imported."""
    from torchdistill.losses import mid_level, registry

    for name in list(registry.MIDDLE_LEVEL_LOSS_DICT):
        own = getattr(mid_level, name)
        monkeypatch.setitem(registry.MIDDLE_LEVEL_LOSS_DICT, name, own)
    monkeypatch.delitem(sys.modules, "kdops.compat.torchdistill", raising=False)


def trained(training, path, dtype):
    """The loss of each step, whose losses they were, and the student's weights at the end."""
    from torchdistill.common import main_util, yaml_util

    config = yaml_util.load_yaml_file(str(path))
    main_util.import_dependencies(config.get("dependencies"))
    torch.manual_seed(0)
    images, labels = torch.randn(48, 8, dtype=dtype), torch.arange(48) % 5
    teacher, student = Net(16).to(dtype), Net(6).to(dtype)
    data = {"tiny": TensorDataset(images, labels)}
    device = torch.device("cpu")
    box = training(teacher, student, data, config["train"], device, None, False, 1)
    curve = []
    for epoch in range(box.num_epochs):
        box.pre_epoch_process(epoch=epoch)
        for batch, targets, extra in box.train_data_loader:
            box.pre_forward_process()
            loss = box.forward_process(batch, targets, extra)
            curve.append(loss.item())
            box.post_forward_process(loss=loss)
        box.post_epoch_process()
    criteria = [type(criterion) for criterion, _ in box.criterion.term_dict.values()]
    return curve, criteria, [weight.detach() for weight in student.parameters()]


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_the_same_curve(backend, training, as_imported_first, tmp_path, dtype, tolerance):
    path = tmp_path / "rkd.yaml"
    path.write_text(FILE)
    expected, own, weights = trained(training, path, dtype)
    path.write_text(LINE + FILE)
    curve, criteria, found = trained(training, path, dtype)
    assert {cls.__module__.partition(".")[0] for cls in own} == {"torchdistill"}
    assert {cls.__module__.partition(".")[0] for cls in criteria} == {"kdops"}
    assert [cls.__name__ for cls in criteria] == [cls.__name__ for cls in own]
    assert len(curve) == 12 and curve[-1] < 0.9 * curve[0]
    assert curve == pytest.approx(expected, rel=tolerance)
    for ours, theirs in zip(found, weights, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
