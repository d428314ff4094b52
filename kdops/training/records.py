"""The files of a run: whole or not there, and of one configuration a folder."""

import hashlib
import json
import os
import re
from pathlib import Path
from uuid import uuid4


def write_json(path: Path, content: dict) -> None:
    """At once, so that what a killed run leaves is whole or not there."""
    fresh = path.with_name(f"{path.name}.{uuid4().hex}")  # others may write the same file
    fresh.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(fresh, path)


def kept(folder: Path, name: str, *made_of) -> Path:
    """The file of a net that other runs may use: named by all that it is made of."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(json.dumps([name, *made_of]).encode()).hexdigest()[:12]
    return folder / f"{re.sub(r'[^A-Za-z0-9_.]+', '-', name)}-{digest}.ckpt"


def claim(folder: Path, wanted: dict[str, dict]) -> None:
    """Make the folder this configuration's, or see that it is.

    Raises:
        ValueError: for a folder that holds runs of another configuration.
    """
    path, wanted = folder / "config.json", json.loads(json.dumps(wanted))
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, wanted)
    found = json.loads(path.read_text(encoding="utf-8"))
    differing = [
        f"{part}.{key}"
        for part in wanted
        for key in wanted[part]
        if found.get(part, {}).get(key) != wanted[part][key]
    ]
    if differing:
        raise ValueError(
            f"{folder} holds runs of another configuration ({', '.join(differing)} differ): "
            "choose another --out"
        )
