"""What several space tests share: tiny spaces written by hand, and going through all of one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from nas_face.errors import ArchError
from nas_face.shipped import shipped_files
from nas_face.space import Choice, Design, Label, SearchSpace, load_space

SHIPPED = {path.stem: path for path in shipped_files("search_spaces", ".yaml")}

TINY: dict[str, Any] = {
    "name": "tiny",
    "input_shape": [3, 16, 16],
    "shared": {"act": {"choice": ["relu", "silu"]}},
    "stem": [
        {"kind": "conv_unit", "out_channels": {"choice": [4, 8]}, "act": {"shared": "act"}},
    ],
    "stages": [
        {
            "out_channels": 8,
            "stride": 2,
            "repeats": {"range": [1, 3]},
            "block": {
                "kind": "inverted_residual",
                "act": {"shared": "act"},
                "expansion": {"choice": [1, 2]},
                "attention": {
                    "choice": {"none": None, "squeeze": {"kind": "squeeze_excite", "ratio": 0.25}}
                },
            },
        }
    ],
    "head": {"kind": "pooled_linear", "embedding_size": 8, "tail_channels": 8},
}


def space_of(folder: Path, data: Any) -> SearchSpace:
    """The space of plain data, by way of a file `space.yaml`."""
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return load_space(path)


def every_design(space: SearchSpace) -> Iterator[Design]:
    """All ways to choose, by counting through the answers; illegal ones are left out."""
    for answers in _every_answer(space):
        try:
            yield space.propose(_given(answers))
        except ArchError:
            continue


def number_of_ways(space: SearchSpace) -> int:
    """How many ways to choose there are, illegal ones included."""
    return sum(1 for _ in _every_answer(space))


def _given(answers: list[int]) -> Any:
    rest = iter(answers)
    return lambda path, choice: choice.labels[next(rest)]


def _every_answer(space: SearchSpace) -> Iterator[list[int]]:
    """Positions of the labels taken, like the figures of a counter whose later figures depend on
    the earlier ones."""
    answers: list[int] = []
    while True:
        sizes: list[int] = []

        def pick(path: str, choice: Choice, sizes: list[int] = sizes) -> Label:
            if len(sizes) == len(answers):
                answers.append(0)
            sizes.append(len(choice.options))
            return choice.labels[answers[len(sizes) - 1]]

        try:
            space.propose(pick)
        except ArchError:
            pass
        yield list(answers)
        while answers and answers[-1] == sizes[len(answers) - 1] - 1:
            answers.pop()
        if not answers:
            return
        answers[-1] += 1
