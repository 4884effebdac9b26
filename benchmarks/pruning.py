"""Structured pruning of a trained model: ours beside Torch-Pruning alone.

Both rank channels over the whole network by the same criterion, keep the embedding, round widths
to the same multiple and aim at the same multiply-adds, which torch's own counter counts.
Torch-Pruning has no target of its own, so its ratio is found by bisection: the narrowest step at
or under the target. What it makes is read back as a layer tree, so that all else is the same code
for both. It cannot do every network (splits, shuffles); MobileFaceNet is one that it can.

For each target and criterion: MAdds reached, and on pairs the accuracy and the mean cosine to the
unpruned network's embeddings: straight after pruning, after the statistics of batch normalisations
were measured anew on some crops, and, with --epochs, after distillation from the unpruned network.
Ours is there twice: bare, and with what is left fitted to what was there on the same crops.

    python benchmarks/pruning.py MODEL --crops FACES --pairs PAIRS --images LFW --targets 0.7 0.5
"""

import argparse
import copy
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, get_args

import numpy as np
import torch
import torch_pruning
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from nas_face.arch.combinators import Concat, Gate, Layer, Product, Sequence, Sum
from nas_face.arch.layers import Conv, Linear
from nas_face.compress.pruning import (
    BY_GRADIENT,
    Importance,
    Scope,
    angular_gradients,
    prune,
    recalibrate_norms,
    restore_norms,
)
from nas_face.compress.pruning.channels import couple
from nas_face.data import FaceImages, PairList, load_faces, load_pairs
from nas_face.losses.distillation import Angular
from nas_face.nn import FaceModel
from nas_face.study.faces import sample_images
from nas_face.train import TrainSettings, train
from nas_face.train.teachers import CachedTargets, TeacherModel, TeacherSettings, images_digest
from nas_face.verify import verify_embeddings

