"""The package as the site's parser takes it: docstrings' own sections, functions named as files."""

import re

import griffe

SOURCE = re.compile(r"^( *)Source: (.+)$", re.MULTILINE)
# "TypeError: for this. ValueError: for that", one after the other
NEXT_ERROR = re.compile(r"(?<=\.)\s+(?=[A-Z]\w*(?:Error|Warning): )")
SECTION = re.compile(r"(?<=[^\n])\n(?= *(?:Args|Returns|Raises|Gradient|Source):(?: |\n))")
RAISES = re.compile(r"^( *)Raises:\n((?:\1 +.*\n?)+)", re.MULTILINE)
EXAMPLE = re.compile(r"^( *)>>> .+\n?(?:\1\S.*\n?)*", re.MULTILINE)


def _raises(section: re.Match) -> str:
    """An error a line, each with its own continuation."""
    indent, body = section.groups()
    ends = body[len(body.rstrip("\n")) :]
    errors = NEXT_ERROR.split(" ".join(line.strip() for line in body.splitlines()))
    return f"{indent}Raises:\n" + "\n".join(f"{indent}    {error}" for error in errors) + ends


def _example(lines: re.Match) -> str:
    fence = f"{lines[1]}```"
    return f"{fence}pycon\n{lines[0].rstrip()}\n{fence}\n"


def adapted(text: str) -> str:
    """A source as a block of its own, an error a line, an example as code, sections apart."""
    text = SOURCE.sub(r"\1Source:\n\1    \2", text)
    return SECTION.sub("\n\n", EXAMPLE.sub(_example, RAISES.sub(_raises, text)))


def exported_functions(module: griffe.Module) -> None:
    """Of a function and a module of one name, the package means the function."""
    for name in map(str, module.exports or ()):
        member = module.members.get(name)
        if member is None or not member.is_module or name not in member.members:
            continue
        if member.members[name].is_function:
            module.set_member(name, griffe.Alias(name, member.members[name], parent=module))
    for member in list(module.members.values()):
        if not member.is_alias and member.is_module:
            exported_functions(member)


class Adapted(griffe.Extension):
    """Adapts what is read."""

    def on_package(self, *, pkg: griffe.Module, **_) -> None:
        exported_functions(pkg)

    def on_instance(self, *, obj: griffe.Object, **_) -> None:
        if obj.docstring:
            obj.docstring.value = adapted(obj.docstring.value)
