"""The same network under the names of many strangers, and files that must be refused."""

import pickle
from collections.abc import Callable

import pytest
import torch
from safetensors.torch import save_file
from strangers import EMBEDDING, SIZE, folded, leaves, stranger, write_spec
from torch import Tensor

from nas_face.errors import BuildError, ConfigError
from nas_face.study.importing.job import Imported, ImportOptions, import_weights

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return write_spec(tmp_path_factory.mktemp("spec"))


@pytest.fixture
def load(spec, tmp_path):
    """Save something as a checkpoint and import it."""

    def load(content: object, name: str = "weights.pt", part: str | None = None) -> Imported:
        path = tmp_path / name
        if name.endswith(".safetensors"):
            save_file(content, path)
        else:
            torch.save(content, path)
        return import_weights(path, str(spec), ImportOptions(part=part))

    return load


def nested(state: State) -> State:
    return state


def sequential(state: State) -> State:
    """`0.weight`, `1.weight`, `1.bias`, ..., as nn.Sequential numbers its layers."""
    numbers = {name: at for at, (name, _) in enumerate(leaves(stranger()))}
    return {
        f"{numbers[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": value
        for key, value in state.items()
    }


def grouped_by_kind(state: State) -> State:
    """`convs.0.weight`, ..., `norms.0.weight`, ..., `acts.0.weight`: three lists of modules."""
    counts = {"convs": 0, "norms": 0, "acts": 0}
    names = {}
    for name, module in leaves(stranger()):
        kind = {"Conv2d": "convs", "Linear": "convs", "PReLU": "acts"}.get(
            type(module).__name__, "norms"
        )
        names[name] = f"{kind}.{counts[kind]}"
        counts[kind] += 1
    renamed = {
        f"{names[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": value
        for key, value in state.items()
    }
    return {key: renamed[key] for kind in counts for key in renamed if key.startswith(kind)}


def numbered_in_blocks(state: State) -> State:
    """`features.3.conv1.weight`, `features.3.bn1.weight`, convolutions defined before norms."""
    blocks = ["conv1", "conv2_dw", "conv_23", "conv_3.model.0", "conv_3.model.1", "conv_3.model.2"]
    blocks += ["conv_34", "conv_4.model.0", "conv_6_sep", "conv_6_dw", ""]
    groups: dict[int, dict[str, list[str]]] = {}
    for name, module in leaves(stranger()):
        block = next(
            at for at, each in enumerate(blocks) if name.startswith(f"{each}." if each else "")
        )
        kind = {"Conv2d": "conv", "Linear": "fc", "PReLU": "prelu"}.get(
            type(module).__name__, "bn"
        )
        groups.setdefault(block, {}).setdefault(kind, []).append(name)
    renamed: State = {}
    for block, kinds in groups.items():
        for kind in ("conv", "fc", "bn", "prelu"):
            for number, name in enumerate(kinds.get(kind, []), start=1):
                for key, value in state.items():
                    if key.rpartition(".")[0] == name:
                        leaf = key.rpartition(".")[2]
                        renamed[f"features.{block}.{kind}{number}.{leaf}"] = value
    return renamed


def underscored(state: State) -> State:
    """`layer7_gamma`, `layer7_moving_mean`: one flat list of names as MXNet has them."""
    roles = {
        "running_mean": "moving_mean",
        "running_var": "moving_var",
    }
    numbers = {name: at for at, (name, _) in enumerate(leaves(stranger()))}
    found = {}
    for key, value in state.items():
        name, _, role = key.rpartition(".")
        norm = f"{name}.running_mean" in state
        if role == "num_batches_tracked":
            continue
        if norm:
            role = {"weight": "gamma", "bias": "beta"}.get(role, roles.get(role, role))
        found[f"layer{numbers[name]}_{role}"] = value
    return found


def wrapped(state: State) -> State:
    return {f"module._orig_mod.backbone.{key}": value for key, value in state.items()}


def halved(state: State) -> State:
    return {key: value.half() if value.ndim else value for key, value in state.items()}


STYLES: list[Callable[[State], State]] = [
    nested,
    sequential,
    grouped_by_kind,
    numbered_in_blocks,
    underscored,
    wrapped,
]


