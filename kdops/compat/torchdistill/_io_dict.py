"""What torchdistill hands a loss: of each hooked module of a net its 'input' and its 'output'."""

from collections.abc import Iterator, Mapping

from torch import nn


def at(io_dict: Mapping, path: str, io: str):
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

    def __init__(self, student_path: str, student_io: str, teacher_path: str, teacher_io: str):
        super().__init__()
        self.student, self.teacher = (student_path, student_io), (teacher_path, teacher_io)

    def pair(self, student_io_dict: Mapping, teacher_io_dict: Mapping) -> tuple:
        return at(student_io_dict, *self.student), at(teacher_io_dict, *self.teacher)

    def extra_repr(self) -> str:
        return f"student={' '.join(self.student)!r}, teacher={' '.join(self.teacher)!r}"


class Pairs(nn.Module):
    """A weighted sum over pairs of modules: {name: {student: {path, io}, teacher: ..., weight}}."""

    def __init__(self, pairs: Mapping):
        super().__init__()
        self.pairs = pairs

    def weighted(self, student_io_dict: Mapping, teacher_io_dict: Mapping) -> Iterator[tuple]:
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
