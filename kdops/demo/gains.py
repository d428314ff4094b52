"""The gain with few labels: labels alone, each method, and KD from a teacher that saw no more."""

from ..results import compare
from ..results.compare import Entry
from ..results.statistics import LEVEL, Gain
from ..results.tables import Table, seeds_text, spread
from ..studies.study import Arm
from ..training.data import Split

BASELINE, CONTROL = "labels", "KD (control)"
METHODS = {"KD": Arm("kd"), "RKD": Arm("rkd"), "IRG": Arm("irg"), "CCKD": Arm("cckd")}
ARMS = {
    BASELINE: Arm("labels"),
    **METHODS,
    CONTROL: Arm("kd", {"same_data_teacher": True}),
}


def gains_table(entries: dict[str, Entry], split: Split) -> Table:
    first, control = entries[BASELINE], entries[CONTROL]
    labels, pool = control.results[0]["teacher"]["saw"], len(split.pool)
    title = (
        f"Distillation with {labels} labels, {first.results[0]['steps']} steps each "
        f"({first.setting['data']}, {seeds_text(len(first.seeds))}, mean ± sd)"
    )
    teacher = spread([entries["KD"].results[0]["teacher"]["test"]])
    own = spread([result["teacher"]["test"] for result in control.results])
    notes = [
        f"Teacher saw {pool} labels (test {teacher} %), student {labels}. {CONTROL}: a teacher of "
        f"the student's own {labels} images (test {own} %).",
        "All nets, the baseline too, learn from randomly shifted images; the teacher answers the "
        "same shifted batch. A seed fixes the images, initial weights and batches of all methods.",
        "The methods' weights were tuned beforehand (MNIST, without shifts), the baseline was not. "
        "IRG's loss includes the mean squared difference of the logits.",
        *_verdicts(compare.gains_of(list(entries.values())), len(first.seeds)),
    ]
    return compare.table(list(entries.values()), title, notes)


def _verdicts(gains: dict[str, Gain], seeds: int) -> list[str]:
    verdicts = dict.fromkeys(gain.verdict for gain in gains.values())
    names = {v: [name for name, gain in gains.items() if gain.verdict == v] for v in verdicts}
    by_verdict = "; ".join(f"{verdict}: {', '.join(names[verdict])}" for verdict in verdicts)
    notes = [f"Against the baseline: {by_verdict}. No ranking among the methods is claimed."]
    if seeds > 1:
        notes.append(
            f"Verdict: two-sided paired t test over {seeds} seeds, Holm's correction for "
            f"{len(gains)} comparisons, level {LEVEL}. {seeds - 1} degrees of freedom call "
            "only a large and steady gain a gain; more --seeds tell more. One split, one teacher."
        )
    return notes
