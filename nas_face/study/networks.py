"""What a user may mean by a network: a zoo name, a spec file, a model folder, a trial of a run."""

from pathlib import Path
from typing import TYPE_CHECKING

from nas_face.arch.combinators import Sequence
from nas_face.arch.cost import Shape
from nas_face.arch.spec import ArchSpec
from nas_face.arch.zoo import NETWORKS, network
from nas_face.errors import ConfigError, near_names
from nas_face.shipped import find_file
from nas_face.study.layout import MODEL_FILE, STUDY_FILE

if TYPE_CHECKING:
    from nas_face.study.evaluate import Embedder


def layers_of(name: str, trial: int | None = None) -> tuple[Sequence, Shape]:
    """Layer tree and input shape of a zoo network, a spec file, a model folder or a trial of a
    run.

    Raises:
        ConfigError: it is none of these.
        NasFaceError: the file is malformed.
    """
    path = Path(name)
    if (path / STUDY_FILE).is_file():
        from nas_face.study.run import Run

        run = Run.open(path)
        spec = run.spec(run.trial(require_trial(path, trial)))
        return spec.lower(), spec.input
    if trial is not None:
        raise ConfigError(f"--trial goes with a run folder; {name} is none")
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
    path = find_file(name)
    if path is not None:
        return ArchSpec.load(path)
    raise ConfigError(
        f"{name!r} is no zoo network, spec file or model folder; {near_names(name, NETWORKS)}"
    )


def embedder_of(path: Path, trial: int | None) -> "Embedder":
    """Model of a model folder, an ONNX file, or a trial of a run.

    Raises:
        ConfigError: it is none of these, or a trial is missing or out of place.
        NasFaceError: the files are broken.
    """
    from nas_face.deploy import OnnxSession
    from nas_face.nn import FaceModel
    from nas_face.study.run import Run

    if (path / STUDY_FILE).is_file():
        run = Run.open(path)
        return run.model(run.trial(require_trial(path, trial)))
    if trial is not None:
        raise ConfigError(f"--trial goes with a run folder; {path} is none")
    if path.is_dir():
        return FaceModel.load(path)
    if path.is_file():
        return OnnxSession(path)
    raise ConfigError(f"{path}: no such model folder, ONNX file or run folder")


def require_trial(run: Path, trial: int | None) -> int:
    """The trial that a run folder needs.

    Raises:
        ConfigError: none was given.
    """
    if trial is None:
        raise ConfigError(f"{run} is a run: say which trial with --trial N (see: nas-face pareto)")
    return trial
