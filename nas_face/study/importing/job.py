"""`nas-face import-weights`: somebody else's weights as a model folder, with a proof."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import numpy as np
import torch
from numpy.typing import NDArray

from nas_face.data import load_orl
from nas_face.errors import BuildError, ConfigError, DeployError
from nas_face.foreign import (
    InGraph,
    Match,
    Site,
    Source,
    match,
    read_onnx,
    read_safetensors,
    read_torch,
    run_onnx,
    sites_of,
    weights_of,
)
from nas_face.nn import FaceModel, Preprocessing
from nas_face.nn.model import Description, load_description
from nas_face.study.layout import MODEL_FILE
from nas_face.study.networks import Design, design_of

MOST_DIFFERENCE = 1e-4
_TORCH = (".pt", ".pth", ".ckpt", ".bin", ".tar", ".pkl")
_PEOPLE, _EACH = 8, 2
# ORL is grey. Unequal channels, so that a wrong order of channels shows.
_TINT = (1.0, 0.85, 0.7)

Format = Literal["torch", "safetensors", "ONNX"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What a user may say about a file.

    Attributes:
        part: which dict of a checkpoint, such as `state_dict`; none where only one fits.
        mean: subtracted from pixels 0 to 255 before the network.
        scale: divided by.
        bgr: whether the network takes channels in the order blue, green, red.
        input_size: height and width of the image, of a zoo network.
        embedding_size: of a zoo network.
        trial: of a run.
    """

    part: str | None = None
    mean: float | None = None
    scale: float | None = None
    bgr: bool = False
    input_size: tuple[int, int] | None = None
    embedding_size: int | None = None
    trial: int | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One layer of the network and where its weights come from.

    Attributes:
        path: in the layer tree.
        name: in the file; none where the file has it folded into the layer before.
        shapes: of the weights in the file.
        params: numbers taken over.
    """

    path: str
    name: str | None
    shapes: str
    params: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was shown on real crops.

    Attributes:
        n_crops: crops embedded.
        unit_difference: largest difference of a value between embeddings of unit length and those
            of the file in ONNX Runtime; none where the file cannot be run.
        raw_difference: the same before lengths are made one.
        same: mean cosine of two crops of one person.
        different: mean cosine of crops of two people.
    """

    n_crops: int
    unit_difference: float | None
    raw_difference: float | None
    same: float
    different: float


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Imported:
    """A network with the weights of a file.

    Attributes:
        model: the network.
        network: what the user called it.
        file_format: of the file.
        part: of the file; empty for all of it.
        rows: every layer.
        dropped: what was left out as a classifier.
        ignored: counters and the like.
        in_graph: what the file does to the image by itself; of ONNX files.
        assumed: whether mean and scale are the usual ones for lack of better knowledge.
        digest: SHA-256 of the file.
        proof: on real crops.
    """

    model: FaceModel
    network: str
    file_format: Format
    part: str
    rows: tuple[Row, ...]
    dropped: tuple[str, ...]
    ignored: tuple[str, ...]
    in_graph: InGraph | None
    assumed: bool
    digest: str
    proof: Proof

    def remarks(self) -> list[str]:
        """What a user should know, one line each."""
        lines = []
        if self.part:
            lines.append(f"taken from {self.part}")
        if self.dropped:
            lines.append(f"left out as a classifier: {', '.join(self.dropped)}")
        if self.ignored:
            lines.append(f"ignored: {len(self.ignored)} counters, such as {self.ignored[0]}")
        how = self.model.description.preprocessing
        formula = f"(x - {how.mean:g}) / {how.scale:g}, {how.channel_order}"
        if self.assumed:
            lines.append(
                f"preprocessing is assumed to be {formula}: the file does not say; --mean, "
                "--scale "
                "and --bgr change it"
            )
        else:
            lines.append(f"preprocessing: {formula}")
        proof = self.proof
        if proof.unit_difference is not None:
            lines.append(
                f"proved: agrees with the file in ONNX Runtime to {proof.unit_difference:.1e} on "
                f"{proof.n_crops} real crops (unit length; {proof.raw_difference:.1e} as they are)"
            )
        else:
            lines.append(
                "proved: every shape and name; a file of weights cannot be run, so the embeddings "
                "are held against nothing"
            )
        lines.append(
            f"mean cosine on {proof.n_crops} crops: {proof.same:.2f} of one person, "
            f"{proof.different:.2f} of two"
        )
        return lines


