"""The training loop: against one written out here, reproducible, resumable, honest about NaN."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.inverted_residual import InvertedResidual
from nas_face.arch.heads import GlobalDepthwiseHead
from nas_face.arch.spec import ArchSpec
from nas_face.compress.pruning import prune
from nas_face.data import FaceImages, load_orl
from nas_face.data.augment import AugmentSettings
from nas_face.data.sampling import BatchPlan
from nas_face.errors import DataError, TrainingDiverged
from nas_face.losses.distillation import AdaptiveCentres, Angular, PairRanks, Relational, Template
from nas_face.losses.margins import ArcFace, CosFace, ElasticFace
from nas_face.nn import FaceModel
from nas_face.train import Checkpoints, EpochReport, TrainSettings, train
from nas_face.train.schedule import learning_rate
from nas_face.train.teachers import TeacherSettings

SPEC = ArchSpec(
    input_shape=(3, 16, 16),
    stem=(ConvUnit(out_channels=8, stride=2),),
    stages=((InvertedResidual(out_channels=16, hidden_channels=16, stride=2),),),
    head=GlobalDepthwiseHead(embedding_size=8, tail_channels=16),
)
RECIPE = TrainSettings(
    epochs=4, batch_size=8, learning_rate=0.05, loss=CosFace(margin=0.35, scale=16.0)
)
EVERYTHING = TrainSettings(
    epochs=2,
    generations=2,
    batch_size=8,
    accumulate=2,
    optimizer="adamw",
    learning_rate=0.01,
    loss=ElasticFace(scale=16.0),
    sub_centres=2,
    sample_rate=0.5,
    teacher=TeacherSettings(model="made up"),
    distil=(Angular(), PairRanks(), Relational(), AdaptiveCentres()),
    ema=0.9,
    precision="bf16",
    augment=AugmentSettings(shift=1, brightness=0.2, erase=0.5),
)
TAUGHT = replace(RECIPE, teacher=TeacherSettings(model="made up"), distil=(Angular(),))


def made_up_faces(n: int = 22, n_identities: int = 4, seed: int = 0) -> FaceImages:
    pixels = np.random.default_rng(seed).integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
    return FaceImages.from_array(pixels, np.arange(n) % n_identities)


FACES = made_up_faces()


def trained(model=None, images=FACES, settings=RECIPE, *, seed=3, **kwargs) -> FaceModel:
    model = FaceModel.fresh(SPEC, seed=1) if model is None else model
    return train(model, images, settings, seed=seed, **kwargs)


def same_weights(a: FaceModel, b: FaceModel) -> bool:
    first, second = a.module.state_dict(), b.module.state_dict()
    return list(first) == list(second) and all(torch.equal(first[k], second[k]) for k in first)


class Targets:
    """A teacher that knows all its embeddings by heart."""

    def __init__(self, model: FaceModel | None = None, images=FACES, *, size: int = 8) -> None:
        pixels = images.batch(np.arange(len(images)))
        views = [pixels, np.ascontiguousarray(pixels[:, :, ::-1])]
        if model is None:
            rng = np.random.default_rng(7)
            found = [rng.normal(size=(len(images), size)) for _ in views]
        else:
            found = [model.embed(view, flip=False) for view in views]
        self.views = [
            (each / np.linalg.norm(each, axis=1, keepdims=True)).astype(np.float32)
            for each in found
        ]
        self.embedding_size = self.views[0].shape[1]
        self.identity = "by heart"
        self.asked = []

    def rows(self, indices, mirrored, *, epoch):
        self.asked.append((indices.tolist(), mirrored.tolist(), epoch))
        return np.where(mirrored[:, None], self.views[1][indices], self.views[0][indices])

    def prepare(self, *, epoch, mirrored):
        self.asked.append(epoch)

    def sample(self, n):
        return self.views[0][:n]


class Interrupted(BaseException):
    """Stands for a process that ends."""


def interrupt_after(epoch):
    def on_epoch(report):
        if report.epoch == epoch:
            raise Interrupted

    return on_epoch


def test_it_is_the_loop_written_out():
    """Plain SGD with Nesterov momentum, clipped gradients, decay on matrices and filters only."""
    images = FACES
    arcface = ArcFace(margin=0.35, scale=16.0)
    recipe = replace(RECIPE, weight_decay=0.05, clip_norm=0.5, loss=arcface)
    plan = BatchPlan(labels=images.labels, batch_size=8, seed=3)
    model = FaceModel.fresh(SPEC, seed=1)
    module = model.module.train()
    torch.manual_seed(3)
    centres = nn.Parameter(torch.empty(4, 8).normal_(std=0.01))
    named = [*module.named_parameters(), ("centres", centres)]
    kinds = {id(p): type(m) for m in module.modules() for p in m.parameters(recurse=False)}
    decayed = {
        id(p): kinds.get(id(p)) in (nn.Conv2d, nn.Linear) or name == "centres" for name, p in named
    }
    velocity = {}
    n_steps = 3 * recipe.epochs
    step, losses = 0, []
    for epoch in range(recipe.epochs):
        losses.append([])
        rng = np.random.default_rng([3, epoch])
        rng.permutation(22)
        mirrored = rng.random(22) < 0.5
        for number, rows in enumerate(plan.batches(epoch=epoch)):
            batch, labels = images.batch(rows), images.labels[rows]
            turned = mirrored[8 * number : 8 * number + len(rows)]
            batch[turned] = batch[turned, :, ::-1]
            x = torch.from_numpy(batch).permute(0, 3, 1, 2).float().sub(127.5).div(127.5)
            unit = nn.functional.normalize(module(x.contiguous()))
            cosines = unit @ nn.functional.normalize(centres).T
            angles = cosines.clamp(-0.9999999, 0.9999999).acos()
            own = nn.functional.one_hot(torch.from_numpy(labels), 4).bool()
            fallen = cosines - 0.35 * np.sin(0.35)
            harder = torch.where(angles + 0.35 < np.pi, (angles + 0.35).cos(), fallen)
            logits = 16 * torch.where(own, harder, cosines)
            loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels))
            gradients = torch.autograd.grad(loss, [p for _, p in named])
            norm = torch.stack([g.norm() for g in gradients]).norm()
            factor = min(1.0, 0.5 / (norm.item() + 1e-6))
            rate = learning_rate(step, n_steps, recipe)
            with torch.no_grad():
                for (_, p), gradient in zip(named, gradients, strict=True):
                    gradient = gradient * factor + 0.05 * decayed[id(p)] * p
                    velocity[id(p)] = 0.9 * velocity.get(id(p), 0) + gradient
                    p -= rate * (gradient + 0.9 * velocity[id(p)])
            losses[-1] += [loss.item()] * len(labels)
            step += 1
    assert step == n_steps

    reports = []
    ours = trained(settings=recipe, on_epoch=reports.append)
    for key, value in ours.module.state_dict().items():
        torch.testing.assert_close(value, module.state_dict()[key], rtol=1e-3, atol=1e-5)
    assert [report.loss for report in reports] == pytest.approx(
        [np.mean(each) for each in losses], rel=1e-3
    )
    assert [(report.epoch, report.n_epochs, report.images) for report in reports] == [
        (epoch, 4, 22) for epoch in (1, 2, 3, 4)
    ]


def test_same_seed_same_weights_bit_for_bit():
    first = trained()
    torch.manual_seed(999)  # whatever the global generator holds
    assert same_weights(first, trained())
    assert not same_weights(first, trained(seed=4))


def test_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trained()
    assert torch.equal(torch.rand(3), expected)


def test_the_model_is_trained_in_place_and_left_in_evaluation_mode():
    model = FaceModel.fresh(SPEC, seed=1)
    result = trained(model)
    assert result is model
    assert not model.module.training
    assert not same_weights(model, FaceModel.fresh(SPEC, seed=1))


@pytest.mark.parametrize("epoch", [1, 2, 3, 4])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(epoch, tmp_path):
    checkpoints = Checkpoints(tmp_path / "run")
    with pytest.raises(Interrupted):
        trained(checkpoints=checkpoints, on_epoch=interrupt_after(epoch))
    seen = []
    resumed = trained(checkpoints=checkpoints, on_epoch=lambda report: seen.append(report.epoch))
    assert seen == list(range(epoch, 5))
    assert same_weights(resumed, trained())


def test_an_epoch_that_was_not_reported_to_the_end_is_reported_again_alike(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run")
    images = made_up_faces(n=6, seed=1).batch(np.arange(6))
    model, reports, embeddings = FaceModel.fresh(SPEC, seed=1), [], []

    def look(report):
        reports.append(report)
        embeddings.append(model.embed(images))
        if len(reports) == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        trained(model, checkpoints=checkpoints, on_epoch=look)
    assert newest(checkpoints) == "step-000000006.safetensors"
    model = FaceModel.fresh(SPEC, seed=1)
    trained(model, checkpoints=checkpoints, on_epoch=look)
    assert [report.epoch for report in reports] == [1, 2, 3, 3, 4]
    assert reports[2] == reports[3]
    assert (embeddings[2] == embeddings[3]).all()


def test_a_finished_training_is_taken_from_its_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run")
    once = trained(checkpoints=checkpoints)
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == [
        "step-000000009.safetensors",
        "step-000000012.safetensors",
    ]
    seen = []
    again = trained(checkpoints=checkpoints, on_epoch=lambda report: seen.append(report.epoch))
    assert seen == []
    assert same_weights(again, once)
    assert not again.module.training


@pytest.mark.parametrize("step", range(1, 13))
@pytest.mark.parametrize("recipe", ["plain", "all"])
def test_a_training_killed_at_any_step_ends_as_one_that_was_not(step, recipe, tmp_path):
    """A checkpoint after every step stands for one that came just before the kill."""
    settings, teacher = {"plain": (RECIPE, None), "all": (EVERYTHING, Targets(size=12))}[recipe]

    def interrupt(report):
        if report.step == step:
            raise Interrupted

    checkpoints = Checkpoints(tmp_path / "run", every_s=0)
    with pytest.raises(Interrupted):
        trained(settings=settings, teacher=teacher, checkpoints=checkpoints, on_step=interrupt)
    steps, epochs = [], []
    resumed = trained(
        settings=settings,
        teacher=teacher,
        checkpoints=checkpoints,
        on_step=lambda report: steps.append(report.step),
        on_epoch=epochs.append,
    )
    assert steps == list(range(step, 13))
    whole = []
    straight = trained(settings=settings, teacher=teacher, on_epoch=whole.append)
    assert same_weights(resumed, straight)
    assert epochs == whole[-len(epochs) :]


def test_every_part_of_the_recipe_matters_to_that_test():
    plain = trained(settings=EVERYTHING, teacher=Targets(size=12))
    for change in (
        {"accumulate": 1},
        {"ema": None},
        {"precision": "fp32"},
        {"sub_centres": 1},
        {"sample_rate": 1.0},
        {"distil": EVERYTHING.distil[:-1]},
        {"generations": 1, "epochs": 4},
        {"optimizer": "sgd"},
        {"augment": AugmentSettings()},
    ):
        other = trained(settings=replace(EVERYTHING, **change), teacher=Targets(size=12))
        assert not same_weights(other, plain), change


def test_on_step_can_interrupt_and_nothing_is_lost(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        trained(checkpoints=checkpoints, on_step=lambda report: report.step < 5)
    assert newest(checkpoints) == "step-000000005.safetensors"
    steps = []
    resumed = trained(checkpoints=checkpoints, on_step=lambda report: steps.append(report.step))
    assert steps == list(range(6, 13))
    assert same_weights(resumed, trained())


def newest(checkpoints: Checkpoints) -> str:
    return max(path.name for path in checkpoints.folder.iterdir())


def test_two_interruptions(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run")
    for epoch in (1, 3):
        with pytest.raises(Interrupted):
            trained(checkpoints=checkpoints, on_epoch=interrupt_after(epoch))
    assert same_weights(trained(checkpoints=checkpoints), trained())


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 4},
        {"settings": replace(RECIPE, learning_rate=0.06)},
        {"settings": replace(RECIPE, epochs=5)},
        {"images": made_up_faces(n=23)},
        {
            "model": lambda: FaceModel.fresh(
                replace(SPEC, stem=(ConvUnit(out_channels=12, stride=2),)), seed=1
            )
        },
        {"model": lambda: FaceModel.fresh(SPEC, seed=1).noting("another history")},
        {"model": lambda: pruned(FaceModel.fresh(SPEC, seed=1))},
        {"model": lambda: FaceModel.fresh(SPEC, seed=2)},
        {"images": FaceImages.from_array(FACES.batch(np.arange(22)), np.arange(22) % 3)},
    ],
    ids=[
        "seed",
        "rate",
        "epochs",
        "images",
        "network",
        "lineage",
        "pruned",
        "weights",
        "people",
    ],
)
def test_a_checkpoint_of_another_training_is_ignored(other, tmp_path):
    checkpoints = Checkpoints(tmp_path / "run")
    with pytest.raises(Interrupted):
        trained(checkpoints=checkpoints, on_epoch=interrupt_after(2))

    def run(**kwargs):
        make = {"model": lambda: None, **other}["model"]
        rest = {key: value for key, value in other.items() if key != "model"}
        return trained(make(), **rest, **kwargs)

    assert same_weights(run(checkpoints=checkpoints), run())


def pruned(model: FaceModel) -> FaceModel:
    return prune(model, target_madds=model.description.cost.madds * 3 // 4, round_to=1).model


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b"no checkpoint", lambda b: b[:900]])
def test_a_broken_checkpoint_is_passed_over_for_the_one_before(damage, tmp_path, caplog):
    checkpoints = Checkpoints(tmp_path / "run", every_s=0)
    with pytest.raises(Interrupted):
        trained(checkpoints=checkpoints, on_epoch=interrupt_after(2))
    last = checkpoints.folder / newest(checkpoints)
    last.write_bytes(damage(last.read_bytes()))
    steps = []
    resumed = trained(checkpoints=checkpoints, on_step=lambda report: steps.append(report.step))
    assert steps[0] == 6  # step 6 was the broken one
    assert "not a readable checkpoint" in caplog.text
    assert same_weights(resumed, trained())


def test_on_epoch_can_end_the_training(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run")
    seen = []

    def stop(report):
        seen.append(report.epoch)
        return report.epoch < 2

    model = trained(on_epoch=stop, checkpoints=checkpoints)
    assert seen == [1, 2]
    assert not model.module.training


def test_on_epoch_that_answers_nothing_goes_on():
    seen = []
    trained(on_epoch=lambda report: seen.append(report.epoch))
    assert seen == [1, 2, 3, 4]


@pytest.mark.parametrize("epochs", [1, 4])
def test_divergence_is_said_and_not_passed_on(epochs):
    """With one epoch of one step no later loss is left to show it."""
    recipe = replace(
        RECIPE, epochs=epochs, batch_size=22, learning_rate=1e38, clip_norm=1e6, warmup=0.0
    )
    with pytest.raises(TrainingDiverged, match=r"lower training.learning_rate \(now 1e\+38\)"):
        trained(settings=recipe)


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_identities_are_refused(n):
    with pytest.raises(DataError, match=rf"at least 3 identities, .*, got {n}; add people"):
        trained(images=made_up_faces(n_identities=n))
    trained(images=made_up_faces(n_identities=3))


def test_flips_and_shifts_reach_the_network():
    plain = replace(RECIPE, augment=AugmentSettings(flip=False))
    moved = replace(RECIPE, augment=AugmentSettings(flip=False, shift=2))
    assert not same_weights(trained(settings=plain), trained(settings=RECIPE))
    assert not same_weights(trained(settings=plain), trained(settings=moved))


def test_short_last_batches_are_trained_on():
    """17 images in batches of 8 leave one, on which batch normalisation cannot train."""
    reports = []
    trained(images=made_up_faces(n=17), on_epoch=reports.append)
    assert [report.images for report in reports] == [16] * 4


def test_the_teacher_is_asked_for_the_images_that_the_network_sees():
    teacher = Targets()
    trained(settings=TAUGHT, teacher=teacher)
    plan = BatchPlan(labels=FACES.labels, batch_size=8, seed=3)
    expected = []
    for epoch in range(4):
        expected += [epoch, *((rows.tolist(), epoch) for rows in plan.batches(epoch=epoch))]
    asked = [each if isinstance(each, int) else (each[0], each[2]) for each in teacher.asked]
    assert asked == expected
    turned = [flag for each in teacher.asked if not isinstance(each, int) for flag in each[1]]
    assert 20 < sum(turned) < 68


def test_a_teacher_needs_no_labels():
    """Label-free: one identity or wrong ones make no difference."""
    settings = replace(TAUGHT, loss=None)
    other = FaceImages(
        pixels=FACES.pixels,
        rows=FACES.rows,
        labels=np.zeros(22, np.int64),
        identities=("somebody",),
        names=FACES.names,
    )
    first = trained(settings=settings, teacher=Targets())
    assert same_weights(first, trained(images=other, settings=settings, teacher=Targets()))
    with pytest.raises(DataError, match="at least 3 identities, .* got 1"):
        trained(images=other, settings=TAUGHT, teacher=Targets())


@pytest.mark.parametrize("size", [5, 8, 12])
@pytest.mark.parametrize("bridge", ["isometry", "linear"])
def test_a_bridge_leads_to_teachers_of_any_length(size, bridge):
    settings = replace(TAUGHT, loss=None, epochs=40, bridge=bridge, distil=(Template(),))
    losses = []
    trained(
        settings=settings,
        teacher=Targets(size=size),
        on_epoch=lambda report: losses.append(report.loss),
    )
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("method", [Angular(), Relational(), PairRanks(), AdaptiveCentres()])
@pytest.mark.parametrize("loss", [None, CosFace(scale=16.0)])
def test_every_method_teaches_alone_and_beside_a_margin(method, loss):
    settings = replace(TAUGHT, loss=loss, distil=(method,))
    model = trained(settings=settings, teacher=Targets())
    assert not same_weights(model, trained())
    assert np.isfinite(model.embed(FACES.batch(np.arange(4)))).all()


def test_generations_go_on_from_the_weights_of_the_one_before():
    settings = replace(TAUGHT, generations=2, epochs=2)
    epochs = []
    twice = trained(settings=settings, teacher=Targets(), on_epoch=epochs.append)
    assert [(each.epoch, each.n_epochs) for each in epochs] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    once = trained(settings=replace(settings, generations=1), teacher=Targets())
    assert not same_weights(once, twice)


def test_distillation_leaves_the_teacher_alone_and_draws_the_student_near():
    teacher = trained(seed=8)
    before = {key: value.clone() for key, value in teacher.module.state_dict().items()}
    student = FaceModel.fresh(SPEC, seed=9)
    recipe = replace(RECIPE, epochs=12)

    def mean_cosine(model):
        images = FACES.batch(np.arange(len(FACES)))
        ours, theirs = (torch.from_numpy(each.embed(images)) for each in (model, teacher))
        return nn.functional.cosine_similarity(ours, theirs).mean().item()

    taught = replace(TAUGHT, epochs=12, distil=(Angular(weight=20.0),))
    trained(student, settings=taught, teacher=Targets(teacher))
    after = teacher.module.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert not teacher.module.training
    alone = trained(FaceModel.fresh(SPEC, seed=9), settings=recipe)
    assert mean_cosine(student) > mean_cosine(alone) + 0.2


def test_faces_are_learnt():
    """Ten epochs on twenty people: a lower loss, and unseen photos nearer to their own person."""
    everyone = load_orl(32, 32)
    images = everyone.subset(everyone.identities[:20])
    strangers = everyone.subset(everyone.identities[20:])
    spec = replace(SPEC, input_shape=(3, 32, 32), head=GlobalDepthwiseHead(embedding_size=32))

    def own_against_others(model):
        embeddings = model.embed(strangers.batch(np.arange(len(strangers))))
        unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        cosines = unit @ unit.T
        same = strangers.labels[:, None] == strangers.labels[None]
        own = same & ~np.eye(len(same), dtype=bool)
        return (cosines[own].mean() - cosines[~same].mean()) / cosines[~same].std()

    model = FaceModel.fresh(spec, seed=0)
    before = own_against_others(model)
    losses = []
    recipe = TrainSettings(epochs=10, batch_size=40)
    trained(model, images, recipe, on_epoch=lambda report: losses.append(report.loss))
    assert losses[-1] < 0.3 * losses[0]
    assert own_against_others(model) > before + 0.3


def test_a_report_tells_how_long_the_training_waited_for_images():
    reports = []
    trained(on_epoch=reports.append)
    assert len(reports) == RECIPE.epochs
    assert all(0 < each.wait_s < each.seconds for each in reports)


def test_the_pace_is_shown_in_images_a_second():
    report = EpochReport(epoch=1, n_epochs=2, loss=0.5, images=300, seconds=2.0, wait_s=0.25)
    assert report.pace == "150 images/s, 12% waiting for data"
    assert report == replace(report, seconds=3.0, wait_s=0.0)
    assert replace(report, seconds=0.0).pace == ""
