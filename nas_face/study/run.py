"""A run folder: the study, the space, the storage of the trials, trained candidates, the report.

RUN/study.json        the resolved study
RUN/space.yaml        the search space as it was
RUN/target.yaml       the deployment target as it was, if there is one
RUN/study.db          Optuna's storage (SQLite): the journal, which its dashboard opens
RUN/storage.url       or where that is instead, without its password
RUN/workers/          a file for each process that searches here, held while it lives
RUN/candidates/ID/    model folder of every trained candidate
RUN/report/           front.csv, front.png, front.html
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL

from nas_face.arch.spec import ArchSpec
from nas_face.errors import BuildError, ConfigError
from nas_face.nn import FaceModel
from nas_face.search.record import ARCH_ID, REFUSED, WORKER
from nas_face.search.workers import GRACE_S
from nas_face.space import SearchSpace, load_space
from nas_face.space.filtering import filtered
from nas_face.space.target import load_target
from nas_face.study import storage
from nas_face.study.config import StudyConfig, load_run_study, study_of
from nas_face.study.faces import StudyFaces, load_faces
from nas_face.study.folder import has_begun, locked, write_files
from nas_face.study.layout import STORAGE_URL_FILE, STUDY_FILE
from nas_face.study.preflight.budget import Preflight, check_budget
from nas_face.study.same_study import require_same
from nas_face.study.seeding import start_designs
from nas_face.study.sitting import sit
from nas_face.train import EpochReport


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run folder that exists.

    Attributes:
        folder: the folder.
        config: the study; `space` points into the folder.
        space: what may be chosen, at the study's input size; where the run was started or taken up
            and not only opened, without what the study's target refuses.
        url: where the trials are.
    """

    folder: Path
    config: StudyConfig
    space: SearchSpace
    url: URL

    @staticmethod
    def open(folder: Path, storage_url: str | None = None) -> "Run":
        """Open a run folder.

        Args:
            folder: of the run.
            storage_url: where its trials are, if that needs a password.

        Raises:
            ConfigError: it is not one.
        """
        config = load_run_study(folder)
        url = storage.url_of(folder, storage_url)
        return Run(folder=folder, config=config, space=_space_of(config), url=url)

    @staticmethod
    def start(folder: Path, config: StudyConfig, storage_url: str | None = None) -> "Run":
        """Make a run folder, or take up the one that is there.

        A folder in which no search has begun yet, because the budget or the faces turned out wrong
        first, is made anew.

        Args:
            folder: of the run.
            config: the study.
            storage_url: where the trials are to be; where they are or, at first, a file in the
                folder, by default.

        Raises:
            ConfigError: the folder holds something else, or a run of another study; the message
                names the first difference.
        """
        if has_begun(folder):
            return _taken_up(folder, config, storage_url)
        space = _for_target(_space_of(config), config)
        if storage_url is None:  # a wrong name shows before anything is written
            start_designs(config.start_with, space, config.budget)
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            if has_begun(folder):  # by another process in the meantime
                return _taken_up(folder, config, storage_url)
            (folder / STORAGE_URL_FILE).unlink(missing_ok=True)
            url = storage.url_of(folder, storage_url)
            write_files(folder, config, None if storage_url is None else storage.shown(url))
        return Run(folder=folder, config=config, space=space, url=url)

    @property
    def storage_url(self) -> str:
        """Optuna's name for the storage, as its dashboard takes it."""
        return self.url.render_as_string(hide_password=False)

    def study(self) -> Study:
        """The Optuna study, made if it is not there yet.

        Raises:
            ConfigError: the storage is broken.
        """
        with storage.naming(self.url):
            return storage.open_study(self.url, self.config)

    def trials(self) -> list[FrozenTrial]:
        """All trials so far, those that found no architecture included.

        Raises:
            ConfigError: the storage is broken.
        """
        if self._is_new_file():
            return []
        with storage.naming(self.url):
            return self.study().get_trials(deepcopy=False)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the files of the run folder, for the moment that it takes to write them.

        Raises:
            ConfigError: another process does not let go of them.
        """
        with locked(self.folder):
            yield

    def faces(self, input_size: tuple[int, int] | None = None) -> StudyFaces:
        """Faces of the study; the same people and pairs at every size.

        Args:
            input_size: height and width of the crops; the space's, or its first, by default.

        Raises:
            DataError: faces are missing, broken or too few, or do not fit the study's attributes.
        """
        height, width = input_size or self.space.input_shape[1:]
        config = self.config
        return load_faces(
            config.data, height=height, width=width, seed=config.seed, with_groups=True
        )

    def survey(self) -> Preflight:
        """What the space costs, and whether anything in it fits the budget.

        Raises:
            ConfigError: nothing fits; the message names the nearest miss and what to relax.
        """
        return check_budget(self.space, self.config)

    def search(
        self,
        faces: StudyFaces,
        *,
        on_epoch: Callable[[EpochReport], None] = lambda report: None,
        on_trial: Callable[[FrozenTrial], None] = lambda trial: None,
        on_wait: Callable[[int], None] = lambda n_busy: None,
        on_note: Callable[[str], None] = lambda line: None,
        sitting: float | None = None,
        grace_s: float = GRACE_S,
    ) -> Study:
        """Run the search to its number of trials, beside all others that do.

        Args:
            faces: of `faces()`; where the space offers several input sizes, those of the other
                sizes are loaded when a candidate asks for them.
            on_epoch: told of every epoch of every candidate.
            on_trial: told of every trial that ends here.
            on_wait: told once, with their number, when only trials of other workers are left.
            on_note: told what people should know before the first trial, a line at a time.
            sitting: see `nas_face.search.workers.Worker`.
            grace_s: see there.

        Raises:
            NasFaceError: several trials in a row failed.
            ConfigError: the storage is broken or cannot be written, or holds another study.
        """
        return sit(
            self,
            faces,
            on_epoch=on_epoch,
            on_trial=on_trial,
            on_wait=on_wait,
            on_note=on_note,
            sitting=sitting,
            grace_s=grace_s,
        )

    def n_ended(self) -> int:
        """Candidates that are over and done with: complete, stopped or failed."""
        return sum(
            ARCH_ID in trial.user_attrs
            and REFUSED not in trial.user_attrs
            and trial.state.is_finished()
            for trial in self.trials()
        )

    def trial(self, number: int) -> FrozenTrial:
        """A trial that ended with a trained network.

        Raises:
            ConfigError: there is none of that number, or it was stopped or failed.
        """
        trials = self.trials()
        if not 0 <= number < len(trials):
            known = f"there are 0 to {len(trials) - 1}" if trials else "there is none yet"
            raise ConfigError(f"{self.folder}: no trial {number}; {known}")
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
        folder = self.candidate_folder(trial)
        if not folder.exists() and trial.user_attrs.get(WORKER):
            raise BuildError(
                f"{folder}: missing; trial {trial.number} was trained by worker "
                f"{trial.user_attrs[WORKER]}: copy the folder from where that one searched"
            )
        return FaceModel.load(folder)

    def candidate_folder(self, trial: FrozenTrial) -> Path:
        """Where the search keeps the network of a trial."""
        return self.folder / "candidates" / str(trial.user_attrs[ARCH_ID])

    def _is_new_file(self) -> bool:
        return (
            self.url.get_backend_name() == "sqlite" and not Path(str(self.url.database)).exists()
        )


def _taken_up(folder: Path, config: StudyConfig, storage_url: str | None) -> Run:
    if not (folder / STUDY_FILE).exists():
        raise ConfigError(f"{folder}: not empty and not a run folder; choose another with --out")
    run = Run.open(folder, storage_url)
    require_same(folder, run.config, config)
    again = _with_trials(run.config, config.trials)
    return Run(folder=folder, config=again, space=_for_target(run.space, again), url=run.url)


def _space_of(config: StudyConfig) -> SearchSpace:
    space = load_space(Path(config.space))
    return space if config.image_size is None else space.with_input_size(*config.image_size)


def _for_target(space: SearchSpace, config: StudyConfig) -> SearchSpace:
    """What may be proposed; designs that a run holds decode in the whole space as well."""
    if config.target is None:
        return space
    target = load_target(Path(config.target))
    return filtered(space, target, allow_slow=config.allow_slow, seed=config.seed)


def _with_trials(config: StudyConfig, trials: int) -> StudyConfig:
    return study_of({**config.to_data(), "trials": trials}, where=STUDY_FILE)
