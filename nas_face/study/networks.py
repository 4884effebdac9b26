"""What a user may mean by a network: a zoo name, a spec file, a model folder, a trial of a run."""

from pathlib import Path

from nas_face.arch.combinators import Sequence
from nas_face.arch.cost import Shape
from nas_face.arch.spec import ArchSpec
from nas_face.arch.zoo import NETWORKS, network
from nas_face.errors import ConfigError, near_names

MODEL_FILE = "model.json"


def layers_of(name: str) -> tuple[Sequence, Shape]:
    """Layer tree and input shape of a zoo network, a spec file or a model folder.

    Raises:
        ConfigError: it is none of these.
        NasFaceError: the file is malformed.
    """
    path = Path(name)
    if (path / MODEL_FILE).is_file():
        from nas_face.nn.model import load_description

        description = load_description(path)
        return description.network, description.input
    spec = spec_of(name)
    return spec.lower(), spec.input


def spec_of(name: str) -> ArchSpec:
    """Architecture of a zoo network or a spec file.

    Raises:
        ConfigError: it is neither.
        ArchError: the file is malformed.
    """
    if name in NETWORKS:
        return network(name).spec
    path = Path(name)
    if path.is_file():
        return ArchSpec.load(path)
    raise ConfigError(
        f"{name!r} is no zoo network, spec file or model folder; {near_names(name, NETWORKS)}"
    )
