"""Search spaces to and from NNI's JSON: `space nni` and `space from-nni`."""

from pathlib import Path
from typing import Annotated

import typer

from nas_face.cli.spaces import SpaceFile, named_space

NniFile = Annotated[Path, typer.Argument(metavar="FILE", help="Search space of NNI's, JSON.")]
Restricted = Annotated[str, typer.Option("--space", help="Space that its keys are choices of.")]
JsonOut = Annotated[Path, typer.Option(help="JSON file to write.")]
YamlOut = Annotated[Path, typer.Option(help="YAML file to write.")]


def to_nni(space: SpaceFile, out: JsonOut) -> None:
    """Write a search space in NNI's JSON format; rules between choices are left out."""
    from nas_face.search.nni.space import dump_nni, to_nni

    opened = named_space(space)
    dump_nni(to_nni(opened), out)
    without = ", without its rules between choices" if opened.constraints else ""
    print(f"{out}: {len(opened.choices())} choices of {opened.name}{without}")


def from_nni(file: NniFile, space: Restricted, out: YamlOut) -> None:
    """Write a search space with only the options that are in a file of NNI's format."""
    from nas_face.search.nni.space import load_nni, restrict
    from nas_face.space.dump import dump_space

    whole = named_space(space)
    smaller = restrict(whole, load_nni(file))
    dump_space(smaller, out)
    print(f"{out}: {smaller.size:.4g} of the {whole.size:.4g} ways to choose of {whole.name}")
