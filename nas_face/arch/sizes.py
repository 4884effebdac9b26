"""Arithmetic on sizes that plain operators cannot do where symbols stand for numbers (see
`nas_face.arch.tracing`)."""


def largest(*sizes: int) -> int:
    """The largest of some sizes, none of them negative."""
    for size in sizes:
        if not isinstance(size, int):
            return size.largest(sizes)
    return max(sizes)


def floor_share(ratio: float, size: int) -> int:
    """`ratio` x `size`, cut to a whole number."""
    if not isinstance(size, int):
        return size.floor_share(ratio)
    return int(ratio * size)
