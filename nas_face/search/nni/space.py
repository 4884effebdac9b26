"""Search spaces in NNI's JSON format.

One entry for each parameter, ``"name": {"_type": ..., "_value": [...]}``; options of a choice that
bring parameters of their own are objects with a ``_name``. Source: "Search Space" in the
documentation of NNI 3.0. Rules between choices have no place in the format: whoever draws from a
written file may draw what a rule of the space forbids.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, final

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial

from nas_face.errors import ConfigError, near_names
from nas_face.search.nni.entries import NniParameter, read_entries
from nas_face.search.nni.written import NAME, written
from nas_face.space import Label, SearchSpace
from nas_face.space.restricting import restricted
from nas_face.space.template import shown


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class NniSpace:
    """A search space of NNI's.

    Attributes:
        parameters: entries that are always active.
        data: what the file holds.
    """

    parameters: tuple[NniParameter, ...]
    data: Mapping[str, Any]

    def everything(self) -> Iterator[NniParameter]:
        """All parameters, each before those inside it."""

        def below(parameters: Sequence[NniParameter]) -> Iterator[NniParameter]:
            for each in parameters:
                yield each
                for option in (each.inner or {}).values():
                    yield from below(option)

        return below(self.parameters)

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's distributions by name, those of conditional parameters included.

        `choice` is categorical (of a nested one, the names of the options), `randint` whole
        numbers, `uniform` and `loguniform` floats, `quniform` floats in steps of which the first
        and the last may be cut short, then as categories.

        Differs: Optuna has no steps on a logarithmic scale, so that `qloguniform` has the values
        of NNI's but draws them as `quniform` does.
        """
        return {each.name: each.distribution for each in self.everything()}

    def suggest(self, trial: Trial) -> dict[str, Any]:
        """A draw by Optuna, in the form that NNI hands to a user's trial code.

        Inactive parameters are not asked for.
        """

        def drawn(parameters: Sequence[NniParameter]) -> dict[str, Any]:
            return {each.key: value_of(each) for each in parameters}

        def value_of(each: NniParameter) -> Any:
            match each.distribution:
                case IntDistribution(low=low, high=high):
                    return trial.suggest_int(each.name, low, high)
                case FloatDistribution(low=low, high=high, step=step, log=log):
                    return trial.suggest_float(each.name, low, high, step=step, log=log)
                case CategoricalDistribution(choices=choices):
                    label: Label = trial.suggest_categorical(each.name, choices)
                    return (
                        label if each.inner is None else {NAME: label, **drawn(each.inner[label])}
                    )
            raise AssertionError(each.distribution)

        return drawn(self.parameters)

    def flat(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """Values by name of a draw in NNI's form; inactive parameters are absent.

        Raises:
            ConfigError: a parameter is missing.
        """
        values: dict[str, Any] = {}

        def visit(parameters: Sequence[NniParameter], given: Mapping[str, Any]) -> None:
            for each in parameters:
                if each.key not in given:
                    raise ConfigError(f"no value for {each.name} in the draw {dict(given)}")
                value = given[each.key]
                if each.inner is None:
                    values[each.name] = value
                else:
                    values[each.name] = value[NAME]
                    visit(each.inner[value[NAME]], value)

        visit(self.parameters, drawn)
        return values


def to_nni(space: SearchSpace) -> NniSpace:
    """A space in NNI's form: every choice once, under its path.

    What lies in an option is a nested choice. A shared choice stands in the innermost option that
    holds all its uses, so that a draw may have labels more than its design needs; `space.design`
    takes no notice of them.
    """
    return parse_nni(written(space))


def load_nni(path: Path) -> NniSpace:
    """Read a file.

    Raises:
        ConfigError: it cannot be read or breaks a rule; one line, with the key.
    """
    try:
        raw = json.loads(
            path.read_text(encoding="utf-8"),
            parse_constant=_refuse_constant,
            object_pairs_hook=_unique,
        )
    except OSError as failure:
        raise ConfigError(f"{path}: cannot be read ({failure.strerror})") from failure
    except (ValueError, RecursionError) as failure:
        raise ConfigError(f"{path}: not valid JSON ({failure})") from failure
    try:
        return parse_nni(raw)
    except ConfigError as failure:
        raise ConfigError(f"{path}: {failure}") from failure


def dump_nni(space: NniSpace, path: Path) -> None:
    """Write a file.

    Raises:
        ConfigError: it cannot be written, or a label is not a finite number.
    """
    try:
        text = json.dumps(space.data, indent=2, allow_nan=False, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as failure:
        raise ConfigError(f"{path}: cannot be written ({failure.strerror})") from failure
    except ValueError as failure:
        raise ConfigError(f"{path}: cannot be written ({failure})") from failure


def parse_nni(raw: object) -> NniSpace:
    """The space of what a JSON file holds.

    Raises:
        ConfigError: an entry breaks a rule; the message begins with its key.
    """
    if not isinstance(raw, dict) or not raw:
        raise ConfigError(f"a search space of NNI's is an object of parameters, got {raw!r:.100}")
    return NniSpace(parameters=read_entries(raw), data=raw)


def restrict(space: SearchSpace, nni: NniSpace) -> SearchSpace:
    """The options of a space that a file of NNI's still has.

    Keys are paths of choices (`nas-face space show --knobs`); choices that the file does not
    mention keep all their options. `randint` keeps the whole numbers within its bounds.

    Raises:
        ConfigError: a key is not a path, an option is not one of its choice, or the parameter is
            neither `choice` nor `randint`.
        SpaceError: no design is left that obeys the rules of the space.
    """
    choices = space.choices()
    allowed: dict[str, list[Label]] = {}
    for each in nni.everything():
        if each.key not in choices:
            raise ConfigError(
                f"{each.key}: {space.name} has no such choice; {near_names(each.key, choices)}"
            )
        known = choices[each.key].labels
        match each.distribution:
            case CategoricalDistribution(choices=labels):
                for label in labels:
                    if not _among(label, known):
                        raise ConfigError(
                            f"{each.key}: {label!r} is not an option in {space.name}; known: "
                            f"{', '.join(map(shown, known))}"
                        )
                found = [label for label in known if _among(label, labels)]
            case IntDistribution(low=low, high=high):
                found = [label for label in known if type(label) is int and low <= label <= high]
            case _:
                raise ConfigError(
                    f"{each.key}: a choice of {space.name} can be restricted by choice or "
                    "randint only; list its options"
                )
        if not found:
            raise ConfigError(
                f"{each.key}: no option is left; known: {', '.join(map(shown, known))}"
            )
        allowed[each.key] = [*allowed.get(each.key, []), *found]
    return restricted(
        space, lambda path, label: path not in allowed or _among(label, allowed[path])
    )


def _among(label: object, labels: Sequence[object]) -> bool:
    """Whether a label is among others; `true` is not 1."""
    return any(
        label == each and isinstance(label, bool) == isinstance(each, bool) for each in labels
    )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number that can be drawn")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is given twice")
    return found
