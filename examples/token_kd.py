"""Distil a causal language model token by token: prompts masked, gradients accumulated exactly.

    python examples/token_kd.py [--quick]

The loss of a token is kdops.kd_loss; a label of -100 counts nowhere. Micro-batches have different
numbers of counted tokens, so a mean of their means is not the mean of the batch: each gives its
*sum*, over the number of tokens counted in the whole batch. That number is num_items_in_batch in
a Trainer's compute_loss, and `kd_of_tokens` can stand there. Under DistributedDataParallel,
which averages gradients, count over all ranks and multiply the loss by their number.

The language is a Markov chain, the models are LLaMAs made on the spot; nothing is downloaded.
"""

import argparse
import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

import kdops

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
VOCABULARY, LENGTH, IGNORED = 48, 24, -100


def next_tokens(labels: Tensor) -> Tensor:
    """Of each position the label that it predicts; logits stay whole, unlike logits[:, :-1]."""
    return F.pad(labels[:, 1:], (0, 1), value=IGNORED)


def kd_of_tokens(student: Tensor, teacher: Tensor, labels: Tensor, num_items: Tensor) -> Tensor:
    """The sum over the counted tokens of this micro-batch, over those of the whole batch."""
    total = kdops.kd_loss(
        student,
        teacher,
        next_tokens(labels),
        temperature=2.0,
        kd_weight=0.5,
        ce_weight=0.5,
        reduction="sum",
        ignore_index=IGNORED,
    )
    return total / num_items


def sentences(count: int, chain: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens of the chain, and labels: -100 on prompts, and on the padding of short ones."""
    tokens = [torch.randint(VOCABULARY, (count,))]
    for _ in range(LENGTH - 1):
        tokens.append(chain[tokens[-1]].multinomial(1).squeeze(1))
    tokens, place = torch.stack(tokens, 1), torch.arange(LENGTH)
    prompt = torch.randint(2, LENGTH // 2, (count, 1))
    end = torch.randint(LENGTH // 2 + 1, LENGTH + 1, (count, 1))
    labels = tokens.masked_fill((place < prompt) | (place >= end), IGNORED)
    return tokens.to(DEVICE), labels.to(DEVICE)


def make_model(width: int) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
    )
    return LlamaForCausalLM(config).to(DEVICE)


def accumulate(student: nn.Module, teacher: nn.Module, batch: tuple, parts: int) -> Tensor:
    """Gradients of the batch, `parts` micro-batches one after the other; the batch's loss."""
    tokens, labels = batch
    num_items = (next_tokens(labels) != IGNORED).sum()
    loss = torch.zeros((), device=DEVICE)
    for x, y in zip(tokens.chunk(parts), labels.chunk(parts), strict=True):
        with torch.no_grad():
            answers = teacher(x).logits
        part = kd_of_tokens(student(x).logits, answers, y, num_items)
        part.backward()
        loss += part.detach()
    return loss


def train(model: LlamaForCausalLM, backward, steps: int) -> list[float]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(steps):
        losses.append(backward().item())
        optimizer.step()
        optimizer.zero_grad()
    return losses


def main(quick: bool) -> None:
    torch.manual_seed(0)
    chain = (2 * torch.randn(VOCABULARY, VOCABULARY)).softmax(1)
    steps, size = (40, 32) if quick else (400, 64)
    teacher, student = make_model(64), make_model(16)

    def by_labels() -> Tensor:
        tokens, labels = sentences(size, chain)
        logits = teacher(tokens).logits
        loss = F.cross_entropy(logits.flatten(0, 1), next_tokens(labels).flatten())
        loss.backward()
        return loss.detach()

    train(teacher, by_labels, 2 * steps)
    teacher.eval().requires_grad_(False)
    losses = train(student, lambda: accumulate(student, teacher, sentences(size, chain), 4), steps)

    batch, twin = sentences(size, chain), copy.deepcopy(student)
    accumulate(student, teacher, batch, parts=4)
    accumulate(twin, teacher, batch, parts=1)
    pairs = zip(student.parameters(), twin.parameters(), strict=True)
    apart = max((p.grad - q.grad).abs().max().item() for p, q in pairs)
    print(f"loss {losses[0]:.4f} -> {losses[-1]:.4f}")
    print(f"gradients of 4 micro-batches and of one batch: largest difference {apart:.1e}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds on a CPU")
    main(parser.parse_args().quick)
