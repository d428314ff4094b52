"""Peers without a teacher: the net that is deployed beside the same net trained on labels alone."""

from collections.abc import Mapping
from dataclasses import replace

from ..results.compare import Entry, same_protocol
from ..results.statistics import Gain, gains_of_pairs, paired_gains
from ..results.tables import Table, probability, seeds_text, spread
from .study import Arm

ALONE = Arm("dml", changes={"weight": 0})  # two nets that learn nothing from each other
METHODS = {
    "alone": ALONE,
    "dml": Arm("dml"),
    "dml-alternating": Arm("dml-alternating"),
    "codistillation": Arm("codistillation", changes={"shards": "same"}),
    "kdcl": Arm("kdcl"),
    "kdcl-naive": Arm("kdcl-naive"),
    "kdcl-linear": Arm("kdcl-linear"),
    "kdcl-general": Arm("kdcl-general"),
    "one": Arm("one"),
    "collaborative": Arm("collaborative"),
    "dcm": Arm("dcm"),
    "okddip": Arm("okddip"),
}
STAGES = {"at": ["middle", "branch"]}  # of the ResNet, whose embedding has no weights before it
LARGER = {
    "labels": Arm("labels"),
    **{name: METHODS[name] for name in ("alone", "dml", "kdcl", "one")},
    "collaborative": Arm("collaborative", changes=STAGES),
    "okddip": METHODS["okddip"],
}
SHARDS = {
    "alone": Arm("codistillation", changes={"weight": 0}),
    "codistillation": Arm("codistillation"),
}
OF_ARMS = {
    "codistillation": "codistillation: both nets see all images here.",
    "kdcl-general": "kdcl-general fits its weights on the validation images.",
}
ARMS = {
    **{f"online-{name}": arm for name, arm in METHODS.items()},
    **{f"resnet-{n}": replace(arm, setting={"student": "resnet"}) for n, arm in LARGER.items()},
    **{f"shards-{name}": arm for name, arm in SHARDS.items()},
}


def sections(entries: Mapping[str, Entry]) -> list[str]:
    """The tables, of results that have these arms."""
    if not ARMS.keys() <= entries.keys():
        return []
    peers = {name: entries[f"online-{name}"] for name in METHODS}
    larger = {name: entries[f"resnet-{name}"] for name in LARGER}
    shards = {name: entries[f"shards-{name}"] for name in SHARDS}
    return [
        "The online methods have no teacher: peers learn from each other, and from labels.\n",
        peers_table("Peers", {"labels": entries["labels"], **peers}).markdown(),
        peers_table("Larger peers", larger).markdown(),
        shards_table(shards).markdown(),
    ]


def of_peers(entry: Entry, *keys: str) -> list[float]:
    """What the results of the peers have under a path of keys, a seed each."""
    found = [result["peers"] for result in entry.results]
    for key in keys:
        found = [each[key] for each in found]
    return found


def peers_table(title: str, entries: dict[str, Entry]) -> Table:
    """Gains of the deployed net over the labels alone, corrected together."""
    same_protocol(list(entries.values()))
    (baseline, first), *rest = entries.items()
    gains = paired_gains(first.test, {n: entry.test for n, entry in rest if n != "alone"})
    rows = []
    for name, entry in entries.items():
        row = [name, str(len(of_peers(entry, "test")[0])) if name != baseline else "1"]
        row += [spread(entry.test), *_in_cells(gains.get(name))]
        keys = (("ensemble", "test"), ("churn",))
        row += [spread(of_peers(entry, *key)) if name != baseline else "" for key in keys]
        seconds = [result["seconds"] for result in entry.results]
        rows.append([*row, f"{sum(seconds) / len(seconds):.1f}"])
    columns = ["recipe", "peers", "test %", "gain", "wins", "Holm p", "verdict"]
    setting = first.setting
    whole = f"{title} ({setting['student']}, {setting['data']}, {seeds_text(len(first.seeds))})"
    return Table(whole, [*columns, "ensemble %", "churn %", "s"], rows, _notes(gains))


def _in_cells(gain: Gain | None) -> list[str]:
    if gain is None:
        return [""] * 4
    wins = f"{gain.wins}/{len(gain.points)}"
    return [spread(gain.points, "+"), wins, probability(gain.p_holm), gain.verdict]


def _notes(gains: dict[str, Gain]) -> list[str]:
    named = {
        verdict: ", ".join(name for name, gain in gains.items() if gain.verdict == verdict)
        for verdict in dict.fromkeys(gain.verdict for gain in gains.values())
    }
    return [
        "; ".join(f"{verdict}: {names}" for verdict, names in named.items()) + ".",
        "test: of the one peer that is deployed, named before anything was trained: the first, of "
        "OKDDip the leader. It begins with the weights that the labels' net has where peers are "
        "whole nets; gains are paired by seed, Holm's correction is for the table.",
        "ensemble: all peers together, for their price; not what is compared. churn: test images "
        "that two peers answer otherwise, the mean over pairs. alone: two nets that learn nothing "
        "from each other.",
        "No option was tuned.",
        *(note for name, note in OF_ARMS.items() if name in gains),
    ]


def shards_table(entries: dict[str, Entry]) -> Table:
    """Codistillation against the same nets on the same halves without exchange."""
    same_protocol(list(entries.values()))
    alone, ours = entries["alone"], entries["codistillation"]
    churns = [of_peers(entry, "churn") for entry in (alone, ours)]
    pairs = {"test": (ours.test, alone.test), "churn": (churns[0], churns[1])}
    gains = gains_of_pairs(pairs)
    rows = [
        [name, spread(entry.test), spread(churn), spread(of_peers(entry, "ensemble", "test"))]
        for (name, entry), churn in zip(entries.items(), churns, strict=True)
    ]
    test, churn = gains["test"], gains["churn"]
    return Table(
        f"Codistillation on disjoint halves of the images ({seeds_text(len(alone.seeds))})",
        ["nets", "test %", "churn %", "ensemble %"],
        rows,
        [
            f"Test: {spread(test.points, '+')} points, Holm p = {probability(test.p_holm)}: "
            f"{test.verdict}. Churn: {spread(churn.points, '+')} points less, Holm p = "
            f"{probability(churn.p_holm)}: {churn.verdict}.",
            "alone: the same nets on the same halves, which never exchange anything.",
        ],
    )
