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
from nas_face.compress import prune
from nas_face.data import FaceImages, epoch_batches, load_orl
from nas_face.errors import BuildError, DataError, TrainingDiverged
from nas_face.nn import FaceModel
from nas_face.nn.margins import MarginClassifier
from nas_face.train import EpochReport, TrainSettings, train
from nas_face.train.checkpoint import load_checkpoint, save_checkpoint
from nas_face.train.distil import angular_distillation
from nas_face.train.schedule import learning_rate

SPEC = ArchSpec(
    input_shape=(3, 16, 16),
    stem=(ConvUnit(out_channels=8, stride=2),),
    stages=((InvertedResidual(out_channels=16, hidden_channels=16, stride=2),),),
    head=GlobalDepthwiseHead(embedding_size=8, tail_channels=16),
)
RECIPE = TrainSettings(epochs=4, batch_size=8, learning_rate=0.05, scale=16.0)


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


class Interrupted(BaseException):
    """Stands for a process that ends."""


def interrupt_after(epoch):
    def on_epoch(report):
        if report.epoch == epoch:
            raise Interrupted

    return on_epoch


def test_it_is_the_loop_written_out():
    """Plain SGD with Nesterov momentum, clipped gradients, decay on matrices and filters only."""
    images, recipe = FACES, replace(RECIPE, weight_decay=0.05, clip_norm=0.5, loss="arcface")
    model = FaceModel.fresh(SPEC, seed=1)
    module = model.module.train()
    torch.manual_seed(3)
    margin_loss = MarginClassifier(8, 4, kind="arcface", margin=0.35, scale=16.0)
    named = [*module.named_parameters(), *margin_loss.named_parameters()]
    kinds = {id(p): type(m) for m in module.modules() for p in m.parameters(recurse=False)}
    decayed = {
        id(p): kinds.get(id(p)) in (nn.Conv2d, nn.Linear) or name == "centres" for name, p in named
    }
    velocity = {}
    n_steps = 3 * recipe.epochs
    step, losses = 0, []
    for epoch in range(recipe.epochs):
        losses.append([])
        for batch, labels in epoch_batches(images, batch_size=8, seed=3, epoch=epoch, flip=True):
            x = torch.from_numpy(batch).permute(0, 3, 1, 2).float().sub(127.5).div(127.5)
            loss = margin_loss(module(x.contiguous()), torch.from_numpy(labels))
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
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    with pytest.raises(Interrupted):
        trained(checkpoint=checkpoint, on_epoch=interrupt_after(epoch))
    seen = []
    resumed = trained(checkpoint=checkpoint, on_epoch=lambda report: seen.append(report.epoch))
    assert seen == list(range(epoch, 5))
    assert same_weights(resumed, trained())


