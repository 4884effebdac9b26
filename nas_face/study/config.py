"""Study files: YAML to StudyConfig, strictly, and the record of what a run was."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, final

from nas_face.arch.codec import from_data, to_data
from nas_face.arch.zoo import NETWORKS
from nas_face.data.joining import SameNames
from nas_face.errors import ConfigError, SpaceError
from nas_face.search import Budget, Rungs, objective
from nas_face.search.budget import parse_wall
from nas_face.search.samplers import DEFAULT_SAMPLER, require_sampler
from nas_face.shipped import find_file
from nas_face.space import read_yaml
from nas_face.study.layout import SPACE_FILE, STUDY_FILE, TARGET_FILE
from nas_face.study.overrides import override
from nas_face.study.proxies.settings import ProxySettings
from nas_face.study.targets import find_target_file
from nas_face.train.settings import TrainSettings
from nas_face.train.teachers.settings import SFACE

BUILT_IN_DATA = "orl"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """Where faces come from and how identities are shared out.

    Attributes:
        source: ``orl`` for the built-in faces, or faces in any format that
            `nas_face.data.load_faces` reads, such as a folder with one folder for each identity;
            or several of these, which become one set.
        same_names: what a name in two sources means: ``refuse`` it, ``join`` the images as those
            of one person, or keep two people ``apart``; see `nas_face.data.joining`.
        search_fraction: share of the identities with two images or more that the search judges
            candidates on.
        test_fraction: share of them that only reports are made on.
        exclude: text file of identities to leave out: the first word of each line, ``#`` for
            comments.
        max_impostors_per_genuine: impostor pairs drawn for each genuine search pair.
        max_broken_share: share of the images that may be broken, in [0, 1]; they are left out.
        attributes: CSV file with attributes of identities or images, for figures by group.
        group_far: FAR over all pairs that sets the one threshold of `worst_group_tar`, in (0, 1).
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    source: str | tuple[str, ...] = BUILT_IN_DATA
    same_names: SameNames = "refuse"
    search_fraction: float = 0.25
    test_fraction: float = 0.25
    exclude: str | None = None
    max_impostors_per_genuine: int = 10
    max_broken_share: float = 0.5
    attributes: str | None = None
    group_far: float = 0.01

    def __post_init__(self) -> None:
        if not self.sources:
            raise ConfigError("data.source must name at least one source of faces, got none")
        for each in self.sources:
            if self.sources.count(each) > 1:
                raise ConfigError(f"data.source names {each} twice")
        for name in ("search_fraction", "test_fraction"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(
                    f"data.{name} must be between 0 and 1, got {getattr(self, name)}"
                )
        if self.search_fraction + self.test_fraction >= 1:
            raise ConfigError(
                "data: search_fraction and test_fraction must leave faces to train on"
            )
        if self.max_impostors_per_genuine < 1:
            raise ConfigError(
                "data.max_impostors_per_genuine must be at least 1, "
                f"got {self.max_impostors_per_genuine}"
            )
        if not 0 <= self.max_broken_share <= 1:
            raise ConfigError(
                f"data.max_broken_share must be between 0 and 1, got {self.max_broken_share}"
            )
        if not 0 < self.group_far < 1:
            raise ConfigError(f"data.group_far must be between 0 and 1, got {self.group_far}")

    @property
    def sources(self) -> tuple[str, ...]:
        """All of them, also where there is only one."""
        return (self.source,) if isinstance(self.source, str) else self.source

    @property
    def where(self) -> str:
        """The sources, for messages."""
        return " + ".join(self.sources)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StudyConfig:
    """Everything that a run needs; its resolved form is saved with the run.

    Attributes:
        name: of the study; also the default run folder, `runs/NAME`.
        space: YAML file of the search space.
        input_size: side of square images, or height and width, in place of the space's own.
        target: deployment target, by its name or file: what it avoids or runs poorly is not
            proposed.
        allow_slow: whether what the target runs poorly is proposed all the same.
        objectives: axes of the front; see `nas_face.search.OBJECTIVES`.
        budget: walls that no candidate crosses.
        trials: candidates in all.
        seed: of everything.
        sampler: what proposes candidates: `front_gain`, one of Optuna's (`nsga2`, `nsga3`, `tpe`,
            `gp`, `random`), or `nni:` and the name of one of NNI's tuners.
        start_with: zoo networks, spec files and run folders whose designs are proposed first.
        rungs: early stopping.
        proxies: zero-cost proxies as a head start.
        threads: processor threads of a training; results are equal only for equal numbers.
        data: faces.
        training: recipe of a candidate.
        full_training: recipe of `nas-face train`.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    name: str
    space: str
    input_size: int | tuple[int, int] | None = None
    target: str | None = None
    allow_slow: bool = False
    objectives: tuple[str, ...] = ("log_tar", "madds", "latency_ms")
    budget: Budget = field(default_factory=Budget)
    trials: int = 50
    seed: int = 0
    sampler: str = DEFAULT_SAMPLER
    start_with: tuple[str, ...] = ()
    rungs: Rungs = field(default_factory=Rungs)
    proxies: ProxySettings = field(default_factory=ProxySettings)
    threads: int = 1
    data: DataSettings = field(default_factory=DataSettings)
    training: TrainSettings = field(default_factory=TrainSettings)
    full_training: TrainSettings = field(default_factory=TrainSettings)

    def __post_init__(self) -> None:
        require_folder_name(self.name)
        for name in self.objectives:
            objective(name)
        require_sampler(self.sampler, len(self.objectives))
        if len(set(self.start_with)) != len(self.start_with):
            raise ConfigError(f"start_with: names must differ, got {', '.join(self.start_with)}")
        if len(set(self.objectives)) != len(self.objectives):
            raise ConfigError(f"objectives must differ, got {', '.join(self.objectives)}")
        if not any(objective(name).origin == "trained" for name in self.objectives):
            raise ConfigError("objectives: at least one must need a training, such as log_tar")
        if "worst_group_tar" in self.objectives and self.data.attributes is None:
            raise ConfigError("objectives: worst_group_tar needs data.attributes, a CSV file")
        for name, least in (("trials", 1), ("seed", 0), ("threads", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.allow_slow and self.target is None:
            raise ConfigError("allow_slow says what to do with a target: give one")
        for side in self.image_size or ():
            if not 16 <= side <= 1024:
                raise ConfigError(f"input_size must be from 16 to 1024, got {side}")
        late = [epoch for epoch in self.rungs.epochs if epoch >= self.training.epochs]
        if late:
            raise ConfigError(
                f"rungs.epochs must lie below training.epochs={self.training.epochs}, got "
                f"{late[0]}"
            )

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of images, where the study sets them."""
        size = self.input_size
        return (size, size) if isinstance(size, int) else size

    def to_data(self) -> dict[str, Any]:
        """Plain data; fields at their default are left out."""
        data: dict[str, Any] = to_data(self)
        return data


def load_study(path: Path, overrides: Mapping[str, Any] | None = None) -> StudyConfig:
    """Read a study file.

    Args:
        path: YAML file; the README describes its keys.
        overrides: values that replace those of the file, by dotted key, such as
            ``{"budget.max_madds": 150_000_000}``.

    Raises:
        ConfigError: the file cannot be read or breaks a rule; one line, with the path inside it.
    """
    try:
        raw = dict(read_yaml(path))
    except SpaceError as failure:
        raise ConfigError(str(failure)) from failure
    return study_of(raw, where=str(path), overrides=overrides, beside=path)


def load_run_study(folder: Path) -> StudyConfig:
    """Read the study of a run folder; its space is the copy that lies in the folder.

    Raises:
        ConfigError: it is not a run folder, or its files are broken.
    """
    path = folder / STUDY_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as failure:
        raise ConfigError(
            f"{folder}: not a run folder, {STUDY_FILE} cannot be read; "
            "start one with: nas-face search STUDY.yaml"
        ) from failure
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected a mapping of keys, got {raw!r}")
    copies = {"space": str(folder / SPACE_FILE)}
    if raw.get("target") is not None:
        copies["target"] = str(folder / TARGET_FILE)
    return study_of({**raw, **copies}, where=str(path))


def require_folder_name(name: str) -> None:
    """Names of studies and recipes become names of folders.

    Raises:
        ConfigError: this one cannot.
    """
    if not name.strip(" .") or not name.isprintable() or set(name) & set("/\\"):
        raise ConfigError(f"name must do as the name of a folder, got {name!r}")


def study_of(
    raw: Mapping[str, Any],
    *,
    where: str,
    overrides: Mapping[str, Any] | None = None,
    beside: Path | None = None,
) -> StudyConfig:
    """StudyConfig of plain data; see `load_study`."""
    data = {key: dict(value) if isinstance(value, dict) else value for key, value in raw.items()}
    for dotted, value in (overrides or {}).items():
        override(data, dotted, value, where=where)
    budget = data.get("budget")
    if isinstance(budget, dict):
        for key, value in budget.items():
            if isinstance(value, str):
                budget[key] = parse_wall(key, value, where=f"{where}: budget.{key}")
    try:
        config = from_data(StudyConfig, data, where=where, error=ConfigError)
    except ConfigError as failure:
        text = str(failure)
        raise ConfigError(text if text.startswith(where) else f"{where}: {text}") from failure
    space = find_file(config.space, beside)
    if space is None:
        raise ConfigError(
            f"{where}: space: no file {config.space!r}; give the path of a YAML file"
        )
    try:
        target = None if config.target is None else str(find_target_file(config.target, beside))
    except SpaceError as failure:
        raise ConfigError(f"{where}: target: {failure}") from failure
    return dataclasses.replace(
        config,
        space=str(space),
        target=target,
        data=_absolute(config.data, beside),
        training=_with_absolute_teacher(config.training, beside),
        full_training=_with_absolute_teacher(config.full_training, beside),
        start_with=tuple(_absolute_start(name, beside) for name in config.start_with),
    )


def _absolute(data: DataSettings, beside: Path | None) -> DataSettings:
    """Paths made absolute, so that a run can be taken up from any folder."""
    found = tuple(
        each if each == BUILT_IN_DATA else _resolved(each, beside) for each in data.sources
    )
    source = found[0] if isinstance(data.source, str) else found
    exclude, attributes = (
        None if each is None else _resolved(each, beside)
        for each in (data.exclude, data.attributes)
    )
    return dataclasses.replace(data, source=source, exclude=exclude, attributes=attributes)


def _with_absolute_teacher(recipe: TrainSettings, beside: Path | None) -> TrainSettings:
    teacher = recipe.teacher
    if teacher is None or teacher.model == SFACE:
        return recipe
    model = _resolved(teacher.model, beside)
    return dataclasses.replace(recipe, teacher=dataclasses.replace(teacher, model=model))


def _absolute_start(name: str, beside: Path | None) -> str:
    """Names of networks as they are; paths made absolute, also of what is there no more."""
    if name in NETWORKS:
        return name
    shipped = find_file(name, beside)
    if shipped is not None:
        return str(shipped.resolve())
    return _resolved(name, beside)


def _resolved(name: str, beside: Path | None) -> str:
    path = Path(name).expanduser()
    if not path.exists() and beside is not None and (beside.parent / path).exists():
        path = beside.parent / path
    return str(path.resolve())
