"""What several search tests share: a small space, an evaluation that trains nothing, histories."""

import functools
import hashlib
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.study import Study

from nas_face.arch.spec import ArchSpec
from nas_face.search import (
    Budget,
    Objective,
    Report,
    Rungs,
    SearchSettings,
    derive_seed,
    objective,
    run_search,
)
from nas_face.search.record import ARCH_ID, LEDGER, METRICS
from nas_face.shipped import find_file
from nas_face.space import Choice, Design, Label, SearchSpace, load_space

SCORE = Objective(name="score", direction="maximize", origin="trained", title="made up")
AXES = (SCORE, objective("madds"))
SAMPLERS = ("random", "tpe", "nsga2", "nsga3", "front_gain")


def shipped_space() -> SearchSpace:
    """A real space at a small size."""
    path = find_file("search_spaces/seesaw.yaml")
    assert path is not None
    return load_space(path).with_input_size(48)


def tiny_space() -> SearchSpace:
    """24 designs, of which two and two are the same architecture."""
    widths = Choice(options={4: 4, 8: 8, 12: 12})
    same = Choice(options={"a": "relu", "b": "relu"})
    kernel = Choice(options={1: 1, 3: 3})
    stem = ({"kind": "conv_unit", "out_channels": widths, "act": same, "kernel": kernel},)
    head = {
        "kind": "pooled_linear",
        "embedding_size": Choice(options={4: 4, 8: 8}),
        "tail_channels": 8,
    }
    return SearchSpace(
        name="tiny",
        description="",
        input_shape=(3, 8, 8),
        template={"stem": stem, "stages": (), "head": head},
        shared={},
    )


def designs_of_tiny() -> list[Design]:
    space = tiny_space()
    choices = space.choices()
    return [
        space.propose(functools.partial(_given, dict(zip(choices, labels, strict=True))))
        for labels in itertools.product(*(choice.labels for choice in choices.values()))
    ]


def _given(labels: dict[str, Label], path: str, choice: Choice) -> Label:
    return labels[path]


def made_up(spec: ArchSpec, seed: int) -> float:
    """A score from 0 to 1 that only architecture and seed decide."""
    digest = hashlib.sha256(f"{spec.arch_id}{seed}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


class Evaluation:
    """An evaluation that trains nothing.

    Args:
        run: gives the figures of an architecture, its seed and the report.
        time: gives those of the untrained network.
    """

    def __init__(
        self,
        run: Callable[[ArchSpec, int, Report], Mapping[str, float]],
        time: Callable[[ArchSpec], Mapping[str, float]] = lambda spec: {},
    ) -> None:
        self._run = run
        self.time = time

    def __call__(self, spec, *, seed, report, timed, ledger) -> Mapping[str, float]:
        with ledger.phase("train"):
            return self._run(spec, seed, report)


def score_of(spec: ArchSpec, seed: int, report: Report) -> Mapping[str, float]:
    return {"score": made_up(spec, seed)}


evaluate = Evaluation(score_of)


def settings(**changes: Any) -> SearchSettings:
    given: dict[str, Any] = {
        "objectives": AXES,
        "budget": Budget(),
        "n_trials": 12,
        "seed": 7,
        "sampler": "random",
        "rungs": Rungs(),
    }
    return SearchSettings(**{**given, **changes})


def new_study(**kwargs: Any) -> Study:
    return optuna.create_study(directions=[axis.direction for axis in AXES], **kwargs)


def search(space: SearchSpace, how: SearchSettings, run: Callable = evaluate, **kwargs) -> Study:
    study = new_study()
    run_search(study, space, run, how, **kwargs)
    return study


def history(study: Study) -> list[tuple[Any, ...]]:
    """All that must be the same in two runs: everything but numbers, times and stubs."""
    untimed = [
        {k: value for k, value in trial.user_attrs.items() if k not in (METRICS, LEDGER)}
        for trial in study.trials
    ]
    return [
        (trial.state.name, trial.params, trial.values, attributes)
        for trial, attributes in zip(study.trials, untimed, strict=True)
        if ARCH_ID in attributes
    ]


def seed_of(spec: ArchSpec, study_seed: int = 7) -> int:
    return derive_seed(study_seed, spec.arch_id)
