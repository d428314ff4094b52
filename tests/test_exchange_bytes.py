"""A peer's weights as bytes and back; what is not whole is refused."""

import zlib

import pytest
import torch

from kdops.peers.exchange import Checkpoint, decode, encode
from kdops.peers.exchange.checkpoint import not_finite


def test_bytes_of_every_type():
    types = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool")
    state = {name: torch.arange(6).view(2, 3).to(getattr(torch, name)) for name in types}
    state |= {"one": torch.tensor(2.5), "none": torch.empty(0, 3), "turned": torch.ones(2, 5).T}
    found = decode(encode(Checkpoint(7, 5, state)))
    assert (found.step, found.origin) == (7, 5)
    assert list(found.state) == list(state)
    for name, x in state.items():
        assert torch.equal(found.state[name], x) and found.state[name].dtype == x.dtype


def test_what_cannot_be_published():
    with pytest.raises(TypeError, match="must be dense tensors, not so: extra, sparse"):
        encode(Checkpoint(0, 0, {"sparse": torch.eye(2).to_sparse(), "extra": 3}))


def test_every_cut_and_every_changed_byte_is_refused():
    data = encode(Checkpoint(3, 0, {"weight": torch.ones(4)}))
    for length in range(len(data)):
        with pytest.raises(ValueError, match="cut"):
            decode(data[:length])
    for place in range(len(data)):
        changed = data.clone()
        changed[place] ^= 1
        with pytest.raises(ValueError, match="cut"):
            decode(changed)


@pytest.mark.parametrize(
    "change",
    [
        (b'"step"', b'"stop"'),
        (b'"little"', b'"big"   '),
        (b'"float32"', b'"floatxx"'),
        (b"[2, 2]", b"[2, 3]"),
        (b"[2, 2]", b"[-2,2]"),
        (b"[2, 2]", b"[2, 1]"),
        (b'{"step"', b'["step"'),
    ],
)
def test_a_header_that_says_something_else(change):
    """With a checksum that is right."""
    data = encode(Checkpoint(3, 0, {"weight": torch.ones(2, 2)})).numpy().tobytes()
    assert change[0] in data
    data = data.replace(*change)
    data = data[:8] + zlib.crc32(data[12:]).to_bytes(4, "little") + data[12:]
    with pytest.raises(ValueError, match=r"its (header|size)"):
        decode(torch.frombuffer(bytearray(data), dtype=torch.uint8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_large_weights_are_finite(dtype):
    """Also where their sum is not."""
    state = {
        "count": torch.tensor(3),
        "weight": torch.full((4,), torch.finfo(dtype).max, dtype=dtype),
    }
    assert not_finite(state) is None
    for value in (torch.nan, torch.inf, -torch.inf):
        state["weight"][2] = value
        assert not_finite(state) == "weight"