CRITERIA = ("l2", "fpgm", "taylor", "fisher")
SHARED = ("l2", "fpgm", "taylor")  # what Torch-Pruning has, too
REFIT = "nas-face, refit"
THEIRS = "torch-pruning"
TOOLS = ("nas-face", REFIT, THEIRS)
N_BISECTIONS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Pairs, and what the unpruned network makes of them.

    Attributes:
        pairs: to verify on.
        images: of the pairs.
        reference: their unit embeddings by the unpruned network.
        flip: whether mirrored images are added.
    """

    pairs: PairList
    images: NDArray[np.uint8]
    reference: NDArray[np.float32]
    flip: bool

    def said(self, model: FaceModel) -> str:
        """Accuracy in percent and mean cosine."""
        embeddings = model.embed(self.images, flip=self.flip)
        accuracy = verify_embeddings(embeddings, self.pairs).accuracy
        cosine = float((unit(embeddings) * self.reference).sum(axis=1).mean())
        return f"{100 * accuracy:.2f} / {cosine:.3f}"


def main() -> None:
    """Parse, prune, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="model folder of a trained network")
    parser.add_argument("--crops", type=Path, required=True, help="FOLDER/IDENTITY/IMAGE")
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--images", type=Path, help="root of the images that the pairs name")
    parser.add_argument("--targets", type=float, nargs="+", default=[0.7, 0.5], help="of MAdds")
    parser.add_argument("--importance", choices=CRITERIA, nargs="+", default=CRITERIA)
    parser.add_argument("--scope", choices=get_args(Scope), default="global")
    parser.add_argument("--round-to", type=int, default=8)
    parser.add_argument("--recalibrate-on", type=int, default=300, help="crops")
    parser.add_argument("--gradients-on", type=int, default=64, help="crops")
    parser.add_argument("--epochs", type=int, default=0, help="of distillation")
    parser.add_argument("--flip", action="store_true", help="add mirrored images of pairs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.getLogger("nas_face").setLevel(logging.ERROR)
    model = FaceModel.load(arguments.model)
    faces = load_faces(arguments.crops, height=model.height, width=model.width)
    pairs = load_pairs(arguments.pairs, arguments.images, height=model.height, width=model.width)
    crops = sample_images(faces, arguments.recalibrate_on, seed=arguments.seed)
    model = restore_norms(model, crops)  # imported networks have lost them
    images = pairs.images.batch(np.arange(len(pairs.images)))
    reference = unit(model.embed(images, flip=arguments.flip))
    judge = Judge(pairs=pairs, images=images, reference=reference, flip=arguments.flip)
    Console(width=120).print(compared(model, faces, crops, judge, arguments))


def compared(
    model: FaceModel,
    faces: FaceImages,
    crops: NDArray[np.uint8],
    judge: Judge,
    arguments: argparse.Namespace,
) -> Table:
    """One line for each target, criterion and tool."""
    whole = counted_madds(model)
    title = (
        f"{arguments.model.name}, {whole:,} MAdds, {judge.said(model)} on {len(judge.pairs):,} "
        f"pairs; scope {arguments.scope}, round_to {arguments.round_to}"
    )
    table = Table(title=title)
    for heading in ("target", "criterion", "tool"):
        table.add_column(heading)
    headings = ["MAdds", "off target", "accuracy / cosine", "norms measured anew"]
    if arguments.epochs:
        headings.append(f"distilled {arguments.epochs} epochs")
    for heading in headings:
        table.add_column(heading, justify="right")
    for share, criterion, tool, target in rows(arguments, whole):
        pruned = pruned_by(tool, model, target, criterion, crops, arguments)
        madds = counted_madds(pruned)
        anew = pruned if tool == REFIT else recalibrate_norms(pruned, crops)
        cells = [f"{madds:,}", f"{100 * (madds / target - 1):+.2f} %"]
        cells += [judge.said(pruned), judge.said(anew)]
        if arguments.epochs:
            cells.append(judge.said(distilled(anew, model, faces, arguments)))
        table.add_row(f"{share:.0%}", criterion, tool, *cells)
        Console(width=120, stderr=True).print(share, criterion, tool, *cells)
    return table


def rows(arguments: argparse.Namespace, whole: int) -> Iterator[tuple[float, str, str, int]]:
    """Shares of MAdds, criteria, tools, and the target in MAdds."""
    for share in arguments.targets:
        for criterion in arguments.importance:
            for tool in TOOLS:
                if tool != THEIRS or criterion in SHARED:
                    yield share, criterion, tool, int(share * whole)


def pruned_by(
    tool: str,
    model: FaceModel,
    target: int,
    criterion: str,
    crops: NDArray[np.uint8],
    arguments: argparse.Namespace,
) -> FaceModel:
    """The model at or under a target."""
    model = replace(model, module=copy.deepcopy(model.module))
    seen = crops[: arguments.gradients_on]
    if tool != THEIRS:
        return prune(
            model,
            target_madds=target,
            importance=cast(Importance, criterion),
            scope=arguments.scope,
            round_to=arguments.round_to,
            min_keep=0.0,
            gradients=angular_gradients(model, seen, seed=arguments.seed)
            if criterion in BY_GRADIENT
            else None,
            refit_on=crops if tool == REFIT else None,
        ).model
    if criterion == "taylor":
        backward_(model, seen, seed=arguments.seed)
    low, high, found = 0.0, 1.0, None  # ratios
    for _ in range(N_BISECTIONS):
        ratio = (low + high) / 2
        theirs = torch_pruned(model, ratio, criterion, arguments)
        if theirs is not None and counted_madds(theirs) <= target:
            found, high = theirs, ratio
        elif theirs is None:
            high = ratio
        else:
            low = ratio
    if found is None:
        raise SystemExit(f"torch-pruning reaches {target:,} MAdds at no ratio")
    return found


def torch_pruned(
    model: FaceModel, ratio: float, criterion: str, arguments: argparse.Namespace
) -> FaceModel | None:
    """What Torch-Pruning makes at a ratio; none where nothing of a layer is left."""
    module = copy.deepcopy(model.module)
    for mine, theirs in zip(model.module.parameters(), module.parameters(), strict=True):
        theirs.grad = None if mine.grad is None else mine.grad.clone()
    importance = {
        "l2": torch_pruning.importance.GroupMagnitudeImportance(p=2),
        "fpgm": torch_pruning.importance.FPGMImportance(p=2),
        "taylor": torch_pruning.importance.GroupTaylorImportance(),
    }[criterion]
    embedding = module.get_submodule(embedding_path(model))
    pruner = torch_pruning.pruner.BasePruner(
        module,
        torch.zeros(1, *model.description.input_shape),
        importance=importance,
        global_pruning=arguments.scope != "local",
        isomorphic=arguments.scope == "isomorphic",
        pruning_ratio=ratio,
        ignored_layers=[embedding],
        round_to=arguments.round_to,
    )
    try:
        pruner.step()
    except (RuntimeError, IndexError, ZeroDivisionError):
        return None
    description = replace(
        model.description, network=cast(Sequence, described(model.description.network, module))
    )
    return FaceModel.of(description, module.state_dict())


def embedding_path(model: FaceModel) -> str:
    """The layer that writes the embedding."""
    coupling = couple(model.description.network, model.description.input)
    dense = [each for each in coupling.sites if isinstance(each.layer, Conv | Linear)]
    return dense[-1].path


def described(layer: Layer, module: nn.Module) -> Layer:
    """A tree with the widths that a module has.

    Raises:
        SystemExit: the tree has a layer whose widths a module does not tell.
    """
    match layer:
        case Conv():
            assert isinstance(module, nn.Conv2d)
            return replace(layer, out_channels=module.out_channels, groups=module.groups)
        case Linear():
            assert isinstance(module, nn.Linear)
            return replace(layer, out_features=module.out_features)
        case Sequence():
            inner = tuple(
                described(child, module.get_submodule(name))
                for name, child in layer.named_layers()
            )
            return replace(layer, layers=inner)
        case Sum() | Product() | Concat():
            branches = tuple(
                described(branch, module.get_submodule(f"branches.{at}"))
                for at, branch in enumerate(layer.branches)
            )
            return replace(layer, branches=branches)
        case Gate():
            return Gate(body=described(layer.body, module.get_submodule("body")))
    if layer.kind in ("split", "graph", "channel_slice", "cross_covariance_attention"):
        raise SystemExit(f"{layer.kind}: not a network to compare on")
    return layer


def backward_(model: FaceModel, crops: NDArray[np.uint8], *, seed: int) -> None:
    """Leave gradients in `.grad`: of random projections of the unit embeddings."""
    model.module.eval()
    embeddings = functional.normalize(model.module(model.description.preprocessing.apply(crops)))
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, embeddings.shape, generator=generator) * 2.0 - 1.0
    loss: Tensor = (embeddings * signs).sum(dim=1).mean()
    loss.backward()


def distilled(
    student: FaceModel, teacher: FaceModel, faces: FaceImages, arguments: argparse.Namespace
) -> FaceModel:
    """Trained to give the unpruned network's directions, without labels."""
    settings = TrainSettings(
        epochs=arguments.epochs,
        learning_rate=0.02,
        loss=None,
        teacher=TeacherSettings(model="unpruned"),
        distil=(Angular(weight=7.0),),
    )
    source = TeacherModel(
        name="unpruned",
        digest=teacher.digest,
        height=teacher.height,
        width=teacher.width,
        load=lambda: teacher,
    )
    cache = arguments.model.parent / f"{arguments.model.name}.embeddings"
    targets = CachedTargets(source, faces, images_digest(faces), cache, note=print)
    trained = FaceModel.of(student.description, student.module.state_dict())
    train(trained, faces, settings, seed=arguments.seed, teacher=targets)
    return trained


def counted_madds(model: FaceModel) -> int:
    """Half of what torch's own counter sees."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.module.eval()(torch.zeros(1, *model.description.input_shape))
    return int(counter.get_total_flops()) // 2


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of unit length."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


if __name__ == "__main__":
    main()
