"""An interpreter of the few pickle opcodes that verification sets are made of; it runs no code.

Python's own `pickletools.genops` is no help against hostile files: it makes room for whatever a
length field claims before it looks how long the file is. Here lengths are checked first, and
images stay in the file.
"""

import mmap
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Final, final

from nas_face.data.formats.pickle_values import (
    MAX_WORD,
    Coding,
    Refused,
    Stretch,
    call,
    named,
    set_state,
)
from nas_face.errors import DataError

MAX_OPCODES = 2**21
"""A pickle with more of them is refused, so that memory has a bound (at most about 200 bytes an
opcode); the usual sets of 6000 pairs have 25,000 to 150,000."""

_MAX_NESTING = 16
_MAX_LINE = 256
_REMEDY = "a verification set is a pickle of (list of 2N encoded images, list of N booleans)"


def read_pickle(path: Path) -> object:
    """Interpret a file that holds one pickle, protocols 0 to 5, of Python 2 or 3.

    Args:
        path: the file.

    Returns:
        Lists, tuples, numbers and None as themselves; bytes, text and what NumPy pickles as in
        `pickle_values`.

    Raises:
        DataError: the file cannot be read, ends early or late, or has an opcode, a name or a call
            that no such file needs.
    """
    try:
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise DataError(f"{path}: the file is empty; {_REMEDY}")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Machine(path, data).run()
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