def import_weights(path: Path, network: str, options: ImportOptions) -> Imported:
    """Load a file into a network and prove it; nothing is written.

    Args:
        path: torch checkpoint, safetensors or ONNX file.
        network: zoo network, spec file, model folder, or run folder with a trial.
        options: see there.

    Raises:
        BuildError: the file cannot be read, does not fit, or fits in more than one way.
        ConfigError: an option is wrong.
        DeployError: the network does not give what the file gives.
    """
    if options.scale is not None and not options.scale > 0:
        raise ConfigError(f"--scale must be above 0, got {options.scale:g}")
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    design = design_of(
        network,
        options.trial,
        input_size=options.input_size,
        embedding_size=options.embedding_size,
    )
    file_format = _format(path)
    in_graph = None
    if file_format == "ONNX":
        found = read_onnx(path)
        sources, in_graph = [found.source], found.preprocessing
        _require_size(path, found.input_size, design)
    else:
        sources = read_torch(path) if file_format == "torch" else read_safetensors(path)
    sites = sites_of(design.network, design.input)
    size = design.network.output_shape(design.input).channels
    source, matched = _only_match(path, sources, sites, size, options.part, network)
    outside, preprocessing, assumed = _preprocessing(options, in_graph, design.input.channels)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    arch_id = design.spec.arch_id if design.spec else load_description(Path(network)).arch_id
    description = Description(
        network=design.network,
        input_shape=(design.input.channels, design.input.height, design.input.width),
        preprocessing=preprocessing,
        arch_id=arch_id,
        lineage=(f"imported from {path.name} ({file_format}, sha256 {digest}) as {network}",),
    )
    model = _loaded(description, matched, source, sites)
    return Imported(
        model=model,
        network=network,
        file_format=file_format,
        part=source.part,
        rows=_rows(matched, source, sites),
        dropped=tuple(source.operators[at].name or "weight" for at in matched.dropped),
        ignored=source.ignored,
        in_graph=in_graph,
        assumed=assumed,
        digest=digest,
        proof=_proof(model, path if in_graph is not None else None, outside, in_graph),
    )


def default_folder(imported: Imported) -> Path:
    """Where a user finds the model who does not say where."""
    name = Path(imported.network).stem
    return Path("runs") / "imported" / f"{name}-{imported.digest[:8]}"


