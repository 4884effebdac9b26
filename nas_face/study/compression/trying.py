"""Settings of a step tried one after another, each put on record, so that none is tried twice."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

from nas_face.arch.codec import from_data
from nas_face.errors import ConfigError
from nas_face.nn import FaceModel
from nas_face.study.compression.results import FileResult, Try
from nas_face.study.compression.state import Note
from nas_face.study.files import write_text

TRIES_FILE = "tries.json"
TRIES_FOLDER = "tries"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    tries: tuple[Try, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Made:
    """What a setting made.

    Attributes:
        model: float weights behind it.
        file: on the recipe's runtime.
    """

    model: FaceModel
    file: FileResult


@final
class Tries:
    """The tries of one step.

    What a try writes lies in a folder of its own until the step is done; `tries.json` holds the
    figures and stays.

    Args:
        folder: of the step.
        step: name of its row.
        least: accuracy on the pairs that decide that a try has to keep, 0 to 1; None asks nothing.
        note: told of every try.

    Raises:
        ConfigError: the record of an earlier sitting is broken.
    """

    def __init__(self, folder: Path, step: str, least: float | None, note: Note) -> None:
        self.folder = folder
        self.step = step
        self.least = least
        self._note = note
        self._known = list(_read(folder / TRIES_FILE))
        self.done: tuple[Try, ...] = ()

    def place(self, number: int) -> Path:
        """Folder of a try, by its number in order."""
        return self.folder / TRIES_FOLDER / str(number)

    def place_of(self, tried: Try) -> Path:
        """Folder of a try of this sitting."""
        return self.place(self.done.index(tried))

    def attempt(self, setting: str, position: int, make: Callable[[Path], Made]) -> Try:
        """Carry a setting out, or take what an earlier sitting made of it.

        Args:
            setting: in words; the same words are the same setting.
            position: 0 for what the recipe asks, more for what is softer.
            make: makes it in a folder.
        """
        again = next((each for each in self.done if each.setting == setting), None)
        if again is not None:
            return again
        number = len(self.done)
        place = self.place(number)
        known = self._known[number] if number < len(self._known) else None
        if known is None or known.setting != setting or not place.is_dir():
            place.mkdir(parents=True, exist_ok=True)
            began = time.perf_counter()
            made = make(place)
            cost = made.model.description.cost
            known = Try(
                step=self.step,
                setting=setting,
                position=position,
                madds=cost.madds,
                params=cost.params,
                file=made.file,
                least=self.least,
                keeps=self.least is None or made.file.judged >= self.least,
                seconds=time.perf_counter() - began,
            )
            self._known[number:] = [known]
            data = asdict(_Record(tries=tuple(self._known)))
            write_text(self.folder / TRIES_FILE, json.dumps(data, indent=1) + "\n")
        self.done = (*self.done, known)
        self._note(_line(known))
        return known

    def softened(self, n: int, attempt: Callable[[int], Try]) -> Try | None:
        """The least soft setting that keeps the floor, by bisection.

        It is taken for granted that a softer setting loses less, and that the softest, which does
        nothing, loses nothing.

        Args:
            n: position of the softest, which is not tried.
            attempt: tries a position from 0 to n - 1.

        Returns:
            None where nothing below `n` is found to keep it.
        """
        best = attempt(0)
        if best.keeps:
            return best
        breaks, found, kept = 0, n, None
        while found - breaks > 1:
            middle = (breaks + found) // 2
            tried = attempt(middle)
            if tried.keeps:
                found, kept = middle, tried
            else:
                breaks = middle
        return kept

    def take(self, tried: Try) -> None:
        """Move the files of a try to the step's own folder.

        They are copied, so that a crash leaves the try as it was.
        """
        for path in self.place_of(tried).iterdir():
            if path.is_file():
                shutil.copyfile(path, self.folder / path.name)


def known_tries(folder: Path) -> tuple[Try, ...]:
    """Tries of a step that is done.

    Raises:
        ConfigError: the record is broken.
    """
    return _read(folder / TRIES_FILE)


def _read(path: Path) -> tuple[Try, ...]:
    if not path.exists():
        return ()
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as failure:
        raise ConfigError(f"{path}: not valid JSON; delete it to try again") from failure
    return from_data(_Record, data, where=str(path), error=ConfigError).tries


def _line(tried: Try) -> str:
    figures = (
        f"{tried.step}: {tried.setting}: {tried.file.latency_ms:.2f} ms "
        f"({tried.file.speedup:.2f} x), {tried.file.size_bytes:,} bytes, "
        f"judged {tried.file.judged:.2%}"
    )
    if tried.least is None:
        return figures
    return f"{figures}, {'keeps' if tried.keeps else 'breaks'} the floor of {tried.least:.2%}"
