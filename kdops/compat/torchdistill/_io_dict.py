"""What torchdistill hands a loss: of each hooked module of a net its 'input' and its 'output'."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

IODict = Mapping[str, Mapping[str, Any]]  # {path: {io: a tensor, or a tuple of them}}
PairConfigs = Mapping[str, Mapping[str, Any]]  # {name: what the YAML file says of the pair}


def at(io_dict: IODict, path: str, io: str) -> Any:
    """What module `path` took ('input') or gave ('output')."""
    try:
        return io_dict[path][io]
    except KeyError:
        hooked = ", ".join(f"{name!r} {kind}" for name in io_dict for kind in io_dict[name])
        raise KeyError(
            f"io_dict must hold the {io} of module {path!r}, got {hooked or 'no module'}; "
            "forward_hook in the YAML file names the modules"
        ) from None


class Pair(nn.Module):
    """A loss between what one module of the student and one of the teacher took or gave."""

    def __init__(
        self, student_path: str, student_io: str, teacher_path: str, teacher_io: str
    ) -> None:
        super().__init__()
        self.student, self.teacher = (student_path, student_io), (teacher_path, teacher_io)

    def pair(self, student_io_dict: IODict, teacher_io_dict: IODict) -> tuple[Any, Any]:
        return at(student_io_dict, *self.student), at(teacher_io_dict, *self.teacher)

    def extra_repr(self) -> str:
        return f"student={' '.join(self.student)!r}, teacher={' '.join(self.teacher)!r}"


class Pairs(nn.Module):
    """A weighted sum over pairs of modules: {name: {student: {path, io}, teacher: ..., weight}}."""

    def __init__(self, pairs: PairConfigs) -> None:
        super().__init__()
        self.pairs = pairs

    def weighted(
        self, student_io_dict: IODict, teacher_io_dict: IODict
    ) -> Iterator[tuple[float, Any, Any]]:
        """(weight, the student's, the teacher's) of each pair."""
        for pair in self.pairs.values():
            ours, theirs = pair["student"], pair["teacher"]
            yield (
                pair.get("weight", 1),
                at(student_io_dict, ours["path"], ours["io"]),
                at(teacher_io_dict, theirs["path"], theirs["io"]),
            )

    def extra_repr(self) -> str:
        return ", ".join(self.pairs)
