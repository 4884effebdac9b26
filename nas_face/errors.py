"""Every exception that nas-face raises for a mistake outside its own code.

    NasFaceError
    |-- ConfigError          a YAML file, an option or a run folder breaks a rule
    |-- SpaceError           a search space is malformed, or nothing in it is left to propose
    |-- ArchError            an architecture description is wrong
    |   `-- ShapeError       a layer cannot take the shape that it is given
    |-- BuildError           a layer tree and a set of weights do not fit together
    |-- DataError            faces are missing, broken or too few
    |-- MetricError          a metric is asked of scores that cannot support it
    |-- SearchFailed         trial after trial failed
    |-- TrainingDiverged     numbers are not finite any more, or the learning rate is far too high
    |-- RanksLost            a process of a training in several ended or hung
    |-- CompressionError     a pruning, distillation or quantisation step cannot be carried out
    `-- DeployError          an exported file does not run, or does not agree with its source

Each message says where, the rule, what was found, and what to do. The command line prints it as
one line and exits with code 2 (misuse) or 1 (the work itself failed: `SearchFailed`,
`TrainingDiverged`, `RanksLost` and `DeployError`).
"""

import difflib
from collections.abc import Iterable


class NasFaceError(Exception):
    """Root of the tree; catch it to catch everything that nas-face raises on purpose."""


class ConfigError(NasFaceError):
    """A YAML file, an option or a run folder breaks a rule."""


class SpaceError(NasFaceError):
    """A search space is malformed, or nothing in it is left to propose."""


class ArchError(NasFaceError):
    """An architecture description is wrong."""


class ShapeError(ArchError):
    """A layer cannot take the shape that it is given."""


class BuildError(NasFaceError):
    """A layer tree and a set of weights do not fit together."""


class DataError(NasFaceError):
    """Faces are missing, broken or too few."""


class MetricError(NasFaceError):
    """A metric is asked of scores that cannot support it."""


class SearchFailed(NasFaceError):
    """Trial after trial failed."""


class TrainingDiverged(NasFaceError):
    """A loss or an embedding stopped being finite."""


class RanksLost(NasFaceError):
    """A process of a training in several ended or hung."""


class CompressionError(NasFaceError):
    """A pruning, distillation or quantisation step cannot be carried out."""


class DeployError(NasFaceError):
    """An exported file does not run, or does not agree with the model it came from."""


MAX_LISTED = 30


def near_names(name: str, known: Iterable[str]) -> str:
    """End a message about an unknown name: the near ones if there are any, all of them otherwise,
    or some where they are many.

    Args:
        name: what was asked for.
        known: what exists.

    Returns:
        A clause such as ``did you mean 'seesaw'?`` or ``known: a, b, c``.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3)
    if near:
        return "did you mean " + " or ".join(repr(each) for each in near) + "?"
    if len(names) > MAX_LISTED:
        listed = ", ".join(names[:: len(names) // 5][:6])
        return f"{len(names)} are known, among them {listed}"
    return "known: " + ", ".join(names)
