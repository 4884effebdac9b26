"""People who are in two data sets: found by name, and refused."""

import hashlib
import re
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import final

from nas_face.errors import DataError

FINGERPRINT_DIGITS = 12
"""Hexadecimal digits of a fingerprint: among 100,000 names, one of 6,000 others collides with a
probability of 2e-6."""

_N_NAMED = 3  # in messages

_REMEDY = "leave them out of the training set (nas-face data check --write-exclude FILE)"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SharedIdentities:
    """Identities that two data sets have in common.

    Args:
        equal: names that are in both, letter for letter, sorted.
        probable: `(trained, judged)` names that differ only in case, accents or separators,
            sorted.
    """

    equal: tuple[str, ...]
    probable: tuple[tuple[str, str], ...]

    def __len__(self) -> int:
        return len(self.equal) + len(self.probable)

    @property
    def trained(self) -> tuple[str, ...]:
        """The names, as the training set spells them, that should be left out, sorted."""
        return tuple(sorted({*self.equal, *(name for name, _ in self.probable)}))


def name_key(name: str) -> str:
    """What spellings of one name have in common.

    Case, accents and separators go: `Aaron_Eckhart`, `aaron eckhart` and `AaronEckhart` are one.
    Separators between two digits stay, so that `s1_11` and `s11_1` are two. A name of nothing but
    separators stays as it is.

    >>> name_key("José-María_Aznar"), name_key("id_1_11")
    ('josemariaaznar', 'id1_11')
    """
    letters = unicodedata.normalize("NFKD", name.casefold())
    plain = "".join(each for each in letters if not unicodedata.combining(each))
    joined = re.sub(r"(?<=\d)[\W_]+(?=\d)", "\0", plain)
    key = re.sub(r"[^\w\0]|_", "", joined).replace("\0", "_")
    return key or name


def shared_identities(
    trained: Collection[str], judged: Collection[str], *, numbers_differ: bool = False
) -> SharedIdentities:
    """Identities that are trained on and judged by.

    Args:
        trained: names of the training set.
        judged: names of the set that results are measured on.
        numbers_differ: whether names that are plain numbers, as record files have them, are other
            people in each set, and so never shared.
    """
    left, right = set(trained), set(judged)
    if numbers_differ:
        left, right = ({name for name in names if not name.isdecimal()} for names in (left, right))
    equal = left & right
    spellings: dict[str, list[str]] = {}
    for name in right - equal:
        spellings.setdefault(name_key(name), []).append(name)
    probable = (
        (name, other) for name in left - equal for other in spellings.get(name_key(name), ())
    )
    return SharedIdentities(equal=tuple(sorted(equal)), probable=tuple(sorted(probable)))


def require_disjoint(
    trained: Collection[str],
    judged: Collection[str],
    *,
    where: str,
    numbers_differ: bool = False,
) -> None:
    """Refuse to judge a network by people whom it was trained on.

    Args:
        trained: names of the training set.
        judged: names of the set that results are measured on.
        where: the latter, for the message, such as the path of a list of pairs.
        numbers_differ: see `shared_identities`.

    Raises:
        DataError: a name is in both, exactly or but for case, accents and separators.
    """
    shared = shared_identities(trained, judged, numbers_differ=numbers_differ)
    if len(shared) == 0:
        return
    people = {*shared.equal, *(other for _, other in shared.probable)}
    counts = f"{len(people)} of its {len(set(judged))} identities are in the training set"
    if shared.probable:
        counts += f" ({len(people) - len(shared.equal)} of them probably)"
    first = [repr(name) for name in shared.equal]
    first += [f"{other!r} ({name!r} there)" for name, other in shared.probable]
    raise DataError(f"{where}: {counts}: {_some(first)}; {_REMEDY}")


def fingerprints(names: Iterable[str]) -> list[str]:
    """What a model keeps of the people whom it was trained on, to know them again.

    The first 12 hexadecimal digits of SHA-256 of each name's key, so that other spellings of a
    name match too. They name nobody to a reader; who has a list of names can try each.

    Args:
        names: of identities.

    Returns:
        Sorted, without repetition.
    """
    return sorted({_fingerprint(name) for name in names})


def shared_fingerprints(fingerprints: Collection[str], names: Iterable[str]) -> tuple[str, ...]:
    """Those names, sorted, whose fingerprint is among others.

    Args:
        fingerprints: of the training set, see `fingerprints`.
        names: of the set that results are measured on.
    """
    known = set(fingerprints)
    return tuple(sorted({name for name in names if _fingerprint(name) in known}))


def _fingerprint(name: str) -> str:
    return hashlib.sha256(name_key(name).encode("utf-8", "surrogatepass")).hexdigest()[
        :FINGERPRINT_DIGITS
    ]


def _some(names: list[str]) -> str:
    listed = ", ".join(names[:_N_NAMED])
    return listed if len(names) <= _N_NAMED else f"{listed}, ..."
