"""Networks that read grey images train on the same colour images as all others."""

from dataclasses import replace

import numpy as np
import torch

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.heads import PooledLinearHead
from nas_face.arch.spec import ArchSpec
from nas_face.data import FaceImages
from nas_face.data.augment import AugmentSettings
from nas_face.losses.distillation import Angular
from nas_face.losses.margins import CosFace
from nas_face.nn import FaceModel
from nas_face.train import TrainSettings, train
from nas_face.train.teachers import CachedTargets, TeacherModel, TeacherSettings, images_digest

SPEC = ArchSpec(
    input_shape=(1, 16, 12),
    stem=(ConvUnit(out_channels=8, stride=2),),
    stages=((ConvUnit(out_channels=16, stride=2),),),
    head=PooledLinearHead(embedding_size=8, tail_channels=16),
)
RECIPE = TrainSettings(
    epochs=4,
    batch_size=8,
    learning_rate=0.05,
    loss=CosFace(margin=0.35, scale=16.0),
    augment=AugmentSettings(flip=False),
)
LABELS = np.arange(24) % 4


def of_colours(*colours: tuple[int, int, int]) -> FaceImages:
    """Noise in the colour of its identity."""
    noise = np.random.default_rng(0).integers(0, 30, (len(LABELS), 16, 12, 3))
    pixels = (noise + np.array(colours)[LABELS][:, None, None]).astype(np.uint8)
    return FaceImages.from_array(pixels, LABELS)


def losses(images: FaceImages) -> list[float]:
    reports = []
    train(FaceModel.fresh(SPEC, seed=0), images, RECIPE, seed=1, on_epoch=reports.append)
    return [report.loss for report in reports]


def test_it_learns_people_of_different_brightness():
    seen = losses(of_colours((0, 0, 0), (0, 100, 0), (200, 0, 200), (225, 225, 225)))
    assert seen[-1] < 0.5 * seen[0]


def test_a_colour_teacher_teaches_it(tmp_path):
    images = of_colours((0, 0, 0), (0, 100, 0), (200, 0, 200), (225, 225, 225))
    teacher = FaceModel.fresh(replace(SPEC, input_shape=(3, 16, 12)), seed=2)
    student = FaceModel.fresh(SPEC, seed=0)
    batch = images.batch(np.arange(len(images)))

    def mean_cosine() -> float:
        ours, theirs = (torch.from_numpy(each.embed(batch)) for each in (student, teacher))
        return float(torch.nn.functional.cosine_similarity(ours, theirs).mean())

    before = mean_cosine()
    colour = TeacherModel(
        name="colour", digest=teacher.digest, height=16, width=12, load=lambda: teacher
    )
    targets = CachedTargets(
        colour, images, images_digest(images), tmp_path, note=lambda line: None
    )
    recipe = replace(
        RECIPE, teacher=TeacherSettings(model="colour"), distil=(Angular(weight=20.0),)
    )
    train(student, images, recipe, seed=1, teacher=targets)
    assert mean_cosine() > before + 0.3