def write(imported: Imported, folder: Path) -> bool:
    """Write the model folder, whole or not at all.

    Returns:
        False where the same import is there already.

    Raises:
        ConfigError: something else is there.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if (folder / MODEL_FILE).is_file():
            if load_description(folder) == imported.model.description:
                FaceModel.load(folder)
                return False
        raise ConfigError(f"{folder}: holds something else; choose another folder with --out")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        imported.model.save(partial)
        partial.chmod(0o777 & ~_umask())
        os.replace(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _format(path: Path) -> Format:
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return "ONNX"
    if suffix == ".safetensors":
        return "safetensors"
    if suffix in _TORCH:
        return "torch"
    raise ConfigError(
        f"{path}: the name must end in .onnx, .safetensors or {', '.join(_TORCH[:4])}, got "
        f"{suffix or 'none of them'!r}"
    )


def _require_size(path: Path, size: tuple[int, int] | None, design: Design) -> None:
    ours = (design.input.height, design.input.width)
    if size is not None and size != ours:
        raise BuildError(
            f"{path}: takes images of {size[0]}x{size[1]}, the network of {ours[0]}x{ours[1]}; "
            f"give --input-size {size[0]}x{size[1]}"
        )


def _only_match(
    path: Path,
    sources: Sequence[Source],
    sites: tuple[Site, ...],
    embedding_size: int,
    part: str | None,
    network: str,
) -> tuple[Source, Match]:
    """The one part of the file that is the network.

    Raises:
        BuildError: none is, or several are.
    """
    names = [source.part for source in sources]
    if part is not None:
        sources = [source for source in sources if source.part == part]
        if not sources:
            raise BuildError(
                f"{path}: has no part {part!r}, but {', '.join(repr(name) for name in names)}"
            )
    found: list[tuple[Source, Match]] = []
    failures: list[tuple[Source, BuildError]] = []
    for source in sources:
        try:
            found.append((source, match(source, sites, embedding_size)))
        except BuildError as failure:
            failures.append((source, failure))
    if len(found) == 1:
        return found[0]
    if found:
        parts = ", ".join(source.part for source, _ in found)
        raise BuildError(f"{path}: several parts fit {network}: {parts}; say which with --part")
    largest, reason = max(failures, key=lambda pair: len(pair[0].operators))
    where = f"{path} ({largest.part})" if largest.part else f"{path}"
    raise BuildError(f"{where} is not {network}: {reason}") from reason


def _preprocessing(
    options: ImportOptions, in_graph: InGraph | None, channels: int
) -> tuple[Preprocessing, Preprocessing, bool]:
    """What happens to pixels before the file, before our network, and whether it is assumed."""
    inside = in_graph or InGraph()
    given = options.mean is not None or options.scale is not None
    assumed = not given and not inside.normalises
    usual = Preprocessing()
    mean = options.mean if options.mean is not None else (usual.mean if assumed else 0.0)
    scale = options.scale if options.scale is not None else (usual.scale if assumed else 1.0)
    if channels == 1:
        if options.bgr:
            raise ConfigError("--bgr is for networks that read colour; this one reads grey")
        ours = Preprocessing(
            mean=mean + scale * inside.mean, scale=scale * inside.scale, channel_order="grey"
        )
        order: Literal["RGB", "grey"] = "RGB" if inside.luma else "grey"
        return Preprocessing(mean=mean, scale=scale, channel_order=order), ours, assumed
    outside = Preprocessing(mean=mean, scale=scale, channel_order="BGR" if options.bgr else "RGB")
    ours = Preprocessing(
        mean=mean + scale * inside.mean,
        scale=scale * inside.scale,
        channel_order="BGR" if options.bgr != inside.mirrored else "RGB",
    )
    return outside, ours, assumed


def _loaded(
    description: Description, matched: Match, source: Source, sites: tuple[Site, ...]
) -> FaceModel:
    weights = {
        key: torch.from_numpy(np.array(value))
        for key, value in weights_of(matched, source, sites).items()
    }
    for key in list(weights):
        if key.endswith(".running_mean"):
            counter = key.removesuffix("running_mean") + "num_batches_tracked"
            weights[counter] = torch.zeros((), dtype=torch.int64)
    model = FaceModel.of(description, weights)
    model.module.eval()
    return model


def _rows(matched: Match, source: Source, sites: tuple[Site, ...]) -> tuple[Row, ...]:
    rows = []
    for site, at in zip(sites, matched.assigned, strict=True):
        if at is None:
            rows.append(Row(path=site.path, name=None, shapes="", params=0))
        else:
            operator = source.operators[at]
            params = sum(value.size for value in operator.arrays.values())
            name = operator.name or "weight"
            rows.append(Row(path=site.path, name=name, shapes=operator.shapes, params=params))
    return tuple(rows)


def _proof(
    model: FaceModel, reference: Path | None, outside: Preprocessing, in_graph: InGraph | None
) -> Proof:
    """Run the network, and the file where it can run, on real crops.

    Raises:
        DeployError: embeddings are not finite, all alike, or not those of the file.
    """
    crops = _crops(model.height, model.width)
    mine = model.embed(crops, flip=False).astype(np.float64)
    if not np.isfinite(mine).all():
        raise DeployError("embeddings of real crops are not finite; nothing was written")
    unit = _unit(mine)
    if float(np.ptp(unit, axis=0).max()) < 1e-6:
        raise DeployError("every face gets the same embedding; nothing was written")
    unit_difference = raw_difference = None
    if reference is not None:
        x = outside.apply(crops).numpy()
        if in_graph is not None and in_graph.channels_last:
            x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        theirs = run_onnx(reference, x, mine.shape[1]).astype(np.float64)
        raw_difference = float(np.abs(mine - theirs).max())
        unit_difference = float(np.abs(unit - _unit(theirs)).max())
        if not unit_difference <= MOST_DIFFERENCE:
            raise DeployError(
                f"{reference}: its embeddings and the network's must agree to {MOST_DIFFERENCE:g} "
                f"on real crops, they differ by {unit_difference:.2g}; the two are different "
                "networks with weights of equal shapes; nothing was written"
            )
    cosines = unit @ unit.T
    people = np.repeat(np.arange(_PEOPLE), _EACH)
    alike = people[:, np.newaxis] == people
    others = ~np.eye(len(people), dtype=bool)
    return Proof(
        n_crops=len(crops),
        unit_difference=unit_difference,
        raw_difference=raw_difference,
        same=float(cosines[alike & others].mean()),
        different=float(cosines[~alike].mean()),
    )


def _crops(height: int, width: int) -> NDArray[np.uint8]:
    """Built-in faces, tinted: two of each of some people."""
    faces = load_orl(height, width)
    rows = [np.flatnonzero(faces.labels == who)[:_EACH] for who in range(_PEOPLE)]
    images = faces.batch(np.concatenate(rows))
    tinted: NDArray[np.uint8] = np.rint(images * np.array(_TINT)).astype(np.uint8)
    return tinted


def _unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(lengths == 0, 1.0, lengths)
