"""What is known of people or of single images beside their identity, in a CSV file."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import numpy.typing as npt

from nas_face.data.formats.pair_lines import read_text, refuse_line_breaks
from nas_face.errors import DataError, near_names

_KEYS = ("identity", "image")


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageGroups:
    """Which group each image belongs to.

    Args:
        attribute: what the groups differ in.
        names: of the groups, sorted.
        codes: index into `names` of each image, or -1 where it is not known, int64 `(N,)`.
        n_unlisted: images whose identity or name the file does not have.
        n_empty: images that the file has, without a value.
        n_unused: identities or images of the file that are not in the data.
    """

    attribute: str
    names: tuple[str, ...]
    codes: npt.NDArray[np.int64]
    n_unlisted: int
    n_empty: int
    n_unused: int


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AttributeTable:
    """Attributes by identity or by image.

    Args:
        path: the file.
        key: `identity` or `image`.
        attributes: their names.
        values: of each identity or image, one for each attribute; empty where it is not known.
    """

    path: Path
    key: str
    attributes: tuple[str, ...]
    values: dict[str, tuple[str, ...]]

    def groups(
        self, attribute: str, *, names: Sequence[str], identities: Sequence[str]
    ) -> ImageGroups:
        """Sort images into groups by an attribute.

        Args:
            attribute: its name.
            names: of each image.
            identities: of each image.

        Returns:
            The groups.

        Raises:
            DataError: there is no such attribute, or no image has a value of it.
            ValueError: `names` and `identities` differ in length.
        """
        if len(names) != len(identities):
            raise ValueError(f"{len(names)} names and {len(identities)} identities do not fit")
        if attribute not in self.attributes:
            raise DataError(
                f"{self.path}: there is no attribute {attribute!r}; "
                f"{near_names(attribute, self.attributes)}"
            )
        column = self.attributes.index(attribute)
        keys = identities if self.key == "identity" else names
        found = [self.values[key][column] if key in self.values else None for key in keys]
        group_names = sorted({value for value in found if value})
        if not group_names:
            raise DataError(
                f"{self.path}: none of {len(keys)} images has a value of {attribute!r}; "
                f"does its column {self.key!r} have names such as {next(iter(keys), '')!r}?"
            )
        code_of = {name: code for code, name in enumerate(group_names)}
        return ImageGroups(
            attribute=attribute,
            names=tuple(group_names),
            codes=np.array([code_of[value] if value else -1 for value in found], dtype=np.int64),
            n_unlisted=found.count(None),
            n_empty=found.count(""),
            n_unused=len(self.values.keys() - set(keys)),
        )


def read_attributes(path: Path) -> AttributeTable:
    """Read a CSV file whose first line is `identity,ATTRIBUTE,...` or `image,ATTRIBUTE,...`.

    Identities and images are named as the data set names them; values are any text, such as
    `female` or `20-29`, and empty where they are not known.

    Args:
        path: the file.

    Returns:
        The table.

    Raises:
        DataError: the file is missing or is not of that form, or has two lines that contradict
            each other.
    """
    reader = csv.reader(io.StringIO(read_text(path)), strict=True, skipinitialspace=True)
    values: dict[str, tuple[str, ...]] = {}
    try:
        key, *attributes = _header(path, next(reader, []))
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            refuse_line_breaks(path, reader.line_num, *filter(None, cells))
            _add(values, cells, len(attributes), key, f"{path}:{reader.line_num}")
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not valid CSV: {error}") from error
    if not values:
        raise DataError(f"{path}: there is no line after the header")
    return AttributeTable(path=path, key=key, attributes=tuple(attributes), values=values)


def _header(path: Path, cells: list[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    refuse_line_breaks(path, 1, *filter(None, header))
    if len(header) < 2 or header[0].lower() not in _KEYS or not all(header):
        raise DataError(
            f"{path}:1: the first line must be 'identity,ATTRIBUTE,...' or 'image,ATTRIBUTE,...', "
            f"got {','.join(cells)!r}"
        )
    if len(set(header)) < len(header):
        raise DataError(f"{path}:1: two columns have the same name, in {','.join(cells)!r}")
    return [header[0].lower(), *header[1:]]


def _add(
    values: dict[str, tuple[str, ...]], cells: list[str], n_attributes: int, key: str, where: str
) -> None:
    name, *own = cells
    if len(own) != n_attributes:
        raise DataError(f"{where}: a line has {n_attributes + 1} columns, got {len(cells)}")
    if not name:
        raise DataError(f"{where}: the {key} has no name")
    name = name.replace("\\", "/")
    if values.setdefault(name, tuple(own)) != tuple(own):
        raise DataError(f"{where}: {key} {name} has other values further up")
