"""A run folder: the study, the space, Optuna's storage, trained candidates, the report.

RUN/study.json        the resolved study
RUN/space.yaml        the search space as it was
RUN/study.db          Optuna's storage (SQLite): the journal, which its dashboard opens
RUN/candidates/ID/    model folder of every trained candidate
RUN/report/           front.csv, front.png, front.html
"""

import contextlib
import functools
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

import filelock
import optuna
import torch
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_face.arch.spec import ArchSpec
from nas_face.arch.summary import summarise
from nas_face.arch.zoo import network
from nas_face.deploy import LatencyMeter
from nas_face.errors import ConfigError
from nas_face.nn import FaceModel
from nas_face.search import SearchSettings, objective, run_search
from nas_face.space import SearchSpace, load_space
from nas_face.space.survey import Survey, survey
from nas_face.study.config import StudyConfig, study_of
from nas_face.study.evaluate import TrainAndVerify
from nas_face.study.faces import StudyFaces, load_faces
from nas_face.train import EpochReport

logger = logging.getLogger(__name__)

STUDY_FILE = "study.json"
SPACE_FILE = "space.yaml"
STORAGE_FILE = "study.db"
LOCK_FILE = "lock"
REFERENCE_NETWORK = "mobilefacenet_128"
REFERENCE_MS = "reference_ms"
"""User attribute of the study: latency of the reference network when the run began."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run folder that exists.

    Attributes:
        folder: the folder.
        config: the study; `space` points into the folder.
        space: what may be chosen, at the study's input size.
    """

    folder: Path
    config: StudyConfig
    space: SearchSpace

    @staticmethod
    def open(folder: Path) -> "Run":
        """Open a run folder.

        Raises:
            ConfigError: it is not one.
        """
        try:
            raw = json.loads((folder / STUDY_FILE).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as failure:
            raise ConfigError(
                f"{folder}: not a run folder, {STUDY_FILE} cannot be read; "
                "start one with: nas-face search STUDY.yaml"
            ) from failure
        raw["space"] = str(folder / SPACE_FILE)
        config = study_of(raw, where=str(folder / STUDY_FILE))
        return Run(folder=folder, config=config, space=_space_of(config))

    @staticmethod
    def start(folder: Path, config: StudyConfig) -> "Run":
        """Make a run folder, or take up the one that is there.

        Raises:
            ConfigError: the folder holds something else, or a run of another study; the message
                names the first difference.
        """
        if (folder / STUDY_FILE).exists():
            run = Run.open(folder)
            _require_same(folder, run.config, config)
            return Run(
                folder=folder, config=_with_trials(run.config, config.trials), space=run.space
            )
        if folder.exists() and any(each.name != LOCK_FILE for each in folder.iterdir()):
            raise ConfigError(
                f"{folder}: not empty and not a run folder; choose another with --out"
            )
        space = _space_of(config)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SPACE_FILE).write_bytes(Path(config.space).read_bytes())
        text = json.dumps(config.to_data(), indent=1) + "\n"
        partial = folder / (STUDY_FILE + ".partial")
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, folder / STUDY_FILE)
        return Run(folder=folder, config=config, space=space)

    @property
    def storage_url(self) -> str:
        """Optuna's name for the storage, as its dashboard takes it."""
        return f"sqlite:///{self.folder / STORAGE_FILE}"

    def study(self) -> Study:
        """The Optuna study, made if it is not there yet."""
        return _open_study(self.storage_url, self.config.name, self.config.objectives)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run folder for this process.

        Raises:
            ConfigError: another process holds it.
        """
        lock = filelock.FileLock(self.folder / LOCK_FILE)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout as failure:
            raise ConfigError(
                f"{self.folder}: another process is searching here; wait for it, "
                "or choose another folder with --out"
            ) from failure
        try:
            yield
        finally:
            lock.release()

    def faces(self) -> StudyFaces:
        """Faces of the study.

        Raises:
            DataError: faces are missing, broken or too few.
        """
        _, height, width = self.space.input_shape
        return load_faces(self.config.data, height=height, width=width, seed=self.config.seed)

    def survey(self) -> Survey:
        """What the space costs, and whether anything in it fits the budget.

        Raises:
            ConfigError: nothing fits; the message names the nearest miss and what to relax.
        """
        found = survey(self.space, self.config.budget.fits, seed=self.config.seed)
        if found.share_fitting == 0.0:
            _require_reachable(self.config, found)
        return found

    def search(
        self,
        faces: StudyFaces,
        *,
        on_epoch: Callable[[EpochReport], None] = lambda report: None,
        on_trial: Callable[[FrozenTrial], None] = lambda trial: None,
    ) -> Study:
        """Run the search to its number of trials.

        Args:
            faces: of `faces()`.
            on_epoch: told of every epoch of every candidate.
            on_trial: told of every trial that ends.

        Raises:
            NasFaceError: several trials in a row failed.
        """
        torch.set_num_threads(self.config.threads)
        study = self.study()
        objectives = tuple(objective(name) for name in self.config.objectives)
        timed = any(each.origin == "timed" for each in objectives)
        meter = self._meter() if timed else None
        if meter is not None and REFERENCE_MS not in study.user_attrs:
            study.set_user_attr(REFERENCE_MS, meter.reference_ms)
        evaluate = TrainAndVerify(
            config=self.config,
            faces=faces,
            meter=meter,
            reference_ms=study.user_attrs.get(REFERENCE_MS, 0.0),
            folder=self.folder / "candidates",
            on_epoch=on_epoch,
        )
        settings = SearchSettings(
            objectives=objectives,
            budget=self.config.budget,
            n_trials=self.config.trials,
            seed=self.config.seed,
            sampler=self.config.sampler,
            rungs=self.config.rungs,
        )
        run_search(study, self.space, evaluate, settings, on_trial=on_trial)
        return study

    def n_ended(self) -> int:
        """Candidates that are over and done with: complete, stopped or failed."""
        return sum(
            "arch_id" in trial.user_attrs and trial.state.is_finished()
            for trial in self.study().get_trials(deepcopy=False)
        )

    def trial(self, number: int) -> FrozenTrial:
        """A trial that ended with a trained network.

        Raises:
            ConfigError: there is none of that number, or it was stopped or failed.
        """
        trials = self.study().get_trials(deepcopy=False)
        if not 0 <= number < len(trials):
            raise ConfigError(
                f"{self.folder}: no trial {number}; there are 0 to {len(trials) - 1}"
            )
        if trials[number].state != TrialState.COMPLETE:
            state = trials[number].state.name.lower()
            raise ConfigError(f"{self.folder}: trial {number} is {state}; choose a complete one")
        return trials[number]

    def spec(self, trial: FrozenTrial) -> ArchSpec:
        """Architecture of a trial."""
        return self.space.decode(trial.params)

    def model(self, trial: FrozenTrial) -> FaceModel:
        """Network of a trial as the search trained it.

        Raises:
            BuildError: its folder is missing or broken.
        """
        return FaceModel.load(self.folder / "candidates" / trial.user_attrs["arch_id"])

    def _meter(self) -> LatencyMeter:
        size = self.space.input_shape[1]
        reference = network(REFERENCE_NETWORK).spec
        at_size = ArchSpec(
            input_shape=(3, size, self.space.input_shape[2]),
            stem=reference.stem,
            stages=reference.stages,
            head=reference.head,
        )
        return LatencyMeter(FaceModel.fresh(at_size, seed=0), self.folder)


@functools.cache
def _open_study(url: str, name: str, objectives: tuple[str, ...]) -> Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=name,
        storage=url,
        directions=[objective(each).direction for each in objectives],
        load_if_exists=True,
    )
    with warnings.catch_warnings():
        # Naming the axes, for the dashboard, is marked experimental since Optuna 3.2.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if study.metric_names is None:
            study.set_metric_names(list(objectives))
    return study


def _space_of(config: StudyConfig) -> SearchSpace:
    space = load_space(Path(config.space))
    return space if config.input_size is None else space.with_input_size(config.input_size)


def _with_trials(config: StudyConfig, trials: int) -> StudyConfig:
    return study_of({**config.to_data(), "trials": trials}, where=STUDY_FILE)


def _require_same(folder: Path, old: StudyConfig, new: StudyConfig) -> None:
    """All but the number of trials must be equal for a run to be taken up."""
    was, now = _flat(old.to_data()), _flat(new.to_data())
    for data in (was, now):
        data.pop("trials", None)
        data.pop("space", None)
    for key in sorted(was.keys() | now.keys()):
        if was.get(key) != now.get(key):
            raise ConfigError(
                f"{folder}: holds a run of another study: {key} was {was.get(key, 'not set')}, "
                f"now {now.get(key, 'not set')}; choose another folder with --out"
            )
    if (folder / SPACE_FILE).read_bytes() != Path(new.space).read_bytes():
        raise ConfigError(
            f"{folder}: holds a run of another study: the space {new.space} has changed since; "
            "choose another folder with --out"
        )


def _flat(data: object, path: str = "") -> dict[str, object]:
    if not isinstance(data, dict):
        return {path: data}
    flat: dict[str, object] = {}
    for key, value in data.items():
        flat.update(_flat(value, f"{path}.{key}" if path else key))
    return flat


def _require_reachable(config: StudyConfig, found: Survey) -> None:
    """Say by how much the smallest design misses the budget, and which part is largest."""
    spec = found.smallest.spec
    missed = config.budget.checks(spec.cost())
    if not missed:
        return
    name, value, limit = missed[0]
    part, share = _largest_part(spec)
    raise ConfigError(
        f"budget.max_{name}: nothing in {config.space} fits {limit:,}; the smallest design has "
        f"{value:,} {name} ({value / limit:.2f} times the limit), {share:.0%} of its madds in "
        f"{part}: raise the limit, lower input_size (now {spec.input_shape[1]}), or offer smaller "
        f"options in {part}"
    )


def _largest_part(spec: ArchSpec) -> tuple[str, float]:
    rows = summarise(spec.lower(), spec.input).stages
    largest = max(rows, key=lambda row: row.cost.madds)
    return largest.name, largest.cost.madds / max(1, sum(row.cost.madds for row in rows))
