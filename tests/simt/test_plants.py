"""Bugs planted in sound kernels: each is found by a build, or the emulator vouches for nothing."""

import os
import re
import subprocess

import pytest

from . import build

pytestmark = [
    pytest.mark.skipif(build.missing() is not None, reason=str(build.missing())),
    pytest.mark.skipif("SIMT_MODE" in os.environ, reason="starts processes of every mode itself"),
]
MODES = ("plain", "address", "thread")
ORDERS = ("forward", "reverse", "random:1", "random:2", "random:3")
REPORTED = 66  # a sanitizer's exit code

WRONG = {"plain": "wrong"}
OVERFLOW = {"address": "heap-buffer-overflow"}
RACE = {"thread": "data race"}
FOUND_BY = {
    "static_index": {"address": "heap-buffer-overflow|index 2 out of bounds"},
    "static_pointer": OVERFLOW,
    "dynamic_end": OVERFLOW | WRONG,
    "input_tail": OVERFLOW,
    "output_tail": OVERFLOW | RACE,
    "misaligned": {"address": "misaligned address"},
    "no_barrier_after_write": RACE | WRONG,
    "no_barrier_before_reuse": RACE | WRONG,
    "barrier_in_branch": {"plain": "plants.cuh:"},
    "return_before_barrier": {"plain": "has returned"},
    "unset_shared": WRONG,
    "half_warp_mask": {"plain": "a mask without it"},
    "tile_row": {"address": "index 9 out of bounds"},
    "no_barrier_after_tile": RACE | WRONG,
    "no_barrier_before_tile": RACE | WRONG,
    "no_warp_barrier": RACE | WRONG,
    "half_warp_barrier": RACE | WRONG,
    "one_cell_two_threads": RACE,
    "one_cell_two_blocks": RACE,
    "one_cell_same_thread": RACE,
}


def run(plant, mode, order):
    program = build.build("plants", mode, module=False)
    env = {**build.environment(mode, preload=False), "SIMT_ORDER": order}
    return subprocess.run([program, plant], env=env, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", MODES)
def test_sound_kernels_pass(mode, order):
    done = run("sound", mode, order)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("plant", "mode", "message"),
    [(plant, mode, text) for plant, modes in FOUND_BY.items() for mode, text in modes.items()],
)
def test_plant_is_found(plant, mode, message):
    orders = ORDERS if mode == "plain" else ("forward",)
    done = [run(plant, mode, order) for order in orders]
    code = {"wrong": 1}.get(message, 2 if mode == "plain" else REPORTED)
    found = (d.stderr for d in done if d.returncode == code)
    assert any(message == "wrong" or re.search(message, text) for text in found), done


def test_every_plant_is_listed():
    source = (build.HERE / "plants.cpp").read_text()
    assert re.findall(r'\{"(\w+)", ', source) == ["sound", *FOUND_BY]
