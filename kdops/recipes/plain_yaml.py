"""YAML without what a recipe needs not: tags, aliases, keys that stand twice."""

import yaml

DEEPEST = 20  # nested mappings and sequences
TEXT = "tag:yaml.org,2002:str"


class PlainYamlError(ValueError):
    """Text that is not YAML, or not the plain kind; with its line."""

    def __init__(self, line: int, problem: str):
        super().__init__(problem)
        self.line = line


def load(text: str) -> tuple[yaml.Node | None, object]:
    """The tree of the text's nodes, for `line_of`, and its content.

    Raises:
        PlainYamlError: with the line of the first mistake.
    """
    try:
        _check_events(text)
        root = yaml.compose(text, yaml.SafeLoader)
        _check_node(root)
        loader = yaml.SafeLoader("")
        return root, loader.construct_document(root) if root else {}
    except yaml.MarkedYAMLError as error:
        raise PlainYamlError(error.problem_mark.line + 1, error.problem) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise PlainYamlError(line, f"{error.reason}: {chr(error.character)!r}") from error


def line_of(node: yaml.Node | None, place: tuple) -> int:
    """The line of a value, or of the nearest thing around one that is missing."""
    line = node.start_mark.line + 1 if node else 1
    for step in place:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(step)]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            found = [(item, item) for item in node.value[step : step + 1]]
        else:
            found = []
        if not found:
            break
        key, node = found[0]
        line = key.start_mark.line + 1
    return line


def _refuse(problem: str, mark: yaml.Mark):
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _check_events(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            _refuse("aliases are not allowed", event.start_mark)
        if getattr(event, "tag", None):
            _refuse(f"tags are not allowed, got {event.tag!r}", event.start_mark)
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            _refuse(f"nested more than {DEEPEST} deep", event.start_mark)


def _check_node(node: yaml.Node | None) -> None:
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.tag != TEXT:
                _refuse("a key must be text; quotes make it so", key.start_mark)
            if key.value in seen:  # of which YAML would keep the last
                _refuse(f"the key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
            _check_node(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_node(item)
    elif node is not None:
        try:
            yaml.SafeLoader("").construct_object(node)
        except ValueError as error:  # a date or a number that is none
            _refuse(str(error), node.start_mark)
