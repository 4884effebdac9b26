"""What NNI's tuners are shown in place of parameters: positions in place of labels.

So labels may be of any kind, and what NNI takes for a number is one.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from nas_face.search.nni.entries import NniParameter
from nas_face.search.nni.written import NAME, TYPE, VALUE

Parameters = Sequence[NniParameter]


def flattened(parameters: Parameters) -> Iterator[NniParameter]:
    """All parameters, as if none lay in an option of another."""
    for each in parameters:
        yield NniParameter(name=each.name, key=each.key, distribution=each.distribution)
        for option in (each.inner or {}).values():
            yield from flattened(option)


def coded_space(parameters: Parameters) -> dict[str, Any]:
    """What NNI is shown: names that are unique, and positions in place of labels."""
    space: dict[str, Any] = {}
    for each in parameters:
        match each.distribution:
            case CategoricalDistribution(choices=labels):
                options: list[Any] = list(range(len(labels)))
                if each.inner is not None:
                    options = [
                        {NAME: code, **coded_space(each.inner[label])}
                        for code, label in enumerate(labels)
                    ]
                space[each.name] = {TYPE: "choice", VALUE: options}
            case IntDistribution(low=low, high=high):
                space[each.name] = {TYPE: "randint", VALUE: [low, high + 1]}
            case FloatDistribution(low=low, high=high, step=None, log=log):
                kind = "loguniform" if log else "uniform"
                space[each.name] = {TYPE: kind, VALUE: [low, high]}
            case FloatDistribution(low=low, high=high, step=float(step)):
                last = round((high - low) / step)
                space[each.name] = {TYPE: "quniform", VALUE: [0, last, 1]}
    return space


def coded(
    parameters: Parameters, params: Mapping[str, Any], rng: np.random.Generator
) -> dict[str, Any]:
    """A trial in NNI's form; what it has no value for, since it was inactive, is drawn."""
    found: dict[str, Any] = {}
    for each in parameters:
        match each.distribution:
            case CategoricalDistribution(choices=labels) as categories:
                code = (
                    int(categories.to_internal_repr(params[each.name]))
                    if each.name in params
                    else int(rng.integers(len(labels)))
                )
                found[each.name] = code
                if each.inner is not None:
                    inner = coded(each.inner[labels[code]], params, rng)
                    found[each.name] = {NAME: code, **inner}
            case IntDistribution(low=low, high=high):
                found[each.name] = int(params.get(each.name, rng.integers(low, high + 1)))
            case FloatDistribution(low=low, high=high, step=step):
                value = float(params.get(each.name, rng.uniform(low, high)))
                found[each.name] = value if step is None else round((value - low) / step)
    return found


def decoded(parameters: Parameters, coded: Mapping[str, Any]) -> dict[str, Any]:
    """Values by name of what NNI drew; inactive parameters are absent."""
    values: dict[str, Any] = {}
    for each in parameters:
        code = coded[each.name]
        match each.distribution:
            case CategoricalDistribution(choices=labels):
                nested = isinstance(code, Mapping)
                label = labels[code[NAME] if nested else code]
                values[each.name] = label
                if nested and each.inner is not None:
                    values |= decoded(each.inner[label], code)
            case IntDistribution():
                values[each.name] = int(code)
            case FloatDistribution(low=low, high=high, step=step):
                value = code if step is None else low + round(code) * step
                values[each.name] = float(min(max(value, low), high))
    return values
