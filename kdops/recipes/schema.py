"""What a recipe may say, checked before anything is trained."""

import difflib
import importlib
import inspect
import typing

from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator

from .. import methods
from ..methods import Method
from ..methods.online import Online

BASES = (Method, methods.Relation, Online)
METHODS = {
    name: found
    for room in (methods, methods.online)
    for name in room.__all__
    if isinstance(found := getattr(room, name), type)
    and issubclass(found, Method)
    and found not in BASES
}


class Checked(BaseModel):
    """Keys that are known alone, and finite numbers, for which yes and no do not stand."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="wrap")
    @classmethod
    def no_boolean(cls, value, check):
        checked = check(value)
        if isinstance(value, bool) and checked is not value:
            raise ValueError(f"must not be a boolean, got {value}")
        return checked


class Sampler(Checked):
    """How batches are drawn: by default every row once an epoch."""

    groups: typing.Literal["classes", "superclasses"]
    per_group: int = Field(4, ge=1)  # rows of a group in a batch
    superclasses: int = Field(5, ge=2)  # how many k-means makes of the teacher's embeddings


class Phase(Checked):
    """One net learns by one method, from the weights it has."""

    name: str = Field("student", pattern=r"^[a-z][a-z0-9_-]*$")
    method: str
    options: dict[str, typing.Any] = {}
    net: str = "student"
    teacher: str | None = "teacher"
    steps: int | None = Field(None, ge=1)  # None: the recipe's
    lr: float | None = Field(None, gt=0)
    sampler: Sampler | None = None


class Specialists(Checked):
    """An ensemble of specialists after the phases: the student is their generalist."""

    count: int = Field(3, ge=1)
    largest: int | None = Field(None, ge=2)  # classes of one
    steps: int = Field(250, ge=1)
    lr: float = Field(3e-3, gt=0)
    processes: int = Field(1, ge=1)


class Recipe(Checked):
    """A method from its paper, as it is trained here."""

    title: str
    source: str
    about: str
    batch: int = Field(64, ge=1)
    steps: int = Field(600, ge=1)
    lr: float = Field(1e-2, gt=0)  # the peak of the one-cycle rate
    weight_decay: float = Field(1e-4, ge=0)
    nets: dict[str, str] = {}  # besides student and teacher
    phases: list[Phase] = Field(min_length=1)
    specialists: Specialists | None = None


def options_of(method: type[Method]) -> type[BaseModel]:
    """A model of what the method's constructor takes, its own and its bases' keywords."""
    fields = {}
    for cls in method.__mro__:
        if "__init__" not in vars(cls) or cls.__module__.startswith("torch"):
            continue
        hints = typing.get_type_hints(cls.__init__)
        parameters = inspect.signature(cls.__init__).parameters.values()
        for parameter in list(parameters)[1:]:
            if parameter.kind is not parameter.VAR_KEYWORD:
                default = ... if parameter.default is parameter.empty else parameter.default
                fields.setdefault(parameter.name, (hints.get(parameter.name, typing.Any), default))
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break  # nothing is handed on to the bases
    fields.pop("gather", None)  # the training knows its processes
    return create_model(method.__name__, __base__=Checked, **fields)


def method_class(name: str) -> type[Method]:
    """A method of kdops by its name, or of a person's own by 'package.module:Class'.

    Raises:
        ValueError: for a name that is neither; the names near to it are listed.
    """
    if ":" in name:
        found = python_object(name)
        if not (isinstance(found, type) and issubclass(found, Method)):
            raise ValueError(f"{name!r} must be a subclass of kdops.methods.Method, got {found!r}")
        return found
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, cutoff=0.5)
        named = f"near: {', '.join(near)}" if near else f"there are {', '.join(sorted(METHODS))}"
        raise ValueError(f"no method {name!r}; {named}")
    return METHODS[name]


def python_object(path: str):
    """The object that 'package.module:name' names.

    Raises:
        ValueError: where the path, its module or its name is not there.
    """
    module, _, name = path.partition(":")
    if not (module and name):
        raise ValueError(f"a Python path must be 'package.module:name', got {path!r}")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{path!r} cannot be found: {error}") from error


def make_method(name: str, options: dict, **more) -> Method:
    """The method of a phase.

    Raises:
        pydantic.ValidationError, ValueError, TypeError: for options that it does not take.
    """
    method = method_class(name)
    checked = options_of(method)(**options)
    given = {key: getattr(checked, key) for key in checked.model_fields_set}
    if issubclass(method, methods.Relation):
        given |= more
    return method(**given)
