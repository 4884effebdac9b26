"""What a user may mean by a network: a zoo name, a spec file, a model folder, a trial of a run."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from nas_face.arch.combinators import Sequence
from nas_face.arch.cost import Shape
from nas_face.arch.spec import ArchSpec
from nas_face.arch.zoo import NETWORKS, PublishedNetwork, network
from nas_face.errors import ConfigError, near_names
from nas_face.shipped import find_file
from nas_face.study.layout import MODEL_FILE, STUDY_FILE

if TYPE_CHECKING:
    from nas_face.deploy.onnx_convention import Convention
    from nas_face.study.evaluate import Embedder


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """A network without its weights.

    Attributes:
        network: the layer tree.
        input: shape of the image.
        spec: what the tree was lowered from; none of a model folder, which holds only the tree.
        entry: of the zoo, if it is there and has its published sizes.
    """

    network: Sequence
    input: Shape
    spec: ArchSpec | None = None
    entry: PublishedNetwork | None = None


def design_of(
    name: str,
    trial: int | None = None,
    *,
    input_size: tuple[int, int] | None = None,
    embedding_size: int | None = None,
) -> Design:
    """Design of a zoo network, a spec file, a model folder or a trial of a run.

    Args:
        name: which.
        trial: of the run.
        input_size: height and width of the image, of a zoo network; as published by default.
        embedding_size: of a zoo network; as published by default.

    Raises:
        ConfigError: it is none of these, or an option does not go with it.
        NasFaceError: the file is malformed, or the network cannot have that size.
    """
    path = Path(name)
    sized = input_size is not None or embedding_size is not None
    is_run = (path / STUDY_FILE).is_file()
    if trial is not None and not is_run:
        raise ConfigError(f"--trial goes with a run folder; {name} is none")
    if sized and (is_run or name not in NETWORKS):
        raise ConfigError(
            f"--input-size and --embedding-size go with a zoo network; {name} is none"
        )
    if is_run:
        from nas_face.study.run import Run

        run = Run.open(path)
        spec = run.spec(run.trial(require_trial(path, trial)))
        return Design(network=spec.lower(), input=spec.input, spec=spec)
    if (path / MODEL_FILE).is_file():
        from nas_face.nn.model import load_description

        description = load_description(path)
        return Design(network=description.network, input=description.input)
    if not sized:
        spec = spec_of(name)
        entry = NETWORKS.get(name)
        return Design(network=spec.lower(), input=spec.input, spec=spec, entry=entry)
    spec = network(name).variant(input_size=input_size, embedding_size=embedding_size)
    return Design(network=spec.lower(), input=spec.input, spec=spec)


def image_size(text: str) -> tuple[int, int]:
    """Height and width of an image as a person types them: `112`, or `112x96`.

    Raises:
        ConfigError: it is neither.
    """
    sizes = re.fullmatch(r"([1-9][0-9]{0,3})(?:x([1-9][0-9]{0,3}))?", text)
    if sizes is None:
        raise ConfigError(f"an image size is N or HEIGHTxWIDTH in pixels, got {text!r}")
    return int(sizes[1]), int(sizes[2] or sizes[1])


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


def embedder_of(
    path: Path, trial: int | None, given: "Convention | None" = None, *, threads: int = 1
) -> "Embedder":
    """Model of a model folder, an ONNX or OpenVINO file, or a trial of a run.

    Args:
        path: which.
        trial: of the run.
        given: what the user says about an ONNX file of others.
        threads: of an ONNX file: batches at once; of an OpenVINO file: of one batch.

    Raises:
        ConfigError: it is none of these, a trial is missing or out of place, or something about an
            ONNX file's input is not certain.
        NasFaceError: the files are broken.
    """
    from nas_face.deploy import OnnxEmbedder, OpenVinoSession
    from nas_face.deploy.model_files import is_openvino
    from nas_face.deploy.onnx_convention import Convention
    from nas_face.deploy.session import prepares_pixels
    from nas_face.nn import FaceModel
    from nas_face.study.run import Run
    from nas_face.study.verification.preparation import completed

    if (path / STUDY_FILE).is_file():
        run = Run.open(path)
        return run.model(run.trial(require_trial(path, trial)))
    if trial is not None:
        raise ConfigError(f"--trial goes with a run folder; {path} is none")
    if path.is_dir():
        return FaceModel.load(path)
    if path.is_file():
        if is_openvino(path):
            return OpenVinoSession(path, threads=threads)
        said = given or Convention()
        if not prepares_pixels(path):
            said = completed(path, said)
        return OnnxEmbedder(path, said, threads=threads)
    raise ConfigError(f"{path}: no such model folder, ONNX file, OpenVINO file or run folder")


def folder_of(path: Path, trial: int | None) -> Path:
    """Where a model of `embedder_of` lies, with what is known of its training.

    Raises:
        ConfigError: a trial is missing.
    """
    from nas_face.study.run import Run

    if (path / STUDY_FILE).is_file():
        run = Run.open(path)
        return run.candidate_folder(run.trial(require_trial(path, trial)))
    return path if path.is_dir() else path.parent


def require_trial(run: Path, trial: int | None) -> int:
    """The trial that a run folder needs.

    Raises:
        ConfigError: none was given.
    """
    if trial is None:
        raise ConfigError(f"{run} is a run: say which trial with --trial N (see: nas-face pareto)")
    return trial
