"""The table of a GPU's results: at most 50 lines of 110 columns."""

from kdops.bench.text import MIB, number

from .. import report

WIDTH = 110
HEAD = (
    "workload",
    "us",
    "graph",
    "wall",
    "floor",
    "binds",
    "eager",
    "wall",
    "compile",
    "liger",
    "MiB",
    "error",
    "goals",
)
SHORT = {"bytes": "bytes", "arithmetic": "arith", "launches": "launch"}


def verdicts(row: dict) -> dict[str, tuple[str, bool]]:
    """Of each goal: its bound in words, and whether it is reached."""
    found, goal = report.verdicts(row), row["goal"]
    if row["binds"] == "launches":
        found.pop("limit", None)
        if row["launches"] is not None:
            reached = row["launches"] <= goal["launches"] and not row["waits"]
            found["launches"] = str(goal["launches"]), reached
    if goal["seconds"]:
        found["seconds"] = f"{goal['seconds']:g}", row["device"]["kdops"] <= goal["seconds"]
    if "accuracy" in row:
        pairs = zip(row["accuracy"]["found"], row["accuracy"]["bounds"], strict=True)
        found["error"] = "the tests'", all(value <= bound for value, bound in pairs)
    return found


def micro(seconds: float | None) -> str:
    return number(seconds and seconds * 1e6)


def ratio(value: float | None) -> str:
    return number(value, "x")


def _wall_ratio(row: dict) -> float | None:
    eager = [row["wall"][name] for name in ("eager", "published") if name in row["wall"]]
    return min(eager) / row["wall"]["kdops"] if eager else None


def _error(row: dict) -> str:
    errors = row["errors"].get("kdops")
    return f"{errors['gradient_error']:.0e}" if errors else ""


def _goals(row: dict) -> str:
    found = verdicts(row)
    missed = [name for name, (_, reached) in found.items() if not reached]
    return "not " + ",".join(missed) if missed else "yes" if found else ""


def _cells(row: dict) -> list[str]:
    return [
        row["name"].replace("bfloat16", "bf16").replace("_loss", ""),
        micro(row["device"]["kdops"]),
        micro(row["graph"]) if "graph" in row else "",
        micro(row["wall"]["kdops"]),
        ratio(row["limit"]),
        SHORT[row["binds"]],
        ratio(row["peer"]),
        ratio(_wall_ratio(row)),
        ratio(row["ratio"].get("compile")),
        ratio(row["ratio"].get("liger")),
        number(row["memory"]["kdops"] / MIB),
        _error(row),
        _goals(row),
    ]


def text(results: dict) -> str:
    """us, floor, eager, compile, liger: the device's time, what it is over the floor and over it;
    graph: replayed; wall: of the host's clock, ours and eager's over it."""
    rows = [row for row in results["rows"] if "failed" not in row]
    table = [list(HEAD), *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        " ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in table
    ]
    lines += [f"{row['name']}: {row['failed']}" for row in results["rows"] if "failed" in row]
    rates = results["rates"]
    found = [reached for row in rows for _, reached in verdicts(row).values()]
    head = (
        f"{results['card']}: copy {rates['copy'] / 1e9:.0f} GB/s, launch "
        f"{rates['launch'] * 1e6:.2g} us (host {rates['host_launch'] * 1e6:.2g}), "
        f"{rates['instructions'] / 1e12:.3g} T lanes/s from {rates['instructions_from']}"
    )
    last = (
        f"{sum(found)} of {len(found)} goals reached, {len(results['rows']) - len(rows)} of "
        f"{len(results['rows'])} workloads failed; kdops {results['commit']}, "
        f"torch {results['torch']}, {results['date']}, {results['seconds']:.0f} s"
    )
    return "\n".join(line[:WIDTH] for line in [head, *lines, last])
