from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from nas_face.errors import MetricError
from nas_face.verify import roc, tar_at_far, templates
from nas_face.verify.templates import (
    TEMPLATE_FARS,
    average_templates,
    insightface_tar,
    template_scores,
    verify_templates,
)


@dataclass(frozen=True)
class Listed:
    template_ids: np.ndarray
    media_ids: np.ndarray
    first: np.ndarray
    second: np.ndarray
    same: np.ndarray
    detector_scores: np.ndarray | None = None


def made_up(seed: int, n_images: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings, template ids with gaps, and media ids of which some are in two templates."""
    rng = np.random.default_rng(seed)
    template_ids = rng.choice([3, 5, 8, 900, 901, 7_000], size=n_images)
    return rng.normal(size=(n_images, 7)), template_ids, rng.integers(0, 20, n_images)


def averaged_by_loops(embeddings, template_ids, media_ids, weights, normalise):
    result = {}
    for template in sorted(set(template_ids.tolist())):
        total = np.zeros(embeddings.shape[1])
        for medium in set(media_ids[template_ids == template].tolist()):
            found = []
            for row in range(len(embeddings)):
                if template_ids[row] == template and media_ids[row] == medium:
                    image = embeddings[row]
                    if normalise:
                        image = image / np.sqrt(np.sum(image**2))
                    found.append(image * weights[row])
            total += sum(found) / len(found)
        result[template] = total / np.sqrt(np.sum(total**2))
    return result


@pytest.mark.parametrize("chunk", [1, 10, 10_000])
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_templates_are_those_of_plain_loops(monkeypatch, chunk, normalise, weighted):
    monkeypatch.setattr(templates, "_CHUNK", chunk)
    embeddings, template_ids, media_ids = made_up(chunk)
    weights = np.random.default_rng(1).random(len(embeddings)) if weighted else None
    found = average_templates(
        embeddings, template_ids, media_ids, weights=weights, normalise_images=normalise
    )
    factors = np.ones(len(embeddings)) if weights is None else weights
    expected = averaged_by_loops(embeddings, template_ids, media_ids, factors, normalise)
    assert found.ids.tolist() == list(expected)
    assert np.allclose(found.vectors, list(expected.values()), rtol=0, atol=1e-13)


def test_a_video_counts_as_much_as_a_photo():
    embeddings = np.array([[1.0, 0.0]] * 99 + [[0.0, 1.0]])
    media = np.array([4] * 99 + [5])
    found = average_templates(embeddings, np.zeros(100, dtype=np.int64), media)
    assert np.allclose(found.vectors, np.sqrt(0.5), rtol=0, atol=1e-15)


def test_a_template_of_one_image_is_that_image():
    found = average_templates(np.array([[3.0, 4.0]]), np.array([9]), np.array([1]))
    assert found.ids.tolist() == [9]
    assert np.allclose(found.vectors, [[0.6, 0.8]], rtol=0, atol=1e-15)


def test_scores_are_cosines_of_the_templates_named():
    vectors = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    found = average_templates(vectors, np.array([10, 30, 20]), np.array([1, 1, 1]))
    scores = template_scores(found, np.array([10, 20, 30]), np.array([30, 10, 20]))
    assert np.allclose(scores, [0, np.sqrt(0.5), np.sqrt(0.5)], rtol=0, atol=1e-15)


def test_a_pair_with_a_template_without_images_is_refused_by_name():
    found = average_templates(np.eye(2), np.array([1, 2]), np.array([1, 1]))
    with pytest.raises(MetricError, match=r"template 7 is in a pair but has no image \(2 such"):
        template_scores(found, np.array([1, 7, 7, -1]), np.array([2, 1, 2, 1]))


def test_broken_images_and_dead_templates_are_named():
    one = np.ones(3, dtype=np.int64)
    with pytest.raises(MetricError, match="infinity in image 1;"):
        average_templates(np.array([[1.0], [np.nan], [np.inf]]), one, one)
    with pytest.raises(MetricError, match="infinity in image 2;"):
        average_templates(np.ones((3, 1)), one, one, weights=np.array([1.0, 1.0, np.nan]))
    with pytest.raises(MetricError, match=r"template 6 has no direction.*\(1 of 2\)"):
        average_templates(np.array([[1.0], [-1.0], [1.0]]), np.array([6, 6, 5]), one)
    with pytest.raises(MetricError, match="image 2 has no direction"):
        average_templates(np.array([[1.0], [1.0], [0.0]]), one, one, normalise_images=True)
    with pytest.raises(MetricError, match="at least one image, got none"):
        average_templates(np.empty((0, 4)), one[:0], one[:0])
    with pytest.raises(ValueError, match="of shape"):
        average_templates(np.ones((3, 1)), one[:2], one)
    with pytest.raises(ValueError, match="weights must be"):
        average_templates(np.ones((3, 1)), one, one, weights=np.ones(2))


@st.composite
def scored_pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    n = draw(st.integers(2, 40))
    levels = draw(st.integers(1, 60))
    scores = draw(st.lists(st.integers(0, levels), min_size=n, max_size=n))
    same = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    same[0], same[1] = True, False
    return np.array(scores) / 64.0, np.array(same)


@given(pairs=scored_pairs(), far=st.sampled_from([1e-6, 0.1, 0.125, 0.25, 0.3, 0.5, 1.0]))
def test_the_insightface_reading_is_theirs_on_the_curve_of_scikit_learn(pairs, far):
    scores, same = pairs
    fars, tars, _ = roc_curve(same, scores)
    # walked from the end, the first of the nearest points
    best = min(range(len(fars) - 1, -1, -1), key=lambda point: abs(fars[point] - far))
    assert insightface_tar(roc(scores, same), far) == pytest.approx(tars[best], abs=1e-15)


def test_both_readings_of_a_result_are_named_apart():
    rng = np.random.default_rng(5)
    n_templates = 60
    centres = rng.normal(size=(n_templates // 2, 16))
    template_ids = np.repeat(np.arange(n_templates), 4)
    embeddings = centres[template_ids // 2] + rng.normal(size=(len(template_ids), 16))
    first, second = np.triu_indices(n_templates, 1)
    listed = Listed(
        template_ids=template_ids,
        media_ids=np.arange(len(template_ids)) // 2,
        first=first,
        second=second,
        same=first // 2 == second // 2,
        detector_scores=rng.random(len(template_ids)),
    )
    result = verify_templates(embeddings, listed)
    found = average_templates(
        embeddings, listed.template_ids, listed.media_ids, weights=listed.detector_scores
    )
    scores = template_scores(found, first, second)
    assert result.tar_at_far == tuple(
        (far, tar_at_far(scores, listed.same, far)) for far in (1e-3, 1e-2, 1e-1)
    )
    assert [far for far, _ in result.insightface_tar_at_far] == list(TEMPLATE_FARS)
    assert result.n_same == 30 and result.n_different == 60 * 59 // 2 - 30
    assert set(result.as_dict()["tar_at_far"]) == {"0.001", "0.01", "0.1"}
    unweighted = verify_templates(embeddings, listed, use_detector_scores=False)
    assert unweighted.tar_at_far != result.tar_at_far
