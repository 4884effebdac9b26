"""What the pickle of a verification set may hold, and the calls that such pickles spell out.

No call is made: each is matched as a pattern, and the value that it would make is written down.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, final

Coding = Literal["raw", "repr", "utf-8", "raw-unicode-escape"]
"""How bytes stand in the file: as they are, as Python 2 shows a string, or as text of which each
character is a byte, in one of two encodings."""

MAX_WORD = 64
"""No name or code that is matched is longer, in bytes."""

_ESCAPES = {b"\\": b"\\", b"'": b"'", b'"': b'"', b"n": b"\n", b"r": b"\r", b"t": b"\t"}


class Refused(Exception):
    """A value that has no place here; caught where the file's name and the offset are known."""


@final
@dataclass(frozen=True, slots=True)
class Stretch:
    """Bytes or text that stays in the file.

    Args:
        offset: first byte.
        length: number of bytes in the file.
        coding: how it is written.
        is_text: text, and not yet bytes.
        word: the whole where it is short, as it stands in the file; else empty.
    """

    offset: int
    length: int
    coding: Coding
    is_text: bool
    word: bytes


@final
@dataclass(frozen=True, slots=True)
class Name:
    """A function or class that a pickle names.

    Args:
        name: with its module.
    """

    name: str


@final
@dataclass(slots=True)
class DataType:
    """NumPy's type of an array.

    Args:
        code: `u1` or `b1`.
    """

    code: str


@final
@dataclass(slots=True)
class Array:
    """NumPy's array, at first empty.

    Args:
        code: of its type.
        content: its elements; None until they were stated.
    """

    code: str = ""
    content: Stretch | None = None


def decode(data: bytes, coding: Coding) -> bytes:
    """The bytes that a stretch of a file stands for.

    Raises:
        Refused: it is not written in that coding.
    """
    if coding == "raw":
        return data
    if coding == "repr":
        return _unquote(data)
    try:
        return data.decode(coding).encode("latin-1")
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise Refused(f"text that should stand for bytes does not ({error.reason})") from error


def named(name: str) -> Name:
    """A function or class, if it is one of the few.

    Raises:
        Refused: it is another.
    """
    if name not in _CALLS and name not in _CLASSES:
        raise Refused(
            f"it asks for {name!r}: reading this file with pickle would run code, and nas-face "
            "runs none"
        )
    return Name(name)


def call(function: object, arguments: object) -> object:
    """What a call would return.

    Raises:
        Refused: the call is not one of the few.
    """
    if not isinstance(function, Name) or function.name not in _CALLS:
        raise Refused(
            "it calls what is not a known function: reading this file with pickle would run "
            "code, and nas-face runs none"
        )
    if type(arguments) is not tuple:
        raise Refused(f"{function.name} is called without a tuple of arguments")
    return _CALLS[function.name](arguments)


def set_state(target: object, state: object) -> None:
    """Complete an array or a type, as NumPy's pickles do.

    Raises:
        Refused: it is another object, or another state.
    """
    if type(state) is not tuple or not isinstance(target, DataType | Array):
        raise Refused("only NumPy's arrays and types are given a state here")
    if isinstance(target, DataType):
        if len(state) < 2 or _word(state[1]) != "|":
            raise Refused("a type of single bytes has no byte order but '|'")
        return
    if len(state) != 5 or state[3] not in (False, 0) or not isinstance(state[2], DataType):
        raise Refused("the state of an array must be its version, shape, type, order and bytes")
    _fill(target, state[4], state[2], state[1])


def _unquote(data: bytes) -> bytes:
    if len(data) < 2 or data[:1] not in (b"'", b'"') or data[-1:] != data[:1]:
        raise Refused("a string must stand in quotes")

    def byte(match: re.Match[bytes]) -> bytes:
        if match[1]:
            return bytes.fromhex(match[1].decode("ascii"))
        if match[2] not in _ESCAPES:
            raise Refused(f"a string has the escape {match[0]!r}, which Python never writes")
        return _ESCAPES[match[2]]

    return re.sub(rb"\\(?:x([0-9a-fA-F]{2})|(.?))", byte, data[1:-1], flags=re.DOTALL)


def _word(value: object) -> str | None:
    """A short text or string, such as the name of a codec."""
    if not isinstance(value, Stretch) or not value.word:
        return None
    try:
        return decode(value.word, value.coding).decode("ascii")
    except (Refused, UnicodeError):
        return None


def _encode(arguments: tuple[object, ...]) -> Stretch:
    """`_codecs.encode(text, 'latin1')`: how Python 3 writes bytes for Python 2."""
    if len(arguments) == 2 and _word(arguments[1]) in ("latin1", "latin-1"):
        text = arguments[0]
        if isinstance(text, Stretch) and text.is_text:
            return Stretch(text.offset, text.length, text.coding, False, text.word)
    raise Refused("_codecs.encode must be given text and 'latin1'")


def _data_type(arguments: tuple[object, ...]) -> DataType:
    code = _word(arguments[0]) if arguments else None
    if code not in ("u1", "b1"):
        raise Refused("NumPy's type must be 'u1' (encoded images) or 'b1' (booleans)")
    return DataType(code)


def _reconstruct(arguments: tuple[object, ...]) -> Array:
    if len(arguments) != 3 or not _is_name(arguments[0], "numpy.ndarray"):
        raise Refused("NumPy's _reconstruct must make an ndarray")
    return Array()


def _from_buffer(arguments: tuple[object, ...]) -> Array:
    array = Array()
    if len(arguments) != 4 or not isinstance(arguments[1], DataType):
        raise Refused("NumPy's _frombuffer must be given bytes, a type, a shape and an order")
    _fill(array, arguments[0], arguments[1], arguments[2])
    return array


def _scalar(arguments: tuple[object, ...]) -> bool:
    if len(arguments) == 2 and isinstance(arguments[0], DataType) and arguments[0].code == "b1":
        content = arguments[1]
        if isinstance(content, Stretch) and not content.is_text and content.word:
            data = decode(content.word, content.coding)
            if data in (b"\0", b"\1"):
                return data == b"\1"
    raise Refused("NumPy's scalar must be a boolean")


def _fill(array: Array, content: object, data_type: DataType, shape: object) -> None:
    if not isinstance(content, Stretch) or content.is_text:
        raise Refused("an array's elements must be bytes")
    if type(shape) is not tuple or len(shape) not in (1, 2) or type(shape[0]) is not int:
        raise Refused("an array must have one axis, or a second one of length 1")
    if len(shape) == 2 and not (type(shape[1]) is int and 1 in (shape[0], shape[1])):
        raise Refused("an array must have one axis, or a second one of length 1")
    n_elements = shape[0] if len(shape) == 1 else shape[0] * shape[1]
    if content.coding == "raw" and content.length != n_elements:
        raise Refused(f"an array of {n_elements} elements has {content.length} bytes")
    array.code, array.content = data_type.code, content


def _is_name(value: object, name: str) -> bool:
    return isinstance(value, Name) and value.name == name


_CLASSES: Final = frozenset({"numpy.ndarray"})

_CALLS: Final[dict[str, Callable[[tuple[object, ...]], object]]] = {
    "_codecs.encode": _encode,
    "numpy.dtype": _data_type,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _from_buffer,
    "numpy._core.numeric._frombuffer": _from_buffer,
}
