"""Entries of NNI's search-space JSON, read strictly, as Optuna's distributions."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, final

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from nas_face.errors import ConfigError, near_names
from nas_face.search.nni.written import NAME, TYPE, VALUE
from nas_face.space import Label
from nas_face.space.template import shown

N_NUMBERS = {
    "randint": 2,
    "uniform": 2,
    "loguniform": 2,
    "quniform": 3,
    "qloguniform": 3,
    "normal": 2,
    "lognormal": 2,
    "qnormal": 3,
    "qlognormal": 3,
}
TYPES = ("choice", *N_NUMBERS)
MAX_UNEVEN_STEPS = 1000
MAX_DEPTH = 50


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class NniParameter:
    """One entry of the file.

    Attributes:
        name: unique in the file: the key, or where keys repeat, the options that it lies in, such
            as ``layer/conv/kernel``.
        key: as it stands in the file.
        distribution: what may be drawn.
        inner: parameters inside each option; none if the options are plain values.
    """

    name: str
    key: str
    distribution: BaseDistribution
    inner: "Mapping[Label, tuple[NniParameter, ...]] | None" = None


def read_entries(raw: Mapping[str, Any]) -> tuple[NniParameter, ...]:
    """The parameters of a file, or of one option.

    Raises:
        ConfigError: an entry breaks a rule; the message begins with its key.
    """
    keys = list(_keys(raw))
    return _entries(raw, "", {key for key in keys if keys.count(key) > 1})


def _keys(entries: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """Every key of a parameter, as often as it occurs."""
    if depth > MAX_DEPTH:
        raise ConfigError("choices are nested too deeply")
    for key, entry in entries.items():
        if key == NAME:
            continue
        yield key
        values = entry.get(VALUE) if isinstance(entry, dict) else None
        for option in values if isinstance(values, list) else ():
            if isinstance(option, dict):
                yield from _keys(option, depth + 1)


def _entries(raw: Mapping[str, Any], above: str, repeated: set[str]) -> tuple[NniParameter, ...]:
    return tuple(_entry(key, entry, above, repeated) for key, entry in raw.items() if key != NAME)


def _entry(key: str, entry: object, above: str, repeated: set[str]) -> NniParameter:
    where = f"{above}{key}"
    if not isinstance(entry, dict) or entry.keys() != {TYPE, VALUE}:
        raise ConfigError(
            f'{where}: expected {{"_type": ..., "_value": [...]}}, got {entry!r:.100}'
        )
    kind, values = entry[TYPE], entry[VALUE]
    if kind not in TYPES:
        raise ConfigError(f"{where}: unknown _type {kind!r}; {near_names(str(kind), TYPES)}")
    if not isinstance(values, list) or not values:
        raise ConfigError(f"{where}: _value must be a list with something in it, got {values!r}")
    name = where if key in repeated else key
    if kind != "choice":
        return NniParameter(name=name, key=key, distribution=_numbers(where, kind, values))
    labels, inner = _options(where, values, repeated)
    return NniParameter(
        name=name, key=key, distribution=CategoricalDistribution(labels), inner=inner
    )


def _options(
    where: str, values: list[Any], repeated: set[str]
) -> tuple[list[Label], dict[Label, tuple[NniParameter, ...]] | None]:
    """Labels of a choice, and what lies inside each option."""
    nested = [each for each in values if isinstance(each, dict) and NAME in each]
    if nested and len(nested) < len(values):
        odd = next(each for each in values if each not in nested)
        raise ConfigError(f"{where}: either all options have a _name or none, got {odd!r:.100}")
    labels: list[Label] = [each[NAME] for each in nested] if nested else values
    for position, label in enumerate(labels):
        if label is not None and not isinstance(label, str | int | float):
            raise ConfigError(
                f"{where}: an option must be a number, a word, true, false or null, or an object "
                f"with a _name, got {label!r:.100}"
            )
        _require_finite(where, label)
        if label in labels[:position]:  # also 1 and true, which Optuna takes for one
            raise ConfigError(f"{where}: options must differ, got {shown(label)} twice")
    if not nested:
        return labels, None
    return labels, {
        each[NAME]: _entries(each, f"{where}/{shown(each[NAME])}/", repeated) for each in nested
    }


def _numbers(where: str, kind: str, values: list[Any]) -> BaseDistribution:
    """Distribution of a parameter that is a number."""
    n_numbers = N_NUMBERS[kind]
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(values) != n_numbers or len(numbers) != n_numbers:
        raise ConfigError(f"{where}: {kind} needs {n_numbers} numbers, got {values!r}")
    for number in numbers:
        _require_finite(where, number)
    if "normal" in kind:
        raise ConfigError(
            f"{where}: {kind} has no bounds, without which nothing here can draw; write "
            f"{kind.replace('normal', 'uniform')} with bounds, such as two deviations below and "
            "above the mean"
        )
    low, high = numbers[:2]
    if low >= high:
        raise ConfigError(f"{where}: {kind} must have lower < upper, got {values}")
    if kind == "randint":
        if not all(isinstance(each, int) for each in numbers):
            raise ConfigError(f"{where}: randint must have whole numbers, got {values}")
        return IntDistribution(int(low), int(high) - 1)
    if "log" in kind and low <= 0:
        raise ConfigError(f"{where}: {kind} must have lower > 0, got {values}")
    if n_numbers == 3:
        return _stepped(where, kind, values)
    return FloatDistribution(float(low), float(high), log=kind == "loguniform")


def _stepped(where: str, kind: str, values: list[Any]) -> BaseDistribution:
    """Multiples of the step, cut off at the bounds as NNI does: ``[2, 10, 5]`` is 2, 5, 10."""
    low, high, step = (Decimal(str(each)) for each in values)
    if step <= 0:
        raise ConfigError(f"{where}: {kind} must have a step > 0, got {values}")
    if low % step == 0 and high % step == 0:
        return FloatDistribution(float(low), float(high), step=float(step))
    half = Decimal("0.5")  # NNI rounds to the nearest multiple before it cuts
    first, last = math.floor(low / step + half), math.ceil(high / step - half)
    if last - first >= MAX_UNEVEN_STEPS:
        raise ConfigError(
            f"{where}: of that many steps the bounds must be multiples, got {values}"
        )
    cut = (min(max(number * step, low), high) for number in range(first, last + 1))
    return CategoricalDistribution(list(dict.fromkeys(float(each) for each in cut)))


def _require_finite(where: str, number: object) -> None:
    if isinstance(number, float) and not math.isfinite(number):
        raise ConfigError(f"{where}: {number} is not a number that can be drawn")
