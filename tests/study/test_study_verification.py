"""What `nas-face verify` does, with models whose embeddings are known."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nas_face.data import FaceImages, PairList, all_pairs
from nas_face.data.formats.attributes import read_attributes
from nas_face.deploy import Convention
from nas_face.errors import ConfigError
from nas_face.study.opening import OpenedModel, open_models
from nas_face.study.report.verification_plots import Steps, plot_verification
from nas_face.study.verification.embedding import EmbeddingFile, embed_images
from nas_face.study.verification.job import VerificationJob, run_job
from nas_face.study.verification.verify import (
    PairSource,
    card_of,
    check_card,
    groups_of,
    verify_gallery,
    verify_model,
    verify_template_folder,
)
from nas_face.verify import Roc, cosine_scores, roc, verify_embeddings, wilson_interval

N_PEOPLE, N_EACH, SIZE = 20, 4, 8


@dataclass
class Corner:
    """An embedder of the upper corners: left plus, with `flip`, right."""

    height: int = SIZE
    width: int = SIZE
    batches: list[int] = field(default_factory=list)

    def embed(self, images: NDArray[np.uint8], /, *, flip: bool = True) -> NDArray[np.float32]:
        self.batches.append(len(images))
        y = images[:, 0, 0].astype(np.float32) - 100.25
        return y + images[:, 0, -1] - 100.25 if flip else y


def people(seed: int, noise: float = 40.0) -> FaceImages:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(N_PEOPLE), N_EACH)
    face = rng.integers(60, 200, (N_PEOPLE, SIZE, SIZE, 3))[labels]
    pixels = np.clip(face + rng.normal(0, noise, face.shape), 0, 255).astype(np.uint8)
    return FaceImages.from_array(pixels, labels)


@pytest.fixture
def pairs() -> PairList:
    return all_pairs(people(0), max_impostors_per_genuine=3, seed=0)


@pytest.fixture
def model() -> OpenedModel:
    return OpenedModel(name="corner", embedder=Corner(), precision="fp32", digest="d")


@pytest.mark.parametrize("flip", [False, True])
def test_figures_are_those_of_the_embeddings(flip, model, pairs):
    verified = verify_model(model, pairs, flip=flip)
    pixels = pairs.images.batch(np.arange(len(pairs.images))).astype(np.float32) - 100.25
    expected = pixels[:, 0, 0] + (pixels[:, 0, -1] if flip else 0)
    assert verified.result == verify_embeddings(expected, pairs)
    assert verified.n_embedded == N_PEOPLE * N_EACH
    assert verified.curve.auc() == verified.result.auc


def test_images_are_decoded_some_at_a_time(pairs, monkeypatch):
    monkeypatch.setattr("nas_face.study.verification.embedding._CHUNK", 30)
    embedder, told = Corner(), []
    whole = Corner().embed(pairs.images.batch(np.arange(80)))
    got = embed_images(embedder, pairs.images, on_images=lambda *each: told.append(each))
    np.testing.assert_array_equal(got, whole)
    assert embedder.batches == [30, 30, 20]
    assert told == [(30, 80), (60, 80), (80, 80)]


def test_kept_embeddings_are_not_computed_again(model, pairs, tmp_path):
    first = verify_model(model, pairs, keep=tmp_path / "e.npy")
    again = verify_model(model, pairs, keep=tmp_path / "e.npy")
    assert (first.n_embedded, again.n_embedded) == (80, 0)
    assert model.embedder.batches == [80]
    assert again.result == first.result


def test_kept_embeddings_of_something_else_are_refused(model, pairs, tmp_path):
    keep = tmp_path / "e.npy"
    verify_model(model, pairs, keep=keep)
    other = OpenedModel(name="other", embedder=Corner(), precision="fp32", digest="x")
    with pytest.raises(ConfigError, match=r"e\.npy: holds embeddings of another model"):
        verify_model(other, pairs, keep=keep)
    with pytest.raises(ConfigError, match=r"e\.npy: holds embeddings of another model"):
        verify_model(model, pairs, flip=False, keep=keep)
    others = all_pairs(people(1), max_impostors_per_genuine=3, seed=0)
    with pytest.raises(ConfigError, match=r"e\.npy: holds embeddings of other images"):
        verify_model(model, others, keep=keep)
    (tmp_path / "e.npy.json").unlink()
    with pytest.raises(ConfigError, match=r"no embeddings with the note e\.npy\.json"):
        verify_model(model, pairs, keep=keep)
    with pytest.raises(ConfigError, match=r"whose name ends in \.npy"):
        EmbeddingFile(tmp_path / "e.txt", "d", pairs.images)


def test_bootstrap_draws_people(model, pairs):
    result = verify_model(model, pairs, resample=True).result
    assert result.bootstrap.by == "identities"
    assert result.bootstrap.auc.low < result.auc < result.bootstrap.auc.high


def test_a_card_is_tried_on_other_pairs(model, pairs):
    verified = verify_model(model, pairs)
    card = card_of(verified, "first")
    assert (card.model, card.precision, card.pairs) == ("corner", "fp32", "first")
    others = all_pairs(people(1), max_impostors_per_genuine=3, seed=0)
    check = check_card(card, model, others, "second")
    scores = cosine_scores(
        Corner().embed(others.images.batch(np.arange(80))), others.first, others.second
    )
    for made, tried in zip(card.thresholds, check.thresholds, strict=True):
        assert tried.n_false_matches == np.count_nonzero(scores[~others.same] >= made.cosine)


def test_groups_by_each_attribute_of_a_file(model, pairs, tmp_path):
    path = tmp_path / "people.csv"
    lines = [f"id{n},{'old' if n < 8 else 'young'},{n % 2}" for n in range(N_PEOPLE)]
    path.write_text("\n".join(["identity,age,odd", *lines]), encoding="utf-8")
    verified = verify_model(model, pairs)
    age, odd = groups_of(verified, read_attributes(path), far=0.1)
    assert [each.name for each in age.groups] == ["old", "young"]
    assert [each.name for each in odd.groups] == ["0", "1"]
    assert age.threshold == odd.threshold
    old = pairs.images.labels < 8
    chosen = old[pairs.first] & old[pairs.second] & pairs.same
    accepted = verified.scores[chosen] >= age.threshold
    assert (age.groups[0].n_same, age.groups[0].n_true_accepts) == (
        np.count_nonzero(chosen),
        np.count_nonzero(accepted),
    )


def save(folder: Path, images: FaceImages) -> None:
    for row, pixels in enumerate(images.batch(np.arange(len(images)))):
        path = folder / f"p{images.labels[row]}" / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def test_a_gallery_is_all_pairs_of_a_folder(model, tmp_path):
    images = people(0)
    save(tmp_path, images)
    result = verify_gallery(model, tmp_path)
    every = all_pairs(images, max_impostors_per_genuine=None, seed=0)
    expected = verify_model(model, every).result
    assert (result.n_genuine, result.n_impostor) == (len(every) - every.n_different, 3040)
    assert result.tar_at(0.01) == pytest.approx(dict(expected.tar_at_far)[0.01], abs=0.02)


def test_templates_of_single_images_are_pairs_of_images(model, pairs, tmp_path):
    images = pairs.images
    (tmp_path / "loose_crop").mkdir()
    (tmp_path / "meta").mkdir()
    for row, pixels in enumerate(images.batch(np.arange(len(images)))):
        Image.fromarray(pixels).save(tmp_path / "loose_crop" / f"{row}.png")
    faces = [f"{row}.png {row + 1} {row}" for row in range(len(images))]
    (tmp_path / "meta" / "x_face_tid_mid.txt").write_text("\n".join(faces), encoding="utf-8")
    rows = zip(pairs.first, pairs.second, pairs.same, strict=True)
    labels = [f"{a + 1} {b + 1} {int(same)}" for a, b, same in rows]
    (tmp_path / "meta" / "x_template_pair_label.txt").write_text("\n".join(labels), "utf-8")
    got = verify_template_folder(model, tmp_path)
    expected = verify_model(model, pairs).result
    assert dict(got.tar_at_far) == pytest.approx(dict(expected.tar_at_far))
    assert got.n_templates == len(images)


def test_templates_are_cut_out_by_their_points(model, tmp_path):
    """A photo in which each face is shifted gives the embeddings of the faces."""
    from nas_face.align.warp import scaled_template

    images, shift = people(0), (5, 3)
    points = scaled_template(SIZE) + np.array([shift[1], shift[0]])
    faces, lines = [], []
    for row, pixels in enumerate(images.batch(np.arange(len(images)))):
        photo = np.zeros((20, 20, 3), np.uint8)
        photo[shift[0] : shift[0] + SIZE, shift[1] : shift[1] + SIZE] = pixels
        Image.fromarray(photo).save(tmp_path / f"{row}.png")
        faces.append(f"{row}.png {row} {row}")
        numbers = " ".join(f"{number:.6f}" for number in points.ravel())
        lines.append(f"{row}.png {numbers} 1.0")
    (tmp_path / "x_face_tid_mid.txt").write_text("\n".join(faces), encoding="utf-8")
    (tmp_path / "x_template_pair_label.txt").write_text("0 1 1\n0 9 0\n1 17 0", encoding="utf-8")
    (tmp_path / "x_name_5pts_score.txt").write_text("\n".join(lines), encoding="utf-8")
    from nas_face.data.formats.template_lists import list_template_folder
    from nas_face.study.verification.templates import embed_templates

    got = embed_templates(model.embedder, list_template_folder(tmp_path))
    np.testing.assert_allclose(got, Corner().embed(images.batch(np.arange(len(images)))), atol=2)
    assert verify_template_folder(model, tmp_path).n_images == len(images)


def test_a_job_gives_one_table_of_several_models(model, tmp_path):
    other = OpenedModel(name="again", embedder=Corner(), precision="fp32", digest="d")
    small = OpenedModel(name="small", embedder=Corner(height=4, width=4), precision="", digest="")
    report = run_job(VerificationJob(models=(model, other, small), pairs=PairSource(name="orl")))
    (table,) = report.tables()
    assert [column.header for column in table.columns] == ["", "corner", "again", "small"]
    cells = [list(column.cells) for column in table.columns]
    assert cells[1][:-1] == cells[2][:-1] != cells[3][:-1]
    data = json.loads(json.dumps(report.as_dict()))["models"]
    assert data["corner"] == data["again"]
    assert list(data) == ["corner", "again", "small"]


def test_thresholds_are_not_checked_on_the_pairs_that_made_them(model, tmp_path):
    job = VerificationJob(
        models=(model,),
        pairs=PairSource(name="orl"),
        card=tmp_path / "c.json",
        card_check=PairSource(name="orl"),
    )
    with pytest.raises(ConfigError, match="orl made the thresholds; give other pairs"):
        run_job(job)


def test_options_that_no_model_takes_are_refused(finished):
    folder = next((finished.folder / "candidates").iterdir())
    with pytest.raises(ConfigError, match="--trial goes with a run folder"):
        open_models([folder], trial=0)
    with pytest.raises(ConfigError, match="prepares pixels itself"):
        open_models([folder], given=Convention(order="RGB"))
    with pytest.raises(ConfigError, match="--threads must be at least 1"):
        open_models([folder], threads=0)


def test_a_trial_goes_to_the_runs_among_the_models(finished):
    folder = next((finished.folder / "candidates").iterdir())
    one, other, same = open_models([folder, finished.folder, folder], trial=0)
    assert (one.name, other.name, same.name) == (
        folder.name,
        f"{finished.folder.name} trial 0",
        str(folder),
    )


@pytest.fixture
def curve() -> Roc:
    rng = np.random.default_rng(0)
    same = rng.random(2000) < 0.3
    return roc(same * 2.0 + rng.normal(0, 1, 2000).round(2), same)


def test_what_is_drawn_is_the_true_accept_rate_within_each_limit(curve):
    steps = Steps.of(curve)
    assert steps.far[0] == 1 / curve.n_different
    assert steps.far[-1] == 1
    for far, tar, low, high in zip(steps.far, steps.tar, steps.low, steps.high, strict=True):
        assert tar == pytest.approx(curve.tar_at_far(far))
        expected = wilson_interval(round(tar * curve.n_same), curve.n_same)
        assert (low, high) == (expected.low, expected.high)


@pytest.mark.parametrize("name", ["roc.png", "roc.svg", "roc.html"])
def test_pictures_and_pages(name, curve, tmp_path):
    plot_verification({"one": curve, "two": curve}, tmp_path / "new" / name, title="<pairs>")
    content = (tmp_path / "new" / name).read_bytes()
    assert len(content) > 10_000
    if name.endswith("html"):
        assert b"&lt;pairs&gt;" in content
        n_pairs = f"{curve.n_same:,} genuine and {curve.n_different:,} impostor pairs"
        assert n_pairs.encode() in content


def test_perfect_and_hopeless_curves_are_drawn(tmp_path):
    same = np.arange(40) < 20
    for at, scores in enumerate((same * 1.0, np.zeros(40), 1.0 - same)):
        path = tmp_path / f"{at}.png"
        plot_verification({"model": roc(scores, same)}, path, title="")
        assert path.stat().st_size > 10_000


def test_other_endings_are_refused(curve, tmp_path):
    with pytest.raises(ConfigError, match=r"must end in \.png, \.svg, \.pdf, \.html"):
        plot_verification({"one": curve}, tmp_path / "roc.gif", title="")