def test_an_epoch_that_was_not_reported_to_the_end_is_reported_again_alike(tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    images = made_up_faces(n=6, seed=1).batch(np.arange(6))
    model, reports, embeddings = FaceModel.fresh(SPEC, seed=1), [], []

    def look(report):
        reports.append(report)
        embeddings.append(model.embed(images))
        if len(reports) == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        trained(model, checkpoint=checkpoint, on_epoch=look)
    assert load_checkpoint(checkpoint)["epochs_done"] == 2
    model = FaceModel.fresh(SPEC, seed=1)
    trained(model, checkpoint=checkpoint, on_epoch=look)
    assert [report.epoch for report in reports] == [1, 2, 3, 3, 4]
    assert reports[2] == reports[3]
    assert (embeddings[2] == embeddings[3]).all()


def test_a_finished_training_is_taken_from_its_checkpoint(tmp_path):
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    once = trained(checkpoint=checkpoint)
    assert [path.name for path in checkpoint.parent.iterdir()] == ["checkpoint.pt"]
    seen = []
    again = trained(checkpoint=checkpoint, on_epoch=lambda report: seen.append(report.epoch))
    assert seen == []
    assert same_weights(again, once)
    assert not again.module.training


def test_an_interruption_inside_an_epoch_costs_that_epoch(tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    calls = []

    def nothing(batch, embeddings):
        calls.append(len(batch))
        if len(calls) == 5:  # the second step of the second epoch
            raise Interrupted
        return embeddings.sum() * 0

    with pytest.raises(Interrupted):
        trained(checkpoint=checkpoint, extra_loss=nothing)
    assert load_checkpoint(checkpoint)["epochs_done"] == 1
    assert same_weights(trained(checkpoint=checkpoint, extra_loss=nothing), trained())


def test_two_interruptions(tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    for epoch in (1, 3):
        with pytest.raises(Interrupted):
            trained(checkpoint=checkpoint, on_epoch=interrupt_after(epoch))
    assert same_weights(trained(checkpoint=checkpoint), trained())


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
    ],
    ids=["seed", "rate", "epochs", "images", "network", "lineage", "pruned"],
)
def test_a_checkpoint_of_another_training_is_ignored(other, tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    with pytest.raises(Interrupted):
        trained(checkpoint=checkpoint, on_epoch=interrupt_after(2))

    def run(**kwargs):
        make = {"model": lambda: None, **other}["model"]
        rest = {key: value for key, value in other.items() if key != "model"}
        return trained(make(), **rest, **kwargs)

    assert same_weights(run(checkpoint=checkpoint), run())


def pruned(model: FaceModel) -> FaceModel:
    return prune(model, target_madds=model.description.cost.madds * 3 // 4, round_to=1).model


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 broken"])
def test_a_broken_checkpoint_is_named(content, tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.write_bytes(content)
    with pytest.raises(BuildError, match="checkpoint.pt: not a readable checkpoint") as caught:
        trained(checkpoint=checkpoint)
    assert "delete it to start over" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_checkpoint_is_named(tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    save_checkpoint(checkpoint, {"identity": "x", "model": {"w": torch.zeros(1000)}})
    checkpoint.write_bytes(checkpoint.read_bytes()[:1500])
    with pytest.raises(BuildError, match="not a readable checkpoint"):
        load_checkpoint(checkpoint)


def test_a_file_that_holds_something_else_is_named(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(BuildError, match="list.pt: not a checkpoint, but list"):
        load_checkpoint(tmp_path / "list.pt")


def test_a_checkpoint_runs_no_code(tmp_path):
    torch.save({"identity": Interrupted}, tmp_path / "code.pt")
    with pytest.raises(BuildError, match="code.pt: not a readable checkpoint"):
        load_checkpoint(tmp_path / "code.pt")


def test_checkpoints_survive_a_round_trip(tmp_path):
    path = tmp_path / "deep" / "checkpoint.pt"
    state = {"identity": "a", "epochs_done": 3, "model": {"w": torch.arange(4.0)}}
    save_checkpoint(path, state)
    again = load_checkpoint(path)
    assert torch.equal(again["model"].pop("w"), state["model"].pop("w"))
    assert again == state
    assert [each.name for each in path.parent.iterdir()] == ["checkpoint.pt"]


def test_on_epoch_can_end_the_training(tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    seen = []

    def stop(report):
        seen.append(report.epoch)
        return report.epoch < 2

    model = trained(on_epoch=stop, checkpoint=checkpoint)
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


def test_a_loss_that_is_no_number_names_epoch_and_step():
    calls = []

    def spoilt(batch, embeddings):
        calls.append(1)
        return embeddings.sum() * (float("nan") if len(calls) == 5 else 0.0)

    with pytest.raises(TrainingDiverged, match="loss is nan at epoch 2, step 2"):
        trained(extra_loss=spoilt)


def test_fewer_than_two_identities_are_refused():
    with pytest.raises(DataError, match="at least 2 identities, got 1"):
        trained(images=made_up_faces(n_identities=1))


def test_flips_and_shifts_reach_the_network():
    plain = replace(RECIPE, flip=False)
    assert not same_weights(trained(settings=plain), trained(settings=RECIPE))
    assert not same_weights(trained(settings=plain), trained(settings=replace(plain, shift=2)))


def test_short_last_batches_are_trained_on():
    """17 images in batches of 8 leave one, on which batch normalisation cannot train."""
    reports = []
    trained(images=made_up_faces(n=17), on_epoch=reports.append)
    assert [report.images for report in reports] == [16] * 4


def test_distillation_by_formula():
    """weight x mean over the batch of |s/|s| - t/|t||^2 = weight x mean(2 - 2 cos)."""
    teacher = FaceModel.fresh(SPEC, seed=2)
    batch = FACES.batch(np.arange(6))
    student = torch.randn(6, 8, requires_grad=True)
    loss = angular_distillation(teacher, weight=7.0)(batch, student)
    target = torch.from_numpy(teacher.embed(batch, flip=False))
    cosines = nn.functional.cosine_similarity(student, target)
    torch.testing.assert_close(loss, 7 * (2 - 2 * cosines).mean())
    loss.backward()
    unit = (student / student.norm(dim=1, keepdim=True)).detach()
    toward = nn.functional.normalize(target)
    expected = -14 / 6 * (toward - (toward * unit).sum(1, keepdim=True) * unit)
    torch.testing.assert_close(
        student.grad, expected / student.detach().norm(dim=1, keepdim=True), rtol=1e-4, atol=1e-6
    )


def test_distillation_of_oneself_is_nothing():
    teacher = FaceModel.fresh(SPEC, seed=2)
    batch = FACES.batch(np.arange(6))
    own = torch.from_numpy(teacher.embed(batch, flip=False)) * 3
    assert angular_distillation(teacher, weight=7.0)(batch, own).item() == pytest.approx(
        0, abs=1e-6
    )


def test_distillation_leaves_the_teacher_alone_and_draws_the_student_near():
    teacher = trained(seed=8)
    before = {key: value.clone() for key, value in teacher.module.state_dict().items()}
    student = FaceModel.fresh(SPEC, seed=9)
    recipe = replace(RECIPE, epochs=12)

    def mean_cosine(model):
        images = FACES.batch(np.arange(len(FACES)))
        ours, theirs = (torch.from_numpy(each.embed(images)) for each in (model, teacher))
        return nn.functional.cosine_similarity(ours, theirs).mean().item()

    trained(student, settings=recipe, extra_loss=angular_distillation(teacher, weight=20.0))
    after = teacher.module.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert not teacher.module.training
    alone = trained(FaceModel.fresh(SPEC, seed=9), settings=recipe)
    assert mean_cosine(student) > mean_cosine(alone) + 0.2


def test_a_teacher_that_is_no_number_is_named():
    teacher = FaceModel.fresh(SPEC, seed=2)
    with torch.no_grad():
        next(teacher.module.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingDiverged, match="the teacher's embeddings are not finite"):
        trained(extra_loss=angular_distillation(teacher, weight=1.0))


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
