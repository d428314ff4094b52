"""Distil with Hugging Face's Trainer: a Trainer whose loss is kdops.kd_loss.

    python examples/hf_trainer.py [--quick]

Both nets are vision transformers made on the spot; nothing is downloaded. Put your own in their
place: anything whose output has `logits`.
"""

import argparse
import tempfile

import torch
from torch import nn
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification
from transformers.utils import logging

import kdops
from kdops.training.data import Part, few, load


class KDTrainer(Trainer):
    """kd_weight T^2 KL(teacher || student) + ce_weight CE(labels), a mean over rows."""

    def __init__(self, *args, teacher: nn.Module, **options):
        self.loss_options = {
            name: options.pop(name) for name in ("temperature", "kd_weight", "ce_weight")
        }
        super().__init__(*args, **options)
        self.teacher = teacher.eval().requires_grad_(False).to(self.args.device)
        # The loss below is a mean of its own batch: let the Trainer divide it by the number of
        # accumulated batches. It would not for a model that takes **kwargs, as ViT does.
        self.model_accepts_loss_kwargs = False

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        inputs = dict(inputs)
        labels = inputs.pop("labels")  # with labels the model would compute a loss too
        outputs = model(**inputs)
        with torch.no_grad():
            teacher = self.teacher(**inputs)
        loss = kdops.kd_loss(outputs.logits, teacher.logits, labels, **self.loss_options)
        return (loss, outputs) if return_outputs else loss


def make_net(width: int, layers: int, size: int, classes: int) -> ViTForImageClassification:
    config = ViTConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        image_size=size,
        patch_size=size // 4,
        num_channels=1,
        num_labels=classes,
        initializer_range=0.2,
    )
    return ViTForImageClassification(config)


def rows(part: Part) -> list[dict]:
    return [
        {"pixel_values": image, "labels": label}
        for image, label in zip(part.images, part.labels, strict=True)
    ]


def arguments(folder: str, steps: int) -> TrainingArguments:
    return TrainingArguments(
        folder,
        max_steps=steps,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=256,
        gradient_accumulation_steps=2,
        learning_rate=5e-3,
        logging_steps=steps // 5,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=0,
    )


def accuracy(answers) -> dict:
    return {"accuracy": (answers.predictions.argmax(-1) == answers.label_ids).mean().item()}


def main(quick: bool) -> None:
    logging.set_verbosity_error()
    torch.manual_seed(0)
    data = load("digits" if quick else "mnist5k")
    labelled, test = rows(few(data.pool, 200 if quick else 300, seed=0)), rows(data.test)
    size, steps = data.test.images.shape[-1], 40 if quick else 600
    teacher, student = (make_net(*shape, size, data.classes) for shape in ((48, 2), (24, 1)))

    with tempfile.TemporaryDirectory() as folder:
        common = {"args": arguments(folder, steps), "compute_metrics": accuracy}
        taught = Trainer(teacher, train_dataset=rows(data.pool), eval_dataset=test, **common)
        taught.train()
        trainer = KDTrainer(
            student,
            teacher=teacher,
            temperature=4.0,
            kd_weight=0.9,
            ce_weight=0.1,
            train_dataset=labelled,
            eval_dataset=test,
            **common,
        )
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        scores = [100 * run.evaluate()["eval_accuracy"] for run in (taught, trainer)]
    print(f"loss {float(losses[0]):.4f} -> {float(losses[-1]):.4f}")
    print("test accuracy: teacher {:.1f} %, distilled {:.1f} %".format(*scores))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds on a CPU")
    main(parser.parse_args().quick)
