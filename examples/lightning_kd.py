"""Distil in Lightning: a LightningModule with a student, a frozen teacher and a method of kdops.

    python examples/lightning_kd.py [--quick]

The teacher is trained by the same module, without a teacher of its own. With several devices,
Trainer(devices=2, strategy="ddp"), give a relational method gather="all": see docs/distributed.md.
"""

import argparse
import logging
import warnings

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from kdops import Tapped, Teacher
from kdops.methods import RKD, Labels, Method
from kdops.training.data import Part, few, load
from kdops.training.nets import make_net

LAYERS = {"embedding": "embedding"}  # a method's names for layers, and the network's


class Distillation(lightning.LightningModule):
    """A student that learns by a method; Lightning's train() leaves a `Teacher` in eval mode."""

    def __init__(self, student: nn.Module, teacher: nn.Module | None, method: Method):
        super().__init__()
        self.student, self.method = Tapped(student, LAYERS), method
        # without requires_grad_(False), DistributedDataParallel would wait for its gradients
        self.teacher = teacher and Teacher(teacher.eval().requires_grad_(False), LAYERS)
        self.losses: list[float] = []  # of each epoch

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        images, labels = batch
        loss = self.method(self.student(images), self.teacher and self.teacher(images), labels)
        self.log("loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def on_train_epoch_end(self) -> None:
        self.losses.append(self.trainer.callback_metrics["loss"].item())

    def test_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        images, labels = batch
        right = self.student(images).logits.argmax(1) == labels
        self.log("accuracy", right.float().mean(), sync_dist=True)

    def configure_optimizers(self) -> dict:
        learned = [*self.student.parameters(), *self.method.parameters()]
        optimizer = torch.optim.Adam(learned, lr=1e-2)
        steps = self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def batches(part: Part, train: bool) -> DataLoader:
    rows = TensorDataset(part.images, part.labels)
    return DataLoader(rows, batch_size=64, shuffle=train, drop_last=train)


def fit(module: Distillation, part: Part, test: Part, steps: int) -> float:
    """Train the module; its accuracy on the test images, in per cent."""
    trainer = lightning.Trainer(
        max_epochs=-1,
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, batches(part, train=True))
    return 100 * trainer.test(module, batches(test, train=False), verbose=False)[0]["accuracy"]


def main(quick: bool) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", ".*(many workers|number of training batches|LeafSpec).*")
    warnings.filterwarnings("ignore", ".*in eval mode.*")  # the teacher is, and must be
    lightning.seed_everything(0, verbose=False)
    data = load("digits" if quick else "mnist5k")
    labelled = few(data.pool, 100 if quick else 300, seed=0)
    steps = 40 if quick else 600

    nets = [make_net(name, data.classes, data.channels) for name in ("teacher", "student")]
    score = fit(Distillation(nets[0], None, Labels()), data.pool, data.test, steps)
    distillation = Distillation(*reversed(nets), RKD(kd_weight=0.9, ce_weight=0.1))
    distilled = fit(distillation, labelled, data.test, steps)
    print(f"loss {distillation.losses[0]:.4f} -> {distillation.losses[-1]:.4f}")
    print(f"test accuracy: teacher {score:.1f} %, distilled {distilled:.1f} %")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds on a CPU")
    main(parser.parse_args().quick)
