"""Search spaces as YAML: the inverse of the loader."""

from pathlib import Path
from typing import Any

import yaml

from nas_face.errors import SpaceError
from nas_face.space.loader import PARTS
from nas_face.space.space import INPUT_SHAPE, SearchSpace
from nas_face.space.template import Choice, Reference, Template


def space_data(space: SearchSpace) -> dict[str, Any]:
    """Plain data of which the loader makes an equal space; anchors and comments are not kept.

    Raises:
        SpaceError: the space was filtered for a target, for which a file has no words.
    """
    if space.avoided:
        raise SpaceError(
            f"{space.name}: a space without {', '.join(sorted(space.avoided))} cannot be written; "
            "write the space itself, and name the target where it is used"
        )
    data: dict[str, Any] = {"name": space.name}
    if space.description:
        data["description"] = space.description
    data[INPUT_SHAPE] = _data(space.template.get(INPUT_SHAPE, tuple(space.input_shape)))
    if space.shared:
        data["shared"] = {name: _data(part) for name, part in space.shared.items()}
    data |= {part: _data(space.template[part]) for part in PARTS}
    if space.constraints:
        data["constraints"] = [
            {"rule": each.rule, "because": each.because} if each.because else each.rule
            for each in space.constraints
        ]
    return data


def dump_space(space: SearchSpace, path: Path) -> None:
    """Write a space to a YAML file that `load_space` reads back as an equal space.

    Raises:
        SpaceError: as of `space_data`, or the file cannot be written.
    """
    text = yaml.safe_dump(
        space_data(space), sort_keys=False, allow_unicode=True, width=99, default_flow_style=None
    )
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as failure:
        raise SpaceError(f"{path}: cannot be written ({failure.strerror})") from failure


def _data(node: Template) -> Any:
    match node:
        case Choice():
            plain = all(
                type(option) is type(label) and option == label
                for label, option in node.options.items()
            )
            if plain:
                return {"choice": list(node.labels)}
            return {"choice": {label: _data(option) for label, option in node.options.items()}}
        case Reference():
            return {"shared": node.name}
        case dict():
            return {key: _data(value) for key, value in node.items()}
        case tuple():
            return [_data(value) for value in node]
        case _:
            return node
