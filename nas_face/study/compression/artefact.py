"""The folder that a compression leaves, complete or without a manifest.

model.json, weights.safetensors      the float model; spec.json where it is an ArchSpec
model.onnx, model.xml, model.bin     the same for ONNX Runtime and OpenVINO
model.int8.onnx, model.w4.onnx ...   other precisions
manifest.json                        what the files take and give, hashes, thresholds; written last
card.PRECISION.RUNTIME.json          threshold cards; .check.json beside them
lineage.json                         where it all came from
report.html, report/*.png            accuracy, latency and size, step by step
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas_face.align.warp import scaled_template
from nas_face.arch.spec import ArchSpec
from nas_face.data import PairList
from nas_face.deploy import open_model_file
from nas_face.deploy.files import write_atomically
from nas_face.deploy.manifest import (
    MANIFEST_FILE,
    Alignment,
    EmbeddingOutput,
    ImageInput,
    Manifest,
    ModelFile,
    Normalisation,
    Part,
)
from nas_face.deploy.model_files import is_openvino, openvino_weights
from nas_face.deploy.onnx_graph import INPUT, OUTPUT
from nas_face.errors import DeployError
from nas_face.nn import FaceModel
from nas_face.nn.model import MODEL_FILE, WEIGHTS_FILE
from nas_face.study.compression.bench import directed
from nas_face.study.compression.cards import FileCard, NamedPairs, card_name, card_of_scores
from nas_face.study.compression.lineage import Origin, write_lineage
from nas_face.study.compression.results import StepResult, Try
from nas_face.study.compression.runtimes import file_name
from nas_face.study.compression.state import LayerLossRow, PlacedFile
from nas_face.study.evaluate import SPEC_FILE, embed_pairs
from nas_face.study.report.compression import write_compression_report
from nas_face.verify import cosine_scores


def write_artefact(
    out: Path,
    model: FaceModel,
    files: Sequence[PlacedFile],
    *,
    title: str,
    origin: Origin,
    results: Sequence[StepResult],
    judge: NamedPairs,
    report: NamedPairs,
    spec: ArchSpec | None = None,
    aligned: bool = True,
    recommended: str | None = None,
    tries: Sequence[Try] = (),
    layers: Sequence[LayerLossRow] = (),
    shortfalls: Sequence[str] = (),
) -> Manifest:
    """Put together what ships. An older manifest goes first, and the new one comes last, so that a
    folder with a manifest is whole.

    Args:
        out: folder of the artefact.
        model: float model that the files were made of.
        files: at least one, no two of one runtime and precision, the one to use first.
        title: of the report.
        origin: what the compression began with.
        results: of every step, the original first, what ships last.
        judge: pairs that decided about steps; they set the thresholds.
        report: pairs that nothing was decided by; they check them.
        spec: the model as an ArchSpec, where it is one.
        aligned: whether crops are cut by InsightFace's five points; these are noted for square
            ones.
        recommended: precision to take by default; of the first file where nothing is said.
        tries: what was tried on the way.
        layers: what each layer loses by int8.
        shortfalls: what was asked for and not reached, a line each.

    Returns:
        What `manifest.json` says.

    Raises:
        DeployError: a file cannot be read, written or run, or two are of one kind.
    """
    _write_model(out, model, spec)
    listed: list[ModelFile] = []
    cards: dict[tuple[str, str], FileCard] = {}
    for made in files:
        parts = tuple(_copied(out, source, name) for source, name in _parts(made))
        card = _card(made, judge, report, out / parts[0].name)
        key = (made.result.precision, made.result.runtime)
        path = out / card_name(*key)
        card.write(path)
        cards[key] = card
        listed.append(
            ModelFile(
                runtime=made.result.runtime,
                precision=made.result.precision,
                parts=parts,
                card=Part.of(path),
                thresholds=card.thresholds,
            )
        )
    first = files[0].result.precision
    manifest = _manifest(model, tuple(listed), recommended or first, aligned=aligned)
    own = [Part.of(out / name) for name in (MODEL_FILE, WEIGHTS_FILE)]
    write_lineage(
        out,
        origin,
        model,
        results,
        {"judge": judge.pairs, "report": report.pairs},
        [*own, *(part for each in listed for part in each.parts)],
    )
    write_compression_report(
        out,
        results,
        title=title,
        n_pairs=len(report.pairs),
        cards=cards,
        tries=tries,
        layers=layers,
        shortfalls=shortfalls,
    )
    manifest.write(out)
    return manifest


def _write_model(out: Path, model: FaceModel, spec: ArchSpec | None) -> None:
    """The float model, once an older manifest is gone."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / MANIFEST_FILE).unlink(missing_ok=True)
        model.save(out)
        if spec is None:
            (out / SPEC_FILE).unlink(missing_ok=True)
    except OSError as failure:
        raise DeployError(f"{out}: cannot be written ({failure.strerror})") from failure
    if spec is not None:
        text = json.dumps(spec.to_data(), indent=1) + "\n"
        write_atomically(out / SPEC_FILE, text.encode())


def _parts(made: PlacedFile) -> list[tuple[Path, str]]:
    """Files that belong to one, and their names in the artefact."""
    name = file_name(made.result.precision, made.result.runtime)
    found = [(made.path, name)]
    if is_openvino(made.path):
        found.append((openvino_weights(made.path), openvino_weights(Path(name)).name))
    return found


def _copied(out: Path, source: Path, name: str) -> Part:
    try:
        content = source.read_bytes()
    except OSError as failure:
        raise DeployError(f"{source}: cannot be read ({failure.strerror})") from failure
    write_atomically(out / name, content)
    return Part.of(out / name)


def _card(made: PlacedFile, judge: NamedPairs, report: NamedPairs, path: Path) -> FileCard:
    session = open_model_file(path)

    def scores(pairs: PairList) -> NDArray[np.float64]:
        embeddings = directed(embed_pairs(session, pairs), made.result.precision)
        return cosine_scores(embeddings, pairs.first, pairs.second)

    return card_of_scores(
        scores(judge.pairs),
        judge,
        scores(report.pairs),
        report,
        model=path.name,
        precision=made.result.precision,
    )


def _manifest(
    model: FaceModel, files: tuple[ModelFile, ...], recommended: str, *, aligned: bool
) -> Manifest:
    description = model.description
    how = description.preprocessing
    height, width = model.height, model.width
    return Manifest(
        model=model.digest,
        input=ImageInput(height=height, width=width, name=INPUT),
        normalisation=Normalisation(
            mean=how.mean, scale=how.scale, channel_order=how.channel_order
        ),
        embedding=EmbeddingOutput(size=description.embedding_size, name=OUTPUT),
        alignment=_alignment(height) if aligned and height == width else None,
        recommended=recommended,
        files=files,
    )


def _alignment(size: int) -> Alignment:
    points = scaled_template(size).round(4).tolist()
    return Alignment(points=tuple((x, y) for x, y in points))