def agreement(imported: Imported, seed: int = 0) -> float:
    """Largest difference of outputs, relative to their size."""
    x = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        theirs, ours = stranger(seed)(x), imported.model.module(x)
    return float((theirs - ours).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.__name__)
@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_every_style_is_the_same_network(load, style, name):
    imported = load(style(stranger().state_dict()), name)
    assert agreement(imported) == 0
    assert imported.dropped == ()


@pytest.mark.parametrize("style", [nested, sequential, wrapped], ids=lambda style: style.__name__)
def test_folded_norms(load, style):
    imported = load(style(folded(stranger())))
    assert agreement(imported) < 1e-5
    assert sum(row.name is None for row in imported.rows) == 23


def test_a_bias_before_a_norm_moves_into_it(load):
    state = stranger().state_dict()
    shift = torch.linspace(-1, 1, 8)
    state["conv1.conv.bias"] = shift
    state["conv1.bn.running_mean"] = state["conv1.bn.running_mean"] + shift
    order = ["conv1.conv.weight", "conv1.conv.bias"]
    assert agreement(load({key: state[key] for key in [*order, *state]})) < 1e-5


def test_half_and_double_precision(load):
    assert agreement(load(halved(stranger().state_dict()))) < 0.02
    doubled = {key: value.double() for key, value in stranger().state_dict().items()}
    assert agreement(load(doubled)) == 0


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("classifier.weight", (100, EMBEDDING)),
        ("arc_margin.kernel", (EMBEDDING, 100)),
        ("head.fc.weight", (7, EMBEDDING)),
        ("weight", (100, EMBEDDING)),
    ],
)
@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_a_classifier_is_left_out_and_named(load, key, shape, name):
    state = {**wrapped(stranger().state_dict()), key: torch.randn(shape)}
    imported = load(state, name)
    assert agreement(imported) == 0
    assert len(imported.dropped) == 1
    assert any(line.startswith("left out as a classifier: ") for line in imported.remarks())


def test_a_classifier_that_is_defined_first(load):
    state = {"logits.weight": torch.randn(9, EMBEDDING), "logits.bias": torch.randn(9)}
    assert agreement(load({**state, **stranger().state_dict()})) == 0


def test_containers_are_searched_and_optimizers_are_not(load):
    state = wrapped(stranger().state_dict())
    optimizer = {"state": {"momentum": {key: torch.rand(3) for key in state}}}
    content = {"epoch": 3, "state_dict": state, "optimizer": optimizer, "best": 0.99}
    imported = load(content)
    assert agreement(imported) == 0
    assert imported.part == "state_dict"
    deeper = {"checkpoint": {"net": stranger().state_dict(), "head": {"w": torch.rand(3, 4)}}}
    assert load(deeper).part == "checkpoint.net"


def test_two_parts_that_fit_are_refused_until_one_is_named(load):
    content = {"model": stranger(0).state_dict(), "ema": stranger(1).state_dict()}
    with pytest.raises(
        BuildError, match="several parts fit .*: model, ema; say which with --part"
    ):
        load(content)
    assert agreement(load(content, part="ema"), seed=1) == 0
    with pytest.raises(BuildError, match="has no part 'mean', but 'model', 'ema'"):
        load(content, part="mean")


def test_swapped_blocks_are_refused(load):
    state = stranger().state_dict()
    first = [key for key in state if key.startswith("conv_3.model.0.")]
    second = [key for key in state if key.startswith("conv_3.model.1.")]
    order = list(state)
    start = order.index(first[0])
    order[start : start + 2 * len(first)] = [*second, *first]
    with pytest.raises(BuildError, match=r"doubtful: conv_3.model.1 and conv_3.model.0 both fit"):
        load({key: state[key] for key in order})


def test_names_without_order_in_a_file_without_order_are_refused(load):
    words = {"conv_3.model.0": "stage.tom", "conv_3.model.1": "stage.ann"}
    words["conv_3.model.2"] = "stage.joe"
    state = {}
    for key, value in stranger().state_dict().items():
        old = next((each for each in words if key.startswith(f"{each}.")), None)
        state[key if old is None else words[old] + key.removeprefix(old)] = value
    assert agreement(load(state)) == 0  # the order of definition decides
    with pytest.raises(BuildError, match="doubtful: .* the file and the names give no order"):
        load(state, "weights.safetensors")


