"""What a recipe is run on, and which images its student learns from."""

from dataclasses import dataclass, field

from .data import FEW, Part, few, without


@dataclass(frozen=True)
class Setting:
    """What a recipe is run on; the same for all recipes that are compared."""

    data: str = "mnist5k"
    labels: int | None = None  # that the student sees; None: few of kdops' data, all of other
    student: str = "student"
    teacher: str = "teacher"
    teacher_weights: str | None = None  # a file of them; else the teacher is trained on the pool
    teacher_steps: int = 975
    same_data_teacher: bool = False  # it sees the student's images alone
    augment: bool = True  # shift the student's images; the teacher's are always shifted
    missing: int | None = None  # a class that the student never sees
    steps: int | None = None  # in place of the recipe's, the phases' in proportion
    student_layers: dict[str, str] = field(default_factory=dict)
    teacher_layers: dict[str, str] = field(default_factory=dict)
    image_size: int | None = None
    workers: int = 0

    def __post_init__(self):
        for name in ("labels", "steps", "teacher_steps", "image_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name.replace('_', ' ')} must be at least 1, got {value}")


def student_part(pool: Part, setting: Setting, seed: int) -> Part:
    """The rows that the student learns from."""
    if setting.missing is not None:
        pool = without(pool, setting.missing)
    labels = FEW.get(setting.data, len(pool)) if setting.labels is None else setting.labels
    return few(pool, labels, seed)
