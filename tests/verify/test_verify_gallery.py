import doctest
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_face.errors import MetricError
from nas_face.verify import gallery, gallery_blocks, gallery_ranges, tar_at_far
from nas_face.verify.gallery import GalleryResult, gallery_scores
from nas_face.verify.gallery_blocks import for_each_block, sorted_set
from nas_face.verify.score_counts import STEP, KeyRange, RangeCounter, keys_of

MIB = 2**20
Faces = tuple[np.ndarray, np.ndarray]


def faces(n: int, n_dims: int = 16, *, per_identity: int = 4, seed: int = 0) -> Faces:
    """Embeddings in no order of identities."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) // per_identity)
    centres = rng.normal(size=(n, n_dims))
    return (centres[labels] + rng.normal(size=(n, n_dims))).astype(np.float32), labels


def on_grid(embeddings: np.ndarray) -> np.ndarray:
    """Unit vectors of whole 64ths, so that every product is exact in float32."""
    ends = np.array([[1, 0, 0, 0], [0.5, 0.5, 0.5, 0.5], [0.5, -0.5, 0.5, 0.5], [-1, 0, 0, 0]])
    return ends[embeddings % 4]


def brute_force(
    embeddings: np.ndarray,
    labels: np.ndarray,
    probes: np.ndarray | None = None,
    probe_labels: np.ndarray | None = None,
    same_image: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of all pairs from one float64 product, and whether they are genuine."""
    right = embeddings.astype(np.float64)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    if probes is None:
        first, second = np.triu_indices(len(right), 1)
        return (right @ right.T)[first, second], labels[first] == labels[second]
    left = probes / np.linalg.norm(probes, axis=1, keepdims=True)
    scores, same = left @ right.T, probe_labels[:, None] == labels[None, :]
    kept = np.ones(scores.shape, dtype=np.bool_)
    if same_image is not None:
        for probe, row in enumerate(same_image):
            kept[probe, row] = kept[probe, row] and row < 0
    return scores[kept], same[kept]


def require_counts(result: GalleryResult, scores: np.ndarray, same: np.ndarray) -> None:
    """At thresholds that no score is within rounding of, the counts are those of brute force."""
    assert result.n_genuine == np.count_nonzero(same)
    assert result.n_impostor == np.count_nonzero(~same)
    n_compared = 0
    for low, high in result.ranges:
        for key in np.linspace(low, high, 30).astype(np.int64):
            threshold = (int(key) - 2**20) * STEP
            if np.abs(scores - threshold).min() > 1e-6:
                expected = (scores[~same] >= threshold).sum(), (scores[same] >= threshold).sum()
                assert result.accepts_at(threshold) == expected
                n_compared += 1
    assert n_compared >= 5
    for far in result.fars:
        # A tie within one step of the grid may cost or win a pair.
        assert result.tar_at(far) == pytest.approx(
            tar_at_far(scores, same, far), abs=1.5 / result.n_genuine
        )


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks, strips and panels even for few images."""
    monkeypatch.setattr(gallery_blocks, "_N_ROWS", 16)
    monkeypatch.setattr(gallery_blocks, "_N_COLUMNS", 40)


@pytest.fixture
def narrow_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges even for few pairs."""
    monkeypatch.setattr(gallery_ranges, "_FEW_PAIRS", 0)


@pytest.mark.parametrize("n", [4, 15, 16, 17, 41, 100, 257])
@pytest.mark.parametrize("block_bytes", [1, 64 * 40, MIB])
@pytest.mark.usefixtures("small_blocks")
def test_every_pair_is_counted_once(n: int, block_bytes: int) -> None:
    embeddings, labels = faces(n + 1)
    result = gallery_scores(embeddings, labels, block_bytes=block_bytes, n_threads=2)
    first, second = np.triu_indices(n + 1, 1)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    keys = keys_of((unit @ unit.T)[first, second])
    same = labels[first] == labels[second]
    for counts, chosen in ((result.genuine, same), (result.impostor, ~same)):
        expected = np.bincount(keys[chosen], minlength=len(counts))
        # float32 products of blocks of other sizes may differ in the last bit
        assert np.abs(np.cumsum(counts - expected)).max() <= 2
        assert counts.sum() == expected.sum()


