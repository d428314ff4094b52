"""Options, and what becomes of the figures: benchmarks/results/<machine>.json, a picture, a table.

--quick ends in two minutes, leaves torch.compile out and writes no file; --full adds what takes
minutes or much memory. KDOPS_BACKEND=reference times the reference.
"""

from pathlib import Path

import pytest

from . import machine, report

TIERS = {"quick": ("quick",), "default": ("quick", "default"), "full": ("quick", "default", "full")}
BUDGET = {"quick": 0.3, "default": 2.0, "full": 4.0}  # CPU seconds of the rounds of one workload
SMALL_BUDGET = 0.15
rows = pytest.StashKey[list]()


def pytest_addoption(parser):
    group = parser.getgroup("kdops")
    group.addoption("--quick", action="store_true", help="a few sizes, without torch.compile")
    group.addoption("--full", action="store_true", help="also what takes minutes or much memory")
    group.addoption("--results", type=Path, help="default: benchmarks/results/<machine>.json")


def mode(config) -> str:
    full = "full" if config.getoption("--full") else "default"
    return "quick" if config.getoption("--quick") else full


def pytest_configure(config):
    config.stash[rows] = []
    config.option.benchmark_quiet = True  # one table, ours


def pytest_collection_modifyitems(config, items):
    wanted = TIERS[mode(config)]
    left_out = [item for item in items if item.callspec.params["workload"].tier not in wanted]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def compiled(request) -> bool:
    return mode(request.config) != "quick"


@pytest.fixture
def budget(request, workload) -> float:
    budget = BUDGET[mode(request.config)]
    return min(budget, SMALL_BUDGET) if workload.group == "small batches" else budget


@pytest.fixture
def record(request):
    """Keep the figures of a workload."""

    def keep(workload, figures: dict) -> None:
        request.config.stash[rows].append(report.row(workload, figures))

    return keep


def pytest_terminal_summary(terminalreporter, config):
    if not config.stash[rows]:
        return
    results = machine.description() | {"mode": mode(config), "rows": config.stash[rows]}
    terminalreporter.write_line(f"\n{report.text(results)}\n")
    path = config.getoption("--results")
    if path is None:
        if mode(config) == "quick" or config.option.keyword:
            terminalreporter.write_line("a part of the workloads: no file is written")
            return
        path = report.FOLDER / f"{machine.slug()}.json"
    report.write(results, path)
    terminalreporter.write_line(f"written to {path}")
    try:
        from . import plots
    except ImportError:
        terminalreporter.write_line("no picture: matplotlib is not installed")
    else:
        plots.draw(results, path.with_suffix(".svg"))
