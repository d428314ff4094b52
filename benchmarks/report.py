"""The table, in Markdown, from a file of results: python -m benchmarks.report [results.json]."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from kdops.bench.text import markdown, number, size

FOLDER = Path(__file__).parent / "results"
COLUMNS = ("eager", "published", "torchdistill", "compile")


def row(workload, figures: dict) -> dict:
    """A workload and its figures as plain data."""
    return {
        "name": str(workload),
        "case": workload.case.name,
        "shape": list(workload.shape),
        "dtype": str(workload.dtype)[6:],
        "distribution": workload.distribution,
        "group": workload.group,
        "bound": workload.limit,
        "goal": asdict(workload.goal),
        **figures,
    }


def rounded(value):
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [rounded(entry) for entry in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def write(results: dict, path: Path) -> None:
    """One row a line, so that two runs can be compared by eye and by diff."""
    head = {key: value for key, value in results.items() if key != "rows"}
    lines = ",\n".join(json.dumps(rounded(entry)) for entry in results["rows"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{json.dumps(head, indent=1)[:-2]},\n "rows": [\n{lines}\n]}}\n')


def error(row: dict, name: str) -> str:
    errors = row["errors"].get(name)
    return f"{errors['loss_error']:.0e}, {errors['gradient_error']:.0e}" if errors else ""


def verdicts(row: dict) -> dict[str, tuple[str, bool]]:
    """Of each goal: its bound in words, and whether it is reached."""
    goal, ratio, memory = row["goal"], row["ratio"], row.get("memory", {})
    found = {}
    if goal["peer"] and row["peer"]:
        found["peers"] = f"{goal['peer']:g}x", row["peer"] >= goal["peer"]
    if goal["compile"] and "compile" in ratio:
        found["compile"] = f"{goal['compile']:g}x", ratio["compile"] >= goal["compile"]
    if goal["limit"]:
        found["limit"] = f"{goal['limit']:g}x", row["limit"] <= goal["limit"]
    if goal["memory"] and memory:
        found["memory"] = size(goal["memory"]), memory["kdops"] <= goal["memory"]
    if goal["accurate"]:
        ours, theirs = (row["errors"][name]["gradient_error"] for name in ("kdops", "eager"))
        found["error"] = "eager's", ours <= theirs
    return found


def losses(rows: list[dict]) -> list[list[str]]:
    head = ["workload", "ms", *COLUMNS, "limit", "memory", "eager's", "error", "eager's"]
    body = []
    for row in rows:
        found = verdicts(row)
        missed = [name for name, (_, reached) in found.items() if not reached]
        body.append(
            [
                row["name"],
                f"{row['seconds'] * 1e3:.3g}",
                *(number(row["ratio"].get(name), "x") for name in COLUMNS),
                number(row.get("limit"), "x"),
                size(row["memory"]["kdops"]),
                size(row["memory"].get("eager")),
                error(row, "kdops"),
                error(row, "eager"),
                ", ".join(f"{name} {bound}" for name, (bound, _) in found.items()),
                ("not " + ", ".join(missed) if missed else "yes") if found else "",
            ]
        )
    return [[*head, "goals", "reached"], *body]


def by_area(size: str) -> int:
    rows, columns = map(int, size.split("x"))
    return rows * columns


def small_batches(rows: list[dict]) -> list[list[str]]:
    """Rows by loss, columns by size; in a cell eager's time over ours, a dtype each."""
    cells: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        size = "x".join(map(str, row["shape"]))
        short = row["dtype"].replace("float", "f")
        sizes = cells.setdefault(row["case"], {})
        sizes.setdefault(size, []).append(f"{short} {number(row['ratio']['eager'], 'x')}")
    columns = sorted({size for sizes in cells.values() for size in sizes}, key=by_area)
    body = [
        [name, *(", ".join(sizes.get(size, [])) for size in columns)]
        for name, sizes in cells.items()
    ]
    return [["eager / kdops", *columns], *body]


def text(results: dict) -> str:
    """Both tables under a line on the machine."""
    groups = {"losses": [], "small batches": []}
    for entry in results["rows"]:
        groups[entry["group"]].append(entry)
    found = [verdict for entry in results["rows"] for verdict in verdicts(entry).values()]
    head = (
        f"{results['processor']}, {results['threads']} thread, kernels {results['kernels']}, "
        f"kdops {results['kdops']} ({results['commit']}), torch {results['torch']}, "
        f"{results['date']}: {sum(reached for _, reached in found)} of {len(found)} goals reached"
    )
    tables = [(groups["losses"], losses), (groups["small batches"], small_batches)]
    return "\n\n".join([head, *(markdown(make(rows)) for rows, make in tables if rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="*", help="default: all in benchmarks/results")
    from .gpu import table as gpu  # it stands on this module

    paths = parser.parse_args().results or sorted(FOLDER.glob("*.json"))
    found = [json.loads(path.read_text()) for path in paths]
    print("\n\n".join(gpu.text(each) if "card" in each else text(each) for each in found))


if __name__ == "__main__":
    main()