@given(
    rows=st.lists(st.integers(0, 3), min_size=2, max_size=60),
    labels=st.lists(st.integers(0, 2), min_size=60, max_size=60),
)
def test_exact_products_with_many_ties_give_the_very_counts(
    rows: list[int], labels: list[int]
) -> None:
    vectors, names = on_grid(np.array(rows)), np.array(labels[: len(rows)])
    if len(set(names)) == 1 or len(set(names)) == len(names):
        names = np.resize([0, 0, 1], len(rows)) if len(rows) > 2 else names
    scores, same = brute_force(vectors, names)
    if same.all() or not same.any():
        with pytest.raises(MetricError, match="pairs of the same and pairs of different"):
            gallery_scores(vectors, names)
        return
    result = gallery_scores(vectors, names, fars=(1.0, 0.5, 0.1), n_threads=1)
    for threshold in (-1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 1.1):
        expected = (scores[~same] >= threshold).sum(), (scores[same] >= threshold).sum()
        assert result.accepts_at(threshold) == expected
    for far in result.fars:
        assert result.tar_at(far) == tar_at_far(scores, same, far)


@pytest.mark.usefixtures("small_blocks", "narrow_ranges")
@pytest.mark.parametrize("seed", range(3))
def test_ranges_give_the_counts_and_rates_of_brute_force(seed: int) -> None:
    embeddings, labels = faces(500, seed=seed)
    result = gallery_scores(embeddings, labels, n_threads=2)
    scores, same = brute_force(embeddings, labels)
    assert len(result.ranges) == 3  # about 0.1, about 0.01, and the tail
    assert result.fars == (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
    require_counts(result, scores, same)
    for far in (3e-4, 5e-5):  # the tail is whole
        assert result.tar_at(far) == pytest.approx(
            tar_at_far(scores, same, far), abs=1.5 / result.n_genuine
        )


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("excluded", [False, True])
@pytest.mark.parametrize("few", [0, 2**22])
def test_probes_against_a_gallery(
    monkeypatch: pytest.MonkeyPatch, excluded: bool, few: int
) -> None:
    monkeypatch.setattr(gallery_ranges, "_FEW_PAIRS", few)
    embeddings, labels = faces(300)
    rng = np.random.default_rng(1)
    rows = rng.integers(-1, 300, size=90)
    probes = rng.normal(size=(90, 16)).astype(np.float32) / 3 + embeddings[rows]
    probe_labels = np.where(rows >= 0, labels[rows], 1_000)
    same_image = rows if excluded else None
    result = gallery_scores(
        embeddings,
        labels,
        probes=probes,
        probe_labels=probe_labels,
        same_image=same_image,
        block_bytes=1,
    )
    scores, same = brute_force(embeddings, labels, probes, probe_labels, same_image)
    require_counts(result, scores, same)


@pytest.mark.usefixtures("small_blocks")
def test_a_search_finds_what_a_sorted_list_would() -> None:
    embeddings, labels = faces(150, 6, per_identity=3)
    labels[:10] = np.arange(10_000, 10_010)  # probes without mates
    result = gallery_scores(embeddings, labels, identification=True, n_threads=2).identification
    assert result is not None
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    scores = unit @ unit.T
    n_first = n_mated = n_won = n_pairs = 0
    best_mates, best_impostors = [], []
    for probe in range(150):
        mates = [scores[probe, k] for k in range(150) if labels[k] == labels[probe] and k != probe]
        impostors = [scores[probe, k] for k in range(150) if labels[k] != labels[probe]]
        best_mates.append(max(mates, default=-2.0))
        best_impostors.append(max(impostors))
        n_mated += bool(mates)
        n_first += bool(mates) and max(mates) > max(impostors)
        n_won += sum(mate > max(impostors) for mate in mates)
        n_pairs += len(mates)
    assert np.allclose(result.best_mate, best_mates, rtol=0, atol=1e-6)
    assert np.allclose(result.best_impostor, best_impostors, rtol=0, atol=1e-6)
    assert result.rank_1 == n_first / n_mated
    assert result.rank_1_by_mate == n_won / n_pairs
    for fpir in (0.02, 0.1, 0.5, 1.0):
        candidates = [-1.0, *np.nextafter(best_impostors, 2)]
        ours = [t for t in candidates if np.mean(np.array(best_impostors) >= t) <= fpir]
        found = sum(
            mate >= min(ours) - 1e-6 and mate > impostor
            for mate, impostor in zip(best_mates, best_impostors, strict=True)
        )
        assert result.fnir_at(fpir) == pytest.approx(1 - found / n_mated, abs=1e-12)
    with pytest.raises(MetricError, match="FPIR 0.001 takes at least 1000 probes, got 150"):
        result.fnir_at(1e-3)
    assert set(result.as_dict()["fnir_at_fpir"]) == {"0.1", "0.01"}


def test_distractors_make_a_search_harder() -> None:
    embeddings, labels = faces(80, 4, per_identity=2)
    distractors = np.random.default_rng(3).normal(size=(400, 4)).astype(np.float32)
    few, many = (
        gallery_scores(
            np.concatenate([embeddings[40:], distractors[:n]]),
            np.concatenate([labels[40:], -1 - np.arange(n)]),
            probes=embeddings[:40],
            probe_labels=labels[:40],
            identification=True,
        ).identification
        for n in (20, 400)
    )
    assert few is not None and many is not None
    assert few.rank_1_by_mate > many.rank_1_by_mate
    assert (many.best_impostor >= few.best_impostor).all()
    assert np.array_equal(few.best_mate > -2, np.isin(labels[:40], labels[40:]))


def test_a_bad_guess_of_the_ranges_is_noticed_and_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, labels = faces(300)
    expected = gallery_scores(embeddings, labels)
    true_ranges = gallery.choose_ranges
    widths = []

    def misled(*arguments: object, width: float) -> tuple[KeyRange, ...]:
        widths.append(width)
        if len(widths) == 1:
            return (KeyRange(low=2**21 - 1000, high=None), KeyRange(low=10, high=20))
        return true_ranges(*arguments, width=width)

    monkeypatch.setattr(gallery, "choose_ranges", misled)
    found = gallery_scores(embeddings, labels)
    assert len(widths) == 2 and widths[1] > widths[0]
    assert found.as_dict() == expected.as_dict()


@pytest.mark.usefixtures("narrow_ranges")
def test_equal_embeddings_accept_all_or_nothing() -> None:
    vectors = np.ones((60, 8))
    result = gallery_scores(vectors, np.arange(60) // 2)
    assert result.tar_at(0.1) == result.tar_at(1e-3) == 0.0
    assert result.accepts_at(0.999999) == (result.n_impostor, result.n_genuine)


def test_rates_that_are_not_supported_or_not_counted_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gallery_ranges, "_FEW_PAIRS", 0)
    embeddings, labels = faces(400)
    result = gallery_scores(embeddings, labels, fars=(0.1, 1e-3, 1e-8))
    assert result.fars == (0.1, 1e-3)
    with pytest.raises(MetricError, match="FAR 1e-06 takes at least 1000000 impostor pairs, got"):
        result.tar_at(1e-6)
    with pytest.raises(ValueError, match="FAR 0.03 was not counted"):
        result.tar_at(0.03)
    with pytest.raises(ValueError, match="not counted at the cosine -0.5; counted are"):
        result.accepts_at(-0.5)
    with pytest.raises(ValueError, match=r"\(0, 1\]"):
        result.tar_at(0)


def test_broken_embeddings_are_counted() -> None:
    embeddings, labels = faces(50)
    embeddings[3], embeddings[4, 5], embeddings[9, 1] = 0, np.nan, -np.inf
    with pytest.raises(MetricError, match="2 of 50 with NaN or infinity and 1 that are zero"):
        gallery_scores(embeddings, labels)
    good, good_labels = faces(10)
    with pytest.raises(MetricError, match="^probes must be finite"):
        gallery_scores(good, good_labels, probes=embeddings, probe_labels=labels)


def test_parts_that_do_not_fit_are_refused() -> None:
    embeddings, labels = faces(10)
    with pytest.raises(ValueError, match=r"shape \(N, D\)"):
        gallery_scores(embeddings, labels[:9])
    with pytest.raises(ValueError, match="come with"):
        gallery_scores(embeddings, labels, probes=embeddings)
    with pytest.raises(ValueError, match="come with"):
        gallery_scores(embeddings, labels, same_image=labels)
    with pytest.raises(ValueError, match=r"probes must be of shape \(M, 16\)"):
        gallery_scores(embeddings, labels, probes=embeddings[:, :3], probe_labels=labels)
    with pytest.raises(ValueError, match="same_image must be"):
        gallery_scores(
            embeddings, labels, probes=embeddings, probe_labels=labels, same_image=labels + 99
        )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("length", [1e-3, 1.0, 1e3])
def test_lengths_and_types_make_no_difference(dtype: type, length: float) -> None:
    embeddings, labels = faces(60)
    exact = np.round(embeddings * 8) / 8
    expected = gallery_scores(exact, labels)
    found = gallery_scores((exact * length).astype(dtype), labels)
    assert found.threshold_at(0.01) == pytest.approx(expected.threshold_at(0.01), abs=2e-3)


def test_huge_and_tiny_entries_neither_overflow_nor_vanish() -> None:
    embeddings, labels = faces(60)
    wide = embeddings.astype(np.float64) * np.logspace(-300, 300, 60)[:, None]
    found, expected = gallery_scores(wide, labels), gallery_scores(embeddings, labels)
    assert found.tar_at(0.01) == expected.tar_at(0.01)


def test_labels_may_be_names_and_embeddings_a_mapped_file(tmp_path) -> None:
    embeddings, labels = faces(60)
    np.save(tmp_path / "embeddings.npy", embeddings)
    mapped = np.load(tmp_path / "embeddings.npy", mmap_mode="r")
    names = np.array([f"person {label}" for label in labels])
    found, expected = gallery_scores(mapped, names), gallery_scores(embeddings, labels)
    assert np.array_equal(found.genuine, expected.genuine)
    assert found.as_dict() == expected.as_dict()


@pytest.mark.usefixtures("small_blocks")
def test_progress_ends_at_all_pairs() -> None:
    embeddings, labels = faces(100)
    seen: list[tuple[int, int]] = []
    gallery_scores(
        embeddings, labels, block_bytes=1, on_block=lambda done, total: seen.append((done, total))
    )
    assert len(seen) > 7
    assert seen == sorted(seen)
    assert seen[-1] == (4950, 4950)


def test_an_error_in_a_thread_reaches_the_caller() -> None:
    embeddings, labels = faces(100)
    rows = sorted_set(embeddings, labels, "embeddings", block_bytes=MIB)

    def broken(_: object) -> None:
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        for_each_block(rows, None, broken, block_bytes=MIB, n_threads=2)


@pytest.mark.parametrize("threshold", [-1.0, -0.3, 0.0, 0.4, 1.0])
def test_a_score_reaches_its_key_and_no_higher_one(threshold: float) -> None:
    score = np.float32(threshold)
    around = np.array([np.nextafter(score, np.float32(-2)), score, np.float32(1.5)])
    keys = keys_of(around)
    bounds = (keys.astype(np.float64) - 2**20) * STEP
    assert (bounds[:2] <= np.maximum(around[:2], -1)).all()
    assert (around[:2] < bounds[:2] + STEP).all()
    assert keys[2] == 2**21


@pytest.fixture
def counted() -> Callable[[tuple[KeyRange, ...], np.ndarray], RangeCounter]:
    def count(ranges: tuple[KeyRange, ...], scores: np.ndarray) -> RangeCounter:
        counter = RangeCounter(ranges)
        for part in np.array_split(scores, 5):
            counter.add(part.reshape(1, -1))
        counter.histogram.finish()
        return counter

    return count


def test_counts_inside_and_above_ranges(counted) -> None:
    scores = np.random.default_rng(0).uniform(-1, 1, 20_000).astype(np.float32)
    scores[:3] = -1.0000001, 1.0000001, -2.0  # rounding, rounding, no pair
    ranges = (KeyRange(2**21 - 5000, None), KeyRange(2**20, 2**20 + 9), KeyRange(0, 2**19))
    counter = counted(ranges, scores)
    keys = keys_of(scores[scores > -1.5])
    for each, n_above in zip(ranges, counter.n_above, strict=True):
        high = 2**21 + 1 if each.high is None else each.high
        inside = keys[(keys >= each.low) & (keys < high)]
        found = counter.histogram.counts[each.low : high]
        assert np.array_equal(found, np.bincount(inside - each.low, minlength=high - each.low))
        assert n_above == np.count_nonzero(keys >= high)
    assert counter.histogram.counts.sum() == sum(
        counter.histogram.counts[each.low : each.high].sum() for each in ranges
    )


def test_the_docstrings_example_holds() -> None:
    assert doctest.testmod(gallery).failed == 0
