"""Cost rules as compiled functions: a block is lowered and measured once with symbols in place of
its numbers, and what its rules did to them becomes straight Python code.

The code is that of the rules, so it cannot drift from them, and it is some ten times faster than
going through layers. Where a rule looks at a value (is the width a multiple of the groups? are
both widths equal?), the answer becomes a condition of the code: under other answers it gives
nothing, and the block is traced again.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast, final

from nas_face.arch.cost import Cost, Shape
from nas_face.errors import ShapeError

Numbers: TypeAlias = tuple[int, int, int, int, int, int, int]
"""Channels, height and width of the output; madds, params, folded params, peak activations."""

Function: TypeAlias = Callable[..., Numbers | str | None]
"""From numbers of a block and of its input to its cost, to a message where it cannot take that
input, or to nothing where the code does not hold."""

INFIX: Final = {"+", "-", "*", "//", "%", "<", "<=", "==", "!="}


@final
class NotTraceable(Exception):
    """A rule did something to a symbol that code cannot repeat.

    Attributes:
        name: of the input that has to be a plain number, as the length of a loop has to; none
            where that would not help.
    """

    def __init__(self, name: str | None) -> None:
        super().__init__(f"{name or 'an intermediate value'} must be a plain number")
        self.name = name


@final
class _Tape:
    """Operations in the order in which they were first met, each kept once."""

    def __init__(self) -> None:
        self.symbols: dict[tuple[object, ...], Symbol] = {}
        self.guards: dict[Symbol, bool] = {}
        self.order: list[Symbol] = []

    def symbol(self, value: int, operator: str, operands: tuple["Symbol | int", ...]) -> "Symbol":
        """The symbol of an operation: the one that is there, or a new one."""
        key = (operator, *(id(each) if isinstance(each, Symbol) else each for each in operands))
        if key not in self.symbols:
            self.symbols[key] = Symbol(self, value, operator, operands)
            self.order.append(self.symbols[key])
        return self.symbols[key]


@final
class Symbol:
    """A whole number that remembers how it came about. Hashed by identity, compared by value."""

    __slots__ = ("_tape", "operands", "operator", "value")

    def __init__(
        self, tape: _Tape, value: int, operator: str, operands: tuple["Symbol | int", ...]
    ) -> None:
        self._tape = tape
        self.value = value
        self.operator = operator
        self.operands = operands

    def _with(self, other: object, operator: str, *, swapped: bool = False) -> Any:
        if isinstance(other, bool) or not isinstance(other, int | Symbol):
            raise NotTraceable(None)
        mine, theirs = self.value, other.value if isinstance(other, Symbol) else other
        left, right = (theirs, mine) if swapped else (mine, theirs)
        match operator:
            case "+":
                value = left + right
            case "-":
                value = left - right
            case "*":
                value = left * right
            case "//":
                value = left // right
            case "%":
                value = left % right
            case "<":
                value = left < right
            case "<=":
                value = left <= right
            case _:
                value = left == right
        operands = (other, self) if swapped else (self, other)
        return self._tape.symbol(int(value), operator, operands)

    def _plus(self, constant: int) -> "Symbol":
        """The symbol plus a constant, those that were added before taken together with it."""
        if self.operator == "+" and isinstance(self.operands[1], int):
            (base, before) = self.operands
            assert isinstance(base, Symbol)
            return base._plus(before + constant)
        return (
            self
            if constant == 0
            else self._tape.symbol(self.value + constant, "+", (self, constant))
        )

    def __add__(self, other: object) -> Any:
        return self._plus(other) if isinstance(other, int) else self._with(other, "+")

    def __radd__(self, other: object) -> Any:
        return self + other

    def __sub__(self, other: object) -> Any:
        if isinstance(other, int):
            return self._plus(-other)
        if other is self:
            return 0
        if self.operator == "+" and any(other is each for each in self.operands):
            return self.operands[1] if self.operands[0] is other else self.operands[0]
        return self._with(other, "-")

    def __neg__(self) -> Any:
        return self._with(0, "-", swapped=True)

    def __rsub__(self, other: object) -> Any:
        return self._with(other, "-", swapped=True)

    def __mul__(self, other: object) -> Any:
        if isinstance(other, int) and other in (0, 1):
            return self if other else 0
        return self._with(other, "*")

    def __rmul__(self, other: object) -> Any:
        return self * other

    def __floordiv__(self, other: object) -> Any:
        if other is self:
            return 1
        return self if isinstance(other, int) and other == 1 else self._with(other, "//")

    def __rfloordiv__(self, other: object) -> Any:
        return self._with(other, "//", swapped=True)

    def __mod__(self, other: object) -> Any:
        if other is self or (isinstance(other, int) and other == 1):
            return 0
        return self._with(other, "%")

    def __rmod__(self, other: object) -> Any:
        return self._with(other, "%", swapped=True)

    def __lt__(self, other: object) -> bool:
        return bool(self._with(other, "<"))

    def __le__(self, other: object) -> bool:
        return bool(self._with(other, "<="))

    def __gt__(self, other: object) -> bool:
        return not self <= other

    def __ge__(self, other: object) -> bool:
        return not self < other

    def __eq__(self, other: object) -> bool:
        if other is self:
            return True
        if isinstance(other, bool) or not isinstance(other, int | Symbol):
            return False
        return bool(self._with(other, "=="))

    def __hash__(self) -> int:
        return id(self)

    def __bool__(self) -> bool:
        self._tape.guards.setdefault(self, bool(self.value))
        return bool(self.value)

    def __index__(self) -> int:
        raise NotTraceable(self.name)

    def __str__(self) -> str:
        return str(self.value)

    def __format__(self, spec: str) -> str:
        return format(self.value, spec)

    __repr__ = __str__

    @property
    def name(self) -> str | None:
        """Name of an input; none of what was made of inputs."""
        return self.operator if not self.operands else None

    def largest(self, sizes: Sequence["Symbol | int"]) -> "Symbol | int":
        """The largest of some values, none of them negative, as `nas_face.arch.cost.largest` asks
        for it."""
        parts: list[Symbol | int] = []
        for size in sizes:
            nested = isinstance(size, Symbol) and size.operator == "max"
            parts += size.operands if isinstance(size, Symbol) and nested else (size,)
        distinct = tuple(each for each in dict.fromkeys(parts) if isinstance(each, Symbol) or each)
        if len(distinct) == 1:
            return distinct[0]
        value = max(each.value if isinstance(each, Symbol) else each for each in distinct)
        return self._tape.symbol(value, "max", distinct)

    def floor_share(self, ratio: float) -> "Symbol":
        """A ratio of the value, cut to a whole number, for `nas_face.arch.sizes`."""
        return self._tape.symbol(int(ratio * self.value), f"int({ratio!r} *", (self,))


def trace(
    measure: Callable[[Mapping[str, Any], Shape], tuple[Shape, Cost]],
    names: Sequence[str],
    values: Sequence[int],
    x: Shape,
) -> Function:
    """Code for what `measure` does, valid wherever its questions get the same answers.

    Args:
        measure: from numbers by name and an input shape to output shape and cost.
        names: of the numbers, in the order in which the code takes them; channels, height and
            width of the input come first.
        values: of the numbers at the point where rules are followed.
        x: the input shape at that point.

    Raises:
        NotTraceable: a rule needs the plain value of a symbol.
        ArchError: the block cannot be made at all, whatever its input.
    """
    tape = _Tape()
    inputs = ("in_channels", "in_height", "in_width", *names)
    symbols = [
        tape.symbol(value, name, ()) for name, value in zip(inputs, (*x, *values), strict=True)
    ]
    numbers = dict(zip(names, symbols[3:], strict=True))
    try:
        shape, cost = measure(numbers, Shape(*cast(Any, symbols[:3])))
    except ShapeError as failure:
        return _compiled(tape, inputs, repr(str(failure)), ())
    result = (
        *shape,
        cost.madds,
        cost.params,
        cost.folded_params,
        cost.peak_activations,
    )
    return _compiled(tape, inputs, None, result)


def _compiled(
    tape: _Tape, inputs: Sequence[str], message: str | None, result: Sequence[Symbol | int]
) -> Function:
    needed: set[Symbol] = set()
    pending = [each for each in (*tape.guards, *result) if isinstance(each, Symbol)]
    while pending:
        each = pending.pop()
        if each not in needed:
            needed.add(each)
            pending += [operand for operand in each.operands if isinstance(operand, Symbol)]
    words: dict[Symbol, str] = {}
    lines = [f"def cost({', '.join(inputs)}):"]

    def word(each: Symbol | int) -> str:
        return words[each] if isinstance(each, Symbol) else str(each)

    for symbol in tape.order:
        if symbol not in needed:
            continue
        if not symbol.operands:
            words[symbol] = symbol.operator
            continue
        operands = [word(each) for each in symbol.operands]
        if symbol.operator in INFIX:
            text = f" {symbol.operator} ".join(operands)
        elif symbol.operator.startswith("int("):
            text = f"{symbol.operator} {operands[0]})"
        elif len(operands) == 2:
            text = "{0} if {0} > {1} else {1}".format(*operands)
        else:
            text = f"{symbol.operator}({', '.join(operands)})"
        guard = tape.guards.get(symbol)
        if symbol.operator in ("<", "<=", "=="):  # only ever asked, never calculated with
            lines.append(f"    if {'not ' if guard else ''}{text}: return None")
            continue
        words[symbol] = f"v{len(words)}"
        lines.append(f"    {words[symbol]} = {text}")
        if guard is not None:
            lines.append(f"    if {'not ' if guard else ''}{words[symbol]}: return None")
    lines.append(f"    return {message or '(' + ', '.join(map(word, result)) + ')'}")
    namespace: dict[str, Any] = {"__builtins__": {"int": int, "max": max}}
    exec(compile("\n".join(lines), "<traced cost>", "exec"), namespace)
    function: Function = namespace["cost"]
    return function
