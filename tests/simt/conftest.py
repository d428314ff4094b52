"""Kernels run in each order of threads and blocks; under a sanitizer, which is slow, in two."""

import os

import pytest

from . import build

ORDERS = ("forward", "reverse", "random:1", "random:2", "random:3")


@pytest.fixture(params=ORDERS if "SIMT_MODE" not in os.environ else ("reverse", "random:1"))
def order(request, monkeypatch):
    monkeypatch.setenv("SIMT_ORDER", request.param)
    return request.param


@pytest.fixture
def selftest(order):
    return build.load("selftest")
