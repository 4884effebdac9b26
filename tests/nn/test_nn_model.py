"""FaceModel: reproducible weights, embedding, preprocessing, the folder on disk and its errors."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from nas_face.arch.blocks.attention import SqueezeExcite
from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.inverted_residual import InvertedResidual
from nas_face.arch.combinators import Sequence
from nas_face.arch.heads import GlobalDepthwiseHead
from nas_face.arch.layers import Activation
from nas_face.arch.spec import ArchSpec
from nas_face.arch.zoo import NETWORKS, network
from nas_face.errors import BuildError
from nas_face.nn import FaceModel, Preprocessing
from nas_face.nn.model import MODEL_FILE, WEIGHTS_FILE, Description, load_description

SPEC = ArchSpec(
    input_shape=(3, 16, 12),
    stem=(ConvUnit(out_channels=8, stride=2),),
    stages=(
        (
            InvertedResidual(
                out_channels=8, hidden_channels=16, attention=SqueezeExcite(channels=4)
            ),
        ),
    ),
    head=GlobalDepthwiseHead(embedding_size=6, tail_channels=10),
)
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, 16, 12, 3), dtype=np.uint8)


@pytest.fixture
def model() -> FaceModel:
    """Fresh weights, and statistics of normalisation that are not those of the start."""
    model = FaceModel.fresh(SPEC, seed=3)
    with torch.no_grad():
        for _ in range(3):
            model.module.train()(model.description.preprocessing.apply(IMAGES))
    return model


@pytest.fixture
def folder(model, tmp_path):
    model.save(tmp_path / "m")
    return tmp_path / "m"


def edit(folder, **changes) -> None:
    path = folder / MODEL_FILE
    data = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**data, **changes}), encoding="utf-8")


def test_same_seed_same_weights():
    first, second, other = (
        FaceModel.fresh(SPEC, seed=seed).module.state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["stem.0.conv.weight"], other["stem.0.conv.weight"])


def test_fresh_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    FaceModel.fresh(SPEC, seed=1)
    assert torch.equal(torch.rand(3), expected)


def test_fresh_does_not_depend_on_the_global_generator():
    torch.manual_seed(5)
    first = FaceModel.fresh(SPEC, seed=1).module.state_dict()
    torch.manual_seed(6)
    second = FaceModel.fresh(SPEC, seed=1).module.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_description_of_a_fresh_model():
    description = FaceModel.fresh(SPEC, seed=1).description
    assert description.arch_id == SPEC.arch_id
    assert description.network == SPEC.lower()
    assert description.cost == SPEC.cost()
    assert (description.embedding_size, description.input) == (6, SPEC.input)
    assert description.lineage == ()


def test_noting_adds_a_line_and_leaves_the_model_alone(model):
    noted = model.noting("one").noting("two")
    assert noted.description.lineage == ("one", "two")
    assert model.description.lineage == ()
    assert noted.module is model.module


def test_embedding_is_the_sum_over_the_crop_and_its_mirror(model):
    model.module.eval()
    x = torch.from_numpy((IMAGES.astype(np.float32) - 127.5) / 127.5).permute(0, 3, 1, 2)
    with torch.no_grad():
        straight, mirrored = model.module(x), model.module(x.flip(3))
    np.testing.assert_allclose(model.embed(IMAGES, flip=False), straight, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.embed(IMAGES), straight + mirrored, rtol=1e-5, atol=1e-5)


def test_mirrored_crops_have_the_same_embedding(model):
    mirrored = IMAGES[:, :, ::-1]
    assert np.array_equal(model.embed(mirrored), model.embed(IMAGES))
    assert not np.allclose(model.embed(mirrored, flip=False), model.embed(IMAGES, flip=False))


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_embedding_does_not_depend_on_the_batch(batch_size, model):
    whole = model.embed(IMAGES)
    np.testing.assert_allclose(
        model.embed(IMAGES, batch_size=batch_size), whole, rtol=1e-4, atol=1e-5
    )
    assert whole.shape == (5, 6)
    assert whole.dtype == np.float32


def test_no_images_no_embeddings(model):
    assert model.embed(IMAGES[:0]).shape == (0, 6)


@pytest.mark.parametrize("training", [True, False])
def test_embedding_changes_nothing(training, model):
    model.module.train(training)
    before = {key: value.clone() for key, value in model.module.state_dict().items()}
    model.embed(IMAGES)
    assert model.module.training is training
    after = model.module.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_read_only_images_are_taken(model):
    images = IMAGES.copy()
    images.setflags(write=False)
    assert np.array_equal(model.embed(images), model.embed(IMAGES))


@pytest.mark.parametrize(("order", "channels"), [("RGB", (0, 1, 2)), ("BGR", (2, 1, 0))])
def test_preprocessing(order, channels):
    x = Preprocessing(mean=100.0, scale=50.0, channel_order=order).apply(IMAGES)
    expected = (IMAGES[..., channels].astype(np.float64) - 100) / 50
    assert x.dtype == torch.float32
    assert x.is_contiguous()
    np.testing.assert_allclose(x.numpy(), expected.transpose(0, 3, 1, 2), rtol=1e-6)


def test_grey_preprocessing_is_the_brightness_that_pillow_computes():
    x = Preprocessing(mean=100.0, scale=50.0, channel_order="grey").apply(IMAGES)
    assert x.dtype == torch.float32
    assert x.shape == (5, 1, 16, 12)
    pixels = 50 * x[:, 0].numpy() + 100
    theirs = np.stack([np.asarray(Image.fromarray(each).convert("L")) for each in IMAGES])
    assert np.abs(pixels - theirs).max() <= 1.0  # Pillow rounds to whole numbers
    assert abs(float((pixels - theirs).mean())) < 0.05


@pytest.mark.parametrize("order", ["RGB", "BGR", "grey"])
def test_grey_pixels_stay_what_they_are(order):
    x = Preprocessing(channel_order=order).apply(IMAGES[..., :1].repeat(3, axis=3))
    assert x.shape[1] == (1 if order == "grey" else 3)
    expected = (IMAGES[..., 0].astype(np.float64) - 127.5) / 127.5
    for channel in x.numpy().swapaxes(0, 1):
        np.testing.assert_allclose(channel, expected, atol=1e-6)


@pytest.mark.parametrize("order", ["RGB", "BGR", "grey"])
@pytest.mark.parametrize(("mean", "scale"), [(127.5, 127.5), (127.0, 128.0), (0.3, 0.7)])
def test_both_ways_of_preprocessing_are_torchs_own_arithmetic_to_the_bit(order, mean, scale):
    every = np.arange(256, dtype=np.uint8)
    images = np.random.default_rng(0).permuted(np.tile(every, (3 * 7, 1)), axis=1)
    images = images.reshape(7, 16, 16, 3)
    x = torch.from_numpy(images.copy()).permute(0, 3, 1, 2).to(torch.float32)
    if order == "grey":
        x = (x[:, 0:1] * 0.299 + x[:, 1:2] * 0.587) + x[:, 2:3] * 0.114
    elif order == "BGR":
        x = x.flip(1)
    expected = x.sub(mean).div(scale).numpy()
    preprocessing = Preprocessing(mean=mean, scale=scale, channel_order=order)
    values = np.full((7, 16, 16, preprocessing.channels), np.nan, dtype=np.float32)
    preprocessing.write(images, values)
    assert np.array_equal(preprocessing.apply(images).numpy(), expected)
    assert np.array_equal(values.transpose(0, 3, 1, 2), expected)


@pytest.mark.parametrize("order", ["RGB", "BGR", "grey"])
def test_preprocessing_keeps_the_given_pixels(order):
    before = IMAGES.copy()
    Preprocessing(channel_order=order).apply(IMAGES)
    assert np.array_equal(before, IMAGES)


def test_network_of_one_channel_reads_grey(tmp_path):
    model = FaceModel.fresh(replace(SPEC, input_shape=(1, 16, 12)), seed=0)
    assert model.description.preprocessing == Preprocessing(channel_order="grey")
    # Another colour of the same brightness: 0.299 * 100 = 29.9, 0.587 * 51 = 29.9.
    red, green = np.zeros((2, 1, 16, 12, 3), np.uint8)
    red[..., 0], green[..., 1] = 100, 51
    first, second = model.embed(red), model.embed(green)
    np.testing.assert_allclose(first, second, rtol=1e-2)
    assert model.embed(IMAGES).shape == (5, 6)
    model.save(tmp_path)
    again = FaceModel.load(tmp_path)
    assert again.description == model.description
    assert np.array_equal(again.embed(IMAGES), model.embed(IMAGES))


@pytest.mark.parametrize("channels", [0, 2, 4])
def test_other_numbers_of_channels_are_refused(channels):
    layers = Sequence(layers=(Activation(function="relu"),))
    with pytest.raises(BuildError, match=f"3 channels of colour or 1 of grey, got {channels}"):
        Description(network=layers, input_shape=(channels, 8, 8), arch_id="x")
    if channels:
        spec = replace(SPEC, input_shape=(channels, 16, 12))
        with pytest.raises(BuildError, match=f"input_shape: .* got {channels}"):
            FaceModel.fresh(spec, seed=0)


@pytest.mark.parametrize(
    ("channels", "order", "message"),
    [
        (1, "RGB", "input channels 1 needs 'grey', got 'RGB'"),
        (1, "BGR", "input channels 1 needs 'grey', got 'BGR'"),
        (3, "grey", "input channels 3 needs 'RGB' or 'BGR', got 'grey'"),
    ],
)
def test_preprocessing_must_give_what_the_network_reads(channels, order, message):
    model = FaceModel.fresh(replace(SPEC, input_shape=(channels, 16, 12)), seed=0)
    with pytest.raises(BuildError, match=f"preprocessing.channel_order: .*{message}"):
        replace(model.description, preprocessing=Preprocessing(channel_order=order))


def test_channel_order_reaches_the_network(model):
    bgr = replace(
        model,
        description=replace(model.description, preprocessing=Preprocessing(channel_order="BGR")),
    )
    turned = np.ascontiguousarray(IMAGES[..., ::-1])
    assert np.array_equal(bgr.embed(turned), model.embed(IMAGES))
    assert not np.allclose(bgr.embed(IMAGES), model.embed(IMAGES))


def test_save_and_load_round_trip(model, folder):
    again = FaceModel.load(folder)
    assert again.description == model.description
    theirs, ours = again.module.state_dict(), model.module.state_dict()
    assert list(theirs) == list(ours)
    assert all(torch.equal(theirs[key], ours[key]) for key in ours)
    assert np.array_equal(again.embed(IMAGES), model.embed(IMAGES))


def test_description_survives_in_full(model, tmp_path):
    noted = replace(
        model,
        description=replace(
            model.description,
            preprocessing=Preprocessing(mean=1.5, scale=128.0, channel_order="BGR"),
        ),
    ).noting("trained")
    noted.save(tmp_path)
    assert load_description(tmp_path) == noted.description


@pytest.mark.parametrize("name", NETWORKS)
def test_every_published_network_can_be_saved_and_loaded(name, tmp_path):
    spec = replace(network(name).spec, input_shape=(3, 32, 32))
    model = FaceModel.fresh(spec, seed=0)
    model.save(tmp_path)
    again = FaceModel.load(tmp_path)
    images = RNG.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    assert np.array_equal(again.embed(images), model.embed(images))


def test_saving_again_replaces_and_leaves_nothing_else(model, folder):
    FaceModel.fresh(SPEC, seed=9).noting("other").save(folder)
    assert sorted(path.name for path in folder.iterdir()) == [MODEL_FILE, WEIGHTS_FILE]
    assert FaceModel.load(folder).description.lineage == ("other",)


def test_a_crash_between_the_two_files_leaves_an_unfinished_folder(model, tmp_path, monkeypatch):
    def crash(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("nas_face.nn.model.to_data", crash)
    with pytest.raises(KeyboardInterrupt):
        model.save(tmp_path / "m")
    with pytest.raises(BuildError, match="not a model folder, model.json cannot be read"):
        FaceModel.load(tmp_path / "m")


def test_folder_that_does_not_exist(tmp_path):
    with pytest.raises(BuildError, match="none: not a model folder, model.json cannot be read"):
        FaceModel.load(tmp_path / "none")


def test_missing_weights(folder):
    (folder / WEIGHTS_FILE).unlink()
    with pytest.raises(BuildError, match="weights.safetensors: not a readable safetensors file"):
        FaceModel.load(folder)


@pytest.mark.parametrize("content", [b"", b"\x00" * 4, b"not a tensor file at all"])
def test_broken_weights(content, folder):
    (folder / WEIGHTS_FILE).write_bytes(content)
    with pytest.raises(BuildError, match="weights.safetensors: not a readable") as caught:
        FaceModel.load(folder)
    assert "\n" not in str(caught.value)


def test_truncated_weights(folder):
    path = folder / WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(BuildError, match="weights.safetensors: not a readable"):
        FaceModel.load(folder)


@pytest.mark.parametrize("text", ["", "{", '{"a": 1,}', "\ufeff{}"])
def test_broken_json(text, folder):
    (folder / MODEL_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(BuildError, match="model.json: not valid JSON") as caught:
        FaceModel.load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 1}, "colour is not a known key"),
        ({"version": 2}, "version: .*got 2"),
        ({"input_shape": [3, 16]}, "input_shape.2: field required"),
        ({"arch_id": 5}, "arch_id: .*got 5"),
        ({"input_shape": [4, 16, 12]}, "input_shape: .* got 4"),
        ({"preprocessing": {"channel_order": "grey"}}, "preprocessing.channel_order: .*'grey'"),
        ({"preprocessing": {"channel_order": "HSV"}}, "preprocessing.channel_order: .*'HSV'"),
        ({"preprocessing": {"mean": "x"}}, "preprocessing.mean: .*got 'x'"),
        ({"preprocessing": {"std": 1.0}}, "preprocessing.std is not a known key"),
        ({"network": {"kind": "sequence", "layers": [{"kind": "dropout"}]}}, "dropout"),
        (
            {"network": {"kind": "sequence", "layers": [], "names": ["a"]}},
            "names must be distinct",
        ),
    ],
)
def test_malformed_description(changes, message, folder):
    edit(folder, **changes)
    with pytest.raises(BuildError, match=f"model.json: .*{message}") as caught:
        FaceModel.load(folder)
    assert "\n" not in str(caught.value)


def test_a_network_that_cannot_be_built(folder):
    layers = [{"kind": "channel_shuffle", "groups": 2}]
    edit(folder, network={"kind": "sequence", "layers": layers})
    with pytest.raises(BuildError, match="m: no network can be built of the layers: .*groups=2"):
        FaceModel.load(folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda weights: weights.pop("head.embedding.weight"), "Missing key.*head.embedding"),
        (lambda weights: weights.update(more=torch.zeros(1)), "Unexpected key.*more"),
        (
            lambda weights: weights.update({"head.embedding.weight": torch.zeros(7, 10)}),
            "size mismatch for head.embedding.weight",
        ),
    ],
)
def test_weights_of_another_network(spoil, message, folder):
    weights = load_file(folder / WEIGHTS_FILE)
    spoil(weights)
    save_file(weights, folder / WEIGHTS_FILE)
    with pytest.raises(
        BuildError, match=f"m: weights do not fit the network: .*{message}"
    ) as caught:
        FaceModel.load(folder)
    assert "\n" not in str(caught.value)