@final
class _Machine:
    """The pickle machine: a stack, marks in it, and a memo."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path = path
        self.data = data
        self.size = len(data)
        self.at = 0
        self.stack: list[object] = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}

    def run(self) -> object:
        start, code = 0, 0
        try:
            for _ in range(MAX_OPCODES):
                start = self.at
                if start >= self.size:
                    raise DataError(
                        f"{self.path}: the file ends at byte {start}, and its pickle does not; "
                        "it was cut short, fetch it anew"
                    )
                code = self.data[start]
                self.at += 1
                if code == _STOP:
                    return self.stop()
                act = _ACTS.get(code)
                if act is None:
                    raise Refused(
                        "no verification set needs it, and it may run code, which nas-face never "
                        f"does; {_REMEDY}"
                    )
                act(self)
        except Refused as refused:
            raise DataError(
                f"{self.path} at byte {start}: opcode {_opcode_name(code)}: {refused}"
            ) from refused
        raise DataError(
            f"{self.path} at byte {self.at}: more than {MAX_OPCODES:,} opcodes; {_REMEDY}"
        )

    def stop(self) -> object:
        if self.at != self.size:
            raise DataError(
                f"{self.path} at byte {self.at}: the pickle ends, and {self.size - self.at} bytes "
                "follow; it was damaged or joined, fetch it anew"
            )
        if len(self.stack) != 1 or self.marks:
            raise Refused(f"the pickle ends with {len(self.stack)} values, and one is needed")
        return self.stack[0]

    def take(self, length: int) -> int:
        """Step over some bytes that must be there; where they begin."""
        start = self.at
        if length > self.size - start:
            raise Refused(
                f"{length} bytes should follow, and the file has only {self.size - start} more; "
                "it was cut short or damaged"
            )
        self.at += length
        return start

    def number(self, n_bytes: int, *, signed: bool = False) -> int:
        start = self.take(n_bytes)
        return int.from_bytes(self.data[start : self.at], "little", signed=signed)

    def line(self) -> bytes:
        end = self.data.find(b"\n", self.at, self.at + _MAX_LINE)
        if end < 0:
            raise Refused(f"a line of at most {_MAX_LINE} bytes should follow")
        start, self.at = self.at, end + 1
        return self.data[start:end]

    def decimal(self) -> int:
        digits = self.line()
        if not 1 <= len(digits) <= 20 or not digits.lstrip(b"-").isdigit():
            raise Refused(f"a whole number should follow, got {digits[:20]!r}")
        try:
            return int(digits)
        except ValueError as error:
            raise Refused(f"a whole number should follow, got {digits[:20]!r}") from error

    def stretch(self, start: int, length: int, coding: Coding, *, is_text: bool) -> None:
        word = self.data[start : start + length] if length <= MAX_WORD else b""
        self.stack.append(Stretch(start, length, coding, is_text, word))

    def pop(self) -> object:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise Refused("it needs a value, and there is none")
        return self.stack.pop()

    def top(self) -> object:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise Refused("it needs a value, and there is none")
        return self.stack[-1]

    def since_mark(self) -> list[object]:
        if not self.marks:
            raise Refused("it needs a mark, and there is none")
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def extend(self, values: list[object]) -> None:
        target = self.top()
        if type(target) is not list:
            raise Refused("only a list can be appended to")
        target.extend(values)

    def mark(self) -> None:
        if len(self.marks) == _MAX_NESTING:
            raise Refused(f"more than {_MAX_NESTING} marks are open")
        self.marks.append(len(self.stack))

    def put(self, key: int) -> None:
        self.memo[key] = self.top()

    def get(self, key: int) -> None:
        if key not in self.memo:
            raise Refused(f"nothing was put under number {key}")
        self.stack.append(self.memo[key])

    def protocol(self) -> None:
        protocol = self.number(1)
        if protocol > 5:
            raise Refused(f"protocols 0 to 5 are known, got {protocol}")

    def frame(self) -> None:
        length = self.number(8)
        self.take(length)
        self.at -= length

    def integer(self) -> None:
        end = self.data[self.at : self.at + 3]
        if end in (b"00\n", b"01\n"):
            self.at += 3
            self.stack.append(end == b"01\n")
        else:
            self.stack.append(self.decimal())

    def quoted(self, coding: Coding, *, is_text: bool) -> None:
        end = self.data.find(b"\n", self.at)
        if end < 0:
            raise Refused("its line has no end; the file was cut short or damaged")
        start, self.at = self.at, end + 1
        self.stretch(start, end - start, coding, is_text=is_text)

    def sized(self, n_bytes: int, coding: Coding, *, is_text: bool) -> None:
        length = self.number(n_bytes)
        self.stretch(self.take(length), length, coding, is_text=is_text)

    def signed_sized(self) -> None:
        length = self.number(4, signed=True)
        if length < 0:
            raise Refused(f"a length must not be negative, got {length}")
        self.stretch(self.take(length), length, "raw", is_text=False)

    def tuple_of(self, n_values: int) -> None:
        values = [self.pop() for _ in range(n_values)]
        self.stack.append(tuple(reversed(values)))

    def global_lines(self) -> None:
        self.stack.append(named(f"{_text(self.line())}.{_text(self.line())}"))

    def global_stack(self) -> None:
        name, module = self.pop(), self.pop()
        if not (isinstance(name, Stretch) and isinstance(module, Stretch)):
            raise Refused("a module and a name should come before it")
        self.stack.append(named(f"{_text(module.word)}.{_text(name.word)}"))

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        self.stack.append(call(function, arguments))

    def build(self) -> None:
        state = self.pop()
        set_state(self.top(), state)


def _text(name: bytes) -> str:
    return name.decode("ascii", errors="backslashreplace")


def _opcode_name(code: int) -> str:
    names = (known.name for known in pickletools.opcodes if known.code == chr(code))
    return next(names, f"0x{code:02x}, which is none")


_STOP: Final = ord(".")

_ACTS: Final[dict[int, Callable[[_Machine], object]]] = {
    ord(code): act
    for code, act in {
        "(": _Machine.mark,
        "]": lambda m: m.stack.append([]),
        "l": lambda m: m.stack.append(m.since_mark()),
        ")": lambda m: m.stack.append(()),
        "t": lambda m: m.stack.append(tuple(m.since_mark())),
        "\x85": lambda m: m.tuple_of(1),
        "\x86": lambda m: m.tuple_of(2),
        "\x87": lambda m: m.tuple_of(3),
        "a": lambda m: m.extend([m.pop()]),
        "e": lambda m: m.extend(m.since_mark()),
        "p": lambda m: m.put(m.decimal()),
        "q": lambda m: m.put(m.number(1)),
        "r": lambda m: m.put(m.number(4)),
        "\x94": lambda m: m.put(len(m.memo)),
        "g": lambda m: m.get(m.decimal()),
        "h": lambda m: m.get(m.number(1)),
        "j": lambda m: m.get(m.number(4)),
        "\x80": _Machine.protocol,
        "\x95": _Machine.frame,
        "N": lambda m: m.stack.append(None),
        "\x88": lambda m: m.stack.append(True),
        "\x89": lambda m: m.stack.append(False),
        "I": _Machine.integer,
        "J": lambda m: m.stack.append(m.number(4, signed=True)),
        "K": lambda m: m.stack.append(m.number(1)),
        "M": lambda m: m.stack.append(m.number(2)),
        "S": lambda m: m.quoted("repr", is_text=False),
        "T": _Machine.signed_sized,
        "U": lambda m: m.sized(1, "raw", is_text=False),
        "C": lambda m: m.sized(1, "raw", is_text=False),
        "B": lambda m: m.sized(4, "raw", is_text=False),
        "\x8e": lambda m: m.sized(8, "raw", is_text=False),
        "\x96": lambda m: m.sized(8, "raw", is_text=False),
        "V": lambda m: m.quoted("raw-unicode-escape", is_text=True),
        "X": lambda m: m.sized(4, "utf-8", is_text=True),
        "\x8c": lambda m: m.sized(1, "utf-8", is_text=True),
        "\x8d": lambda m: m.sized(8, "utf-8", is_text=True),
        "c": _Machine.global_lines,
        "\x93": _Machine.global_stack,
        "R": _Machine.reduce,
        "b": _Machine.build,
    }.items()
}
