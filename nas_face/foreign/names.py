"""What the names of foreign weights say about their order and their company."""

import re
from collections.abc import Iterable
from typing import final

Token = str | int

# Words for the kind of a layer; what is left of a name without them says where it stands.
KIND_WORDS = frozenset(
    "conv conv2d convolution bn bn2d batchnorm batch norm normalization normalisation prelu relu "
    "act activation nonlinearity linear fc dense layer weight c n b p l a".split()
)
SHORTCUT_WORDS = frozenset("shortcut downsample skip identity residual bypass".split())
CLASSIFIER_WORDS = frozenset(
    "classifier classification margin arcface cosface arc cos kernel logits loss metric fc head "
    "softmax criterion weights weight centers centres".split()
)


def tokens(name: str) -> tuple[Token, ...]:
    """Words and numbers of a name, in lower case."""
    found = re.findall(r"[a-z]+|[0-9]+", name.lower())
    return tuple(int(each) if each.isdecimal() else each for each in found)


def place(name: str) -> tuple[Token, ...]:
    """A name without the words for kinds of layers: equal for layers that go together."""
    return tuple(each for each in tokens(name) if each not in KIND_WORDS)


def says_shortcut(name: str) -> bool:
    """Whether a name calls its layer a shortcut."""
    return not SHORTCUT_WORDS.isdisjoint(tokens(name))


def says_classifier(name: str) -> bool:
    """Whether a name may be a classifier's; a lone weight at the top of a file may."""
    return not name or not CLASSIFIER_WORDS.isdisjoint(tokens(name))


@final
class NameOrder:
    """What the numbers in the names of a file say about the order of its layers.

    Numbers count. Where the numbers behind one word leave most of their range out, as in `conv_2`,
    `conv_23`, `conv_3`, they are labels of stages and are read digit by digit.

    Args:
        names: all of the file, components joined by dots.
    """

    def __init__(self, names: Iterable[str]) -> None:
        families: dict[tuple[str, str], set[int]] = {}
        for name in names:
            parent = ""
            for component in name.split("."):
                word, number = _counted(component)
                if word and number is not None:
                    families.setdefault((parent, word), set()).add(number)
                parent = f"{parent}.{component}"
        self._labels = {
            family
            for family, numbers in families.items()
            if len(numbers) > 1 and max(numbers) - min(numbers) + 1 > 2 * len(numbers)
        }

    def key(self, name: str) -> tuple[tuple[tuple[int, int | str], ...], ...]:
        """What to sort names by: component by component, numbers before words."""
        parent, keys = "", []
        for component in name.split("."):
            labelled = (parent, _counted(component)[0]) in self._labels
            keys.append(
                tuple(
                    (2, each)
                    if isinstance(each, str)
                    else (1, str(each))
                    if labelled
                    else (0, each)
                    for each in tokens(component)
                )
            )
            parent = f"{parent}.{component}"
        return tuple(keys)

    def comes_before(self, first: str, second: str) -> bool | None:
        """Whether the numbers in two names say that the first comes first.

        Returns:
            None where the names differ in words before they differ in numbers.
        """
        for one, other in zip(self.key(first), self.key(second), strict=False):
            if one == other:
                continue
            for x, y in zip(one, other, strict=False):
                if x != y:
                    return None if 2 in (x[0], y[0]) else x < y
            # conv and conv1: the one without a number comes first.
            longer = max(one, other, key=len)[min(len(one), len(other))]
            return None if longer[0] == 2 else len(one) < len(other)
        return None


def _counted(component: str) -> tuple[str, int | None]:
    """First word of a component and the number behind it."""
    found = re.match(r"([a-z]+)[^a-z0-9]*([0-9]+)", component.lower())
    return (found[1], int(found[2])) if found else ("", None)
