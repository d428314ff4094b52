"""RKD in timm's training: a training task in the place of timm's FeatureDistillationTask.

    python examples/timm_training.py [--quick]

Model, task, optimizer and schedule are timm's own. Its script, train.py, makes the task from
--kd-model-name with --kd-distill-type feature: make a `RelationalDistillationTask` there, with the
same arguments. Needs timm >= 1.0.31, and torchvision with it.
"""

import argparse

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import kdops
from kdops.training.data import Part, few, load

try:
    from timm import create_model
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2
    from timm.task import ClassificationTask, FeatureDistillationTask, TrainingTask
    from timm.utils import AverageMeter, accuracy
except ImportError as error:
    raise SystemExit(f"{__file__} needs timm >= 1.0.31 and torchvision: {error}") from None

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class RelationalDistillationTask(FeatureDistillationTask):
    """timm's labels + distill_loss_weight * RKD of the pooled features before the classifier.

    Of several processes the relation is the one of the global batch.
    """

    def __init__(self, *args, distance_weight: float = 1.0, angle_weight: float = 2.0, **options):
        super().__init__(*args, **options)
        self.trainable_module.projection = None  # a relation is between rows: widths may differ
        gather = "all" if dist.is_available() and dist.is_initialized() else None
        self.relation = kdops.nn.RKDLoss(distance_weight, angle_weight, gather=gather)

    def forward(self, input: Tensor, target: Tensor) -> dict[str, Tensor]:
        logits, features = self.trainable_module(input)
        with torch.no_grad():
            teacher_input = self.teacher.normalize_input(input, self.student_mean, self.student_std)
            teacher_features = self.teacher(teacher_input, return_features=True)
        task_loss = self.criterion(logits, target)
        kd_loss = self.relation(features, teacher_features)
        loss = self.task_loss_weight * task_loss + self.distill_loss_weight * kd_loss
        return {"loss": loss, "output": logits, "task_loss": task_loss, "kd_loss": kd_loss}


def batches(part: Part, train: bool) -> DataLoader:
    """Grey images as timm's models want them: 32 x 32, three channels, about -1 to 1."""
    images = nn.functional.interpolate(part.images, size=32).expand(-1, 3, -1, -1) * 2 - 1
    rows = TensorDataset(images, part.labels)
    return DataLoader(rows, batch_size=64, shuffle=train, drop_last=train)


def fit(task: TrainingTask, part: Part, epochs: int) -> tuple[float, float]:
    """The loss of the first and of the last epoch."""
    loader, losses = batches(part, train=True), []
    optimizer = create_optimizer_v2(task.get_trainable_module(), opt="adamw", lr=2e-3)
    schedule, epochs = create_scheduler_v2(optimizer, sched="cosine", num_epochs=epochs)
    for epoch in range(epochs):
        task.train()
        meter = AverageMeter()
        for images, labels in loader:
            result = task(images.to(DEVICE), labels.to(DEVICE))
            result["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()
            meter.update(result["loss"].item(), len(images))
        schedule.step(epoch + 1)
        losses.append(meter.avg)
    return losses[0], losses[-1]


@torch.no_grad()
def score(task: TrainingTask, part: Part) -> float:
    net, meter = task.get_eval_model().eval(), AverageMeter()
    for images, labels in batches(part, train=False):
        (top1,) = accuracy(net(images.to(DEVICE)), labels.to(DEVICE))
        meter.update(top1.item(), len(images))
    return meter.avg


def main(quick: bool) -> None:
    torch.manual_seed(0)
    data = load("digits" if quick else "mnist5k")
    labelled = few(data.pool, 200 if quick else 300, seed=0)
    epochs = 2 if quick else 20
    names = ("test_resnet", "test_efficientnet") if quick else ("resnet18", "test_resnet")
    teacher, student = (create_model(x, num_classes=data.classes).to(DEVICE) for x in names)
    common = {"criterion": nn.CrossEntropyLoss(), "device": DEVICE}

    taught = ClassificationTask(teacher, **common)
    fit(taught, data.pool, epochs)
    task = RelationalDistillationTask(student, teacher, distill_loss_weight=25.0, **common)
    first, last = fit(task, labelled, 4 * epochs)
    print(f"loss {first:.4f} -> {last:.4f}")
    scores = [score(each, data.test) for each in (taught, task)]
    print("test accuracy: teacher {:.1f} %, distilled {:.1f} %".format(*scores))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seconds on a CPU")
    main(parser.parse_args().quick)
