"""What an import did, as a table."""

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from nas_face.study.importing.job import Imported


def import_table(imported: "Imported", *, every_layer: bool) -> Table:
    """Where the weights come from, by stage or layer by layer."""
    table = Table(title=f"Weights of {imported.network}")
    if every_layer:
        for name in ("layer", "in the file", "shapes"):
            table.add_column(name, overflow="fold")
        for row in imported.rows:
            name = row.name if row.name is not None else "folded into the layer before"
            table.add_row(row.path, name, row.shapes)
        return table
    for name in ("part", "layers", "folded", "numbers", "first in the file", "last in the file"):
        table.add_column(
            name, justify="right" if name in ("layers", "folded", "numbers") else "left"
        )
    parts: dict[str, list[int]] = {}
    for at, row in enumerate(imported.rows):
        parts.setdefault(_part(row.path), []).append(at)
    for part, places in parts.items():
        rows = [imported.rows[at] for at in places]
        names = [row.name for row in rows if row.name is not None]
        table.add_row(
            part,
            f"{len(names):,}",
            f"{len(rows) - len(names):,}",
            f"{sum(row.params for row in rows):,}",
            names[0] if names else "",
            names[-1] if names else "",
        )
    return table


def _part(path: str) -> str:
    first, _, rest = path.partition(".")
    return f"{first}.{rest.partition('.')[0]}" if first == "stages" else first
