"""A generalist and its specialists as one module."""

from collections.abc import Sequence

from torch import Tensor, nn

from ... import _checks
from ...reference.numbers import accumulation
from .inference import active_specialists, combine_specialists
from .subset import checked


class Specialists(nn.Module):
    """Inputs to probabilities: `combine_specialists` of the models' softmax at temperature 1.

    A specialist sees those rows of a batch alone for which it is active, and is not run where there
    are none: a synchronisation on a GPU. To be used in evaluation mode, for a
    batch norm would see those rows alone.

    Args:
        generalist: a module from inputs (B, ...) to logits (B, K).
        specialists: M modules to logits (B, |S^m| + 1), the dustbin last; K for one of all classes.
        classes: S^m of each, in the order of its outputs.
        biases: M numbers added to the dustbins' logits, see `dustbin_bias`; 0 by default.
        top, steps: as of `combine_specialists`.
    Returns:
        forward: (B, K) probabilities; float32, float64 for float64 logits.
    Raises:
        TypeError, ValueError: for wrong types, lengths or ranges.
    Source: Hinton, Vinyals, Dean, 2015, "Distilling the Knowledge in a Neural Network", section 5.

    >>> generalist, specialist = nn.Linear(8, 10), nn.Linear(8, 4)
    >>> bias = dustbin_bias(0.3)
    >>> Specialists(generalist, [specialist], [(3, 5, 8)], [bias])(torch.randn(4, 8)).shape
    torch.Size([4, 10])
    """

    def __init__(
        self,
        generalist: nn.Module,
        specialists: Sequence[nn.Module],
        classes: Sequence[Sequence[int]],
        biases: Sequence[float] | None = None,
        *,
        top: int = 1,
        steps: int = 30,
    ):
        super().__init__()
        biases = [0.0] * len(specialists) if biases is None else biases
        if not len(specialists) == len(classes) == len(biases):
            raise ValueError(
                "Specialists: specialists, classes and biases must have one entry a specialist, "
                f"got {len(specialists)}, {len(classes)} and {len(biases)}"
            )
        self.generalist, self.specialists = generalist, nn.ModuleList(specialists)
        self.classes = tuple(checked("Specialists", each) for each in classes)
        self.biases = tuple(float(_checks.number("Specialists", "biases", b)) for b in biases)
        self.top = _checks.integer("Specialists", "top", top, 1)
        self.steps = _checks.integer("Specialists", "steps", steps, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        generalist = accumulation(self.generalist(inputs)).softmax(-1)
        active = active_specialists(generalist, self.classes, top=self.top)
        answers = [self._answer(m, inputs, active[:, m], generalist) for m in range(len(active.T))]
        return combine_specialists(
            generalist, answers, self.classes, active=active, steps=self.steps
        )

    def _answer(self, m: int, inputs: Tensor, rows: Tensor, generalist: Tensor) -> Tensor:
        """Of specialist m where it is active; uniform elsewhere, which is not read."""
        size, (batch, total) = len(self.classes[m]), generalist.shape
        width = size + (size < total)
        answer = generalist.new_full((batch, width), 1 / width)
        if not rows.any():
            return answer
        logits = self.specialists[m](inputs[rows]).to(generalist.dtype)
        if logits.shape != (rows.sum(), width):
            raise ValueError(
                f"Specialists: specialists[{m}] must give {width} logits, "
                f"got shape {tuple(logits.shape)}"
            )
        if size < total:
            logits = logits + nn.functional.pad(logits.new_tensor([self.biases[m]]), (size, 0))
        return answer.index_put((rows,), logits.softmax(-1))

    def extra_repr(self) -> str:
        return f"classes={self.classes}, biases={self.biases}, top={self.top}, steps={self.steps}"