def test_another_network_is_refused_by_its_first_mismatch(load):
    state = stranger().state_dict()
    state["conv_34.conv_dw.conv.weight"] = torch.randn(16, 1, 5, 5)
    with pytest.raises(
        BuildError,
        match=r"stages.1.0.depthwise.conv needs weight \(16, 1, 3, 3\), the file has next "
        r"conv_34.conv_dw.conv \(weight \(16, 1, 5, 5\)\)",
    ):
        load(state)


@pytest.mark.parametrize("ending", ["project.bn.weight", "prelu.weight", "linear.weight"])
def test_a_missing_weight_is_refused(load, ending):
    state = stranger().state_dict()
    key = next(key for key in state if key.endswith(ending))
    prefix = key.rpartition(".")[0]
    kept = {name: value for name, value in state.items() if not name.startswith(f"{prefix}.")}
    with pytest.raises(BuildError):
        load(kept)


def test_weights_left_over_are_refused(load):
    state = {**stranger().state_dict(), "gate.conv.weight": torch.randn(8, 8, 1, 1)}
    with pytest.raises(BuildError, match=r"left over: gate.conv"):
        load(state)
    twice = {"a.weight": torch.randn(4, EMBEDDING), "b.weight": torch.randn(5, EMBEDDING)}
    with pytest.raises(BuildError, match="left over: a, b"):
        load({**stranger().state_dict(), **twice})


def test_weights_that_are_not_numbers_are_refused(load):
    state = stranger().state_dict()
    state["bn.bias"][3] = float("nan")
    with pytest.raises(BuildError, match="bn.bias holds values that are not finite"):
        load(state)
    integers = {**stranger().state_dict(), "bn.bias": torch.zeros(EMBEDDING, dtype=torch.int8)}
    with pytest.raises(BuildError, match="bn.bias is int8"):
        load(integers)


class Malicious:
    """Runs code when it is unpickled."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.mark, "w")


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_refused_and_not_run(spec, tmp_path, zipped):
    mark, path = tmp_path / "it ran", tmp_path / "evil.pt"
    content = {**stranger().state_dict(), "extra": Malicious(str(mark))}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(BuildError, match="only plain weights are loaded"):
        import_weights(path, str(spec), ImportOptions())
    assert not mark.exists()


def test_a_bare_malicious_pickle_is_refused_and_not_run(spec, tmp_path):
    mark, path = tmp_path / "it ran", tmp_path / "evil.bin"
    path.write_bytes(pickle.dumps(Malicious(str(mark))))
    with pytest.raises(BuildError):
        import_weights(path, str(spec), ImportOptions())
    assert not mark.exists()


def test_a_whole_pickled_module_is_refused(spec, tmp_path):
    path = tmp_path / "module.pth"
    torch.save(stranger(), path)
    with pytest.raises(BuildError, match=r"save model.state_dict\(\) instead"):
        import_weights(path, str(spec), ImportOptions())


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors", "a.onnx"])
def test_files_that_are_none_are_refused(spec, tmp_path, name):
    path = tmp_path / name
    for content in (b"", b"hello, this is no checkpoint", bytes(range(256)) * 8, b"PK\x03\x04"):
        path.write_bytes(content)
        with pytest.raises(BuildError, match=name):
            import_weights(path, str(spec), ImportOptions())


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_truncated_files_are_refused(spec, tmp_path, name):
    path = tmp_path / name
    state = stranger().state_dict()
    if name.endswith("pt"):
        torch.save(state, path)
    else:
        save_file(state, path)
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(BuildError, match=name):
            import_weights(path, str(spec), ImportOptions())


def test_other_content_and_names_are_refused(load, spec, tmp_path):
    for content in ([torch.rand(3)], {"epoch": 3}, torch.rand(3), {"state_dict": {}}):
        with pytest.raises(BuildError, match="no dict of named tensors"):
            load(content)
    with pytest.raises(ConfigError, match="no such file"):
        import_weights(tmp_path / "none.pt", str(spec), ImportOptions())
    (tmp_path / "weights.txt").write_text("x")
    with pytest.raises(ConfigError, match="the name must end in"):
        import_weights(tmp_path / "weights.txt", str(spec), ImportOptions())
