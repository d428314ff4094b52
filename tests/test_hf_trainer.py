"""The Trainer of examples/hf_trainer.py: accumulated batches train as one batch does."""

import runpy
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers", reason="no transformers here")
pytest.importorskip("accelerate", reason="no accelerate here")
pytest.importorskip("sklearn", reason="needs the extra kdops[train]")

EXAMPLE = Path(__file__).parents[1] / "examples" / "hf_trainer.py"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not EXAMPLE.exists(), reason="not a source tree"),
    pytest.mark.filterwarnings("ignore:.*pin_memory"),
]


def trained(example: dict, folder, batch: int, accumulated: int) -> tuple[float, torch.Tensor]:
    """The loss that is logged of one step, and the weights after it."""
    from transformers import TrainingArguments

    torch.manual_seed(0)
    teacher, student = (example["make_net"](8, 1, 8, 4) for _ in range(2))
    g = torch.Generator().manual_seed(1)
    rows = [{"pixel_values": torch.randn(1, 8, 8, generator=g), "labels": i % 4} for i in range(16)]
    arguments = TrainingArguments(
        str(folder),
        max_steps=1,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulated,
        optim="sgd",
        learning_rate=0.1,
        max_grad_norm=0,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    options = {"temperature": 2.0, "kd_weight": 0.5, "ce_weight": 0.5}
    trainer = example["KDTrainer"](
        student, arguments, teacher=teacher, train_dataset=rows, **options
    )
    trainer.train()
    [loss] = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    return loss, torch.cat([p.detach().flatten() for p in student.parameters()])


def test_accumulated_batches(tmp_path):
    example = runpy.run_path(str(EXAMPLE))
    one, weights = trained(example, tmp_path, batch=16, accumulated=1)
    several, same = trained(example, tmp_path, batch=4, accumulated=4)
    assert several == pytest.approx(one, rel=1e-3)
    torch.testing.assert_close(same, weights)
