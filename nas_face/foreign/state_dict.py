"""Named arrays to operators: which weights belong to one layer, and of what kind it is."""

import re
from collections.abc import Mapping

from nas_face.foreign.names import NameOrder
from nas_face.foreign.operators import Array, Kind, Operator, Source

_ROLES = {
    "weight": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "running_mean": "running_mean",
    "running_var": "running_var",
    "moving_mean": "running_mean",
    "moving_var": "running_var",
    "moving_variance": "running_var",
    "alpha": "weight",
}
_COUNTERS = ("num_batches_tracked",)
_ROLE = re.compile(r"(.*?)[._]?(" + "|".join(sorted(_ROLES, key=len, reverse=True)) + r")")


def operators_of(
    part: str, arrays: Mapping[str, Array], ignored: tuple[str, ...], *, sorted_file: bool
) -> Source:
    """Operators of a state dict.

    Args:
        part: where in its file it lies.
        arrays: by name, in the order of the file.
        ignored: names of what was left aside before.
        sorted_file: whether the file's format has lost the order of definition.
    """
    counters = tuple(name for name in arrays if name.endswith(_COUNTERS))
    groups: dict[str, dict[str, Array]] = {}
    for name, value in arrays.items():
        if name not in counters:
            prefix, role = _split(name)
            groups.setdefault(prefix, {})[role] = value
    operators = [
        operator for prefix, group in groups.items() for operator in _operators(prefix, group)
    ]
    ordered = not sorted_file and _has_own_order(list(arrays))
    if not ordered:
        order = NameOrder(operator.name for operator in operators)
        operators.sort(key=lambda operator: order.key(operator.name))
    return Source(
        part=part,
        operators=tuple(operators),
        ordered=ordered,
        ignored=(*ignored, *counters),
    )


def _split(name: str) -> tuple[str, str]:
    """Name of the layer, and of its weight."""
    found = _ROLE.fullmatch(name)
    if found is None:
        prefix, _, last = name.rpartition(".")
        return prefix, last
    return found[1], found[2]


def _operators(prefix: str, group: dict[str, Array]) -> list[Operator]:
    """One operator where the weights make a known layer, otherwise one for each."""
    roles = {_ROLES.get(key, key): value for key, value in group.items()}
    kind = _kind(roles) if len(roles) == len(group) else None
    if kind is not None:
        arrays = {"value": roles["weight"]} if kind == "vector" else roles
        return [Operator(name=prefix, kind=kind, arrays=arrays)]
    if set(group) == {"alpha", "gamma", "beta"}:  # a gated channel transform
        pair = {"weight": group["gamma"], "bias": group["beta"]}
        alpha = Operator(name=f"{prefix}.alpha", kind="vector", arrays={"value": group["alpha"]})
        return [alpha, Operator(name=f"{prefix}.gamma", kind="pair", arrays=pair)]
    known = {"weight", "bias", "running_mean", "running_var"} & set(group)
    rest = [key for key in group if key not in known]
    found = []
    if known and rest:  # a layer with a weight of its own beside the layer in it
        found += _operators(prefix, {key: group[key] for key in known})
    for key in rest if found else group:
        name = f"{prefix}.{key}" if prefix else key
        if max(group[key].shape, default=1) == group[key].size:
            found.append(Operator(name=name, kind="vector", arrays={"value": group[key]}))
        else:
            found.append(Operator(name=name, kind="affine", arrays={"weight": group[key]}))
    return found


def _kind(roles: Mapping[str, Array]) -> Kind | None:
    names = set(roles)
    if (
        {"running_mean", "running_var"}
        <= names
        <= {
            "running_mean",
            "running_var",
            "weight",
            "bias",
        }
    ):
        return "batch_norm"
    if "weight" not in names or not names <= {"weight", "bias"}:
        return None
    flat = max(roles["weight"].shape, default=1) == roles["weight"].size
    matrix = roles["weight"].ndim >= 2 and not (
        flat and roles["weight"].ndim == 3 and "bias" not in names and roles["weight"].shape[0] > 1
    )
    if matrix:
        return "affine"
    return "pair" if "bias" in names else "vector"


def _has_own_order(names: list[str]) -> bool:
    """Whether names stand in an order of their own, and not in that of the alphabet.

    A layer's weight is defined before its bias, and sorted behind it.
    """
    place = {name: at for at, name in enumerate(names)}
    for name in names:
        prefix, role = _split(name)
        if role == "bias":
            other = name[: len(name) - len(role)] + "weight"
            if other in place:
                return place[other] < place[name]
        if role == "beta":
            other = name[: len(name) - len(role)] + "gamma"
            if other in place:
                return place[other] < place[name]
    return names != sorted(names)
