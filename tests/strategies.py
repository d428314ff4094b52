"""Random inputs for hypothesis: shapes, seeds and scales are drawn, numbers come from torch."""

import hypothesis.strategies as st
import torch

from .cases import generator

seeds = st.integers(0, 2**31)
temperatures = st.floats(0.25, 100)


@st.composite
def batch(draw, rows=(2, 12), columns=(1, 9), dtype=torch.float64, count=2):
    """Ordinary features, N x D and N x D."""
    shape = (draw(st.integers(*rows)), draw(st.integers(*columns)))
    return torch.randn((count, *shape), generator=generator(draw(seeds)), dtype=dtype).unbind()


@st.composite
def wild(draw, dtype=torch.float32, count=2):
    """Any finite logits up to 1e4, repeated values and rows included."""
    rows, columns = draw(st.integers(1, 8)), draw(st.integers(1, 40))
    g = generator(draw(seeds))
    scale = draw(st.sampled_from([1e-6, 1e-2, 1.0, 30.0, 2.5e3]))
    x = torch.randn((count, rows, columns), generator=g, dtype=torch.float64) * scale
    x = x.round(decimals=draw(st.sampled_from([0, 2, 9]))).clamp(-1e4, 1e4)
    x[:, :, draw(st.integers(0, columns - 1))] += draw(st.sampled_from([0.0, 40.0, -1e4]))
    return x.clamp(-1e4, 1e4).to(dtype).unbind()
