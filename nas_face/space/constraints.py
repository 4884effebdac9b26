"""Constraints between choices: one line of text each, checked when a space is read.

`stages.1.out_channels >= stages.0.out_channels`, `shared.act != prelu or head == pooled_linear`,
`head.norm_aware.tail_channels >= 256 if shared.act in [relu, silu]`. A line may hold paths of
choices, numbers, words (quoted or plain), `true`, `false` and `null`, comparisons and `in`, `and`,
`or`, `not`, `+ - * / // %`, parentheses, and one `if` that says when the rest holds. A line that
mentions a choice which is not active in a design says nothing about it. Nothing is ever executed.
"""

import ast
import operator
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, final

from nas_face.errors import ArchError, SpaceError, near_names
from nas_face.space.template import Choice, Label, Reference, Template, leaves, shown

MAX_LENGTH = 1000
MAX_DEPTH = 30
KEYWORDS = frozenset({"and", "or", "not", "in", "is", "if", "else"})
VALUES: dict[str, Label] = {
    "null": None, "None": None,
    "true": True, "True": True, "false": False, "False": False,
}  # fmt: skip
NUMBER, WORD, TRUTH, NOTHING = "a number", "a word", "true or false", "null"
_TOKEN = re.compile(r"""(?<![\w.])[A-Za-z_]\w*(?:\.\w+)*|"[^"\n]*"|'[^'\n]*'""")

ORDER: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
DIVISIONS = (ast.Div, ast.FloorDiv, ast.Mod)


class RuleBroken(ArchError):
    """The choices break a rule of their space: a constraint, or what its target lacks."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """One rule between choices.

    Attributes:
        rule: as it stands in the file.
        because: why, for the one who breaks it; may be empty.
        paths: choices that it mentions, in order.
        tree: the rule taken apart.
        names: what the names in `tree` stand for: a path, or a word by itself.
    """

    rule: str
    because: str
    paths: tuple[str, ...]
    tree: ast.expr = field(repr=False, compare=False)
    names: "Mapping[str, ChoiceName | Word]" = field(repr=False, compare=False)

    def holds(self, choices: Mapping[str, Label]) -> bool:
        """Whether a design obeys; it does where a choice that is mentioned is not active."""
        if any(path not in choices for path in self.paths):
            return True
        return bool(_value(self.tree, self.names, choices))

    def require(self, choices: Mapping[str, Label]) -> None:
        """Check a design.

        Raises:
            RuleBroken: it does not obey; the message has the rule and the values.
        """
        if self.holds(choices):
            return
        values = ", ".join(f"{path} is {shown(choices[path])}" for path in self.paths)
        why = f" ({self.because})" if self.because else ""
        raise RuleBroken(f"constraint {self.rule!r} is broken: {values}{why}")


@final
@dataclass(frozen=True, slots=True)
class ChoiceName:
    """A name in a rule that stands for a choice."""

    path: str


@final
@dataclass(frozen=True, slots=True)
class Word:
    """A name in a rule that stands for itself: a label that is a word."""

    word: Label


def parse_constraints(
    raw: object, choices: Mapping[str, Choice], template: Template, shared: Mapping[str, Template]
) -> tuple[Constraint, ...]:
    """Constraints of what YAML gave: a list of lines, or of `{rule: line, because: text}`.

    Args:
        raw: the list.
        choices: every choice of the space by path.
        template: the space, to explain paths that are no choices.
        shared: its shared choices.

    Raises:
        SpaceError: a line cannot be read, names what does not exist, or compares what cannot be
            compared.
    """
    if not isinstance(raw, list):
        raise SpaceError(f"constraints: expected a list of lines, got {raw!r}")
    fixed = dict(leaves(template, ""))
    constraints = []
    for number, each in enumerate(raw):
        where = f"constraints.{number}"
        entry = each if isinstance(each, dict) else {"rule": each}
        for key in entry:
            if key not in ("rule", "because"):
                raise SpaceError(f"{where}: {key!r} is not a known key; known: because, rule")
        rule, because = entry.get("rule"), entry.get("because", "")
        if not isinstance(rule, str) or not isinstance(because, str):
            raise SpaceError(
                f"{where}: expected a line such as "
                f"'stages.1.out_channels >= stages.0.out_channels', got {each!r}"
            )
        rule, because = " ".join(rule.split()), " ".join(because.split())
        constraints.append(_Reader(rule, where, choices, fixed).read(because))
    return tuple(constraints)


@final
class _Reader:
    """Takes one line apart and checks every part of it."""

    def __init__(
        self, rule: str, where: str, choices: Mapping[str, Choice], fixed: Mapping[str, Template]
    ) -> None:
        self._rule = rule
        self._where = where
        self._choices = choices
        self._fixed = fixed
        self._names: dict[str, ChoiceName | Word] = {}

    def read(self, because: str) -> Constraint:
        """The constraint."""
        tree = self._parsed()
        if _depth(tree) > MAX_DEPTH:
            self._refuse("is nested too deeply")
        if self._kinds(tree) != {TRUTH}:
            self._refuse("is neither true nor false; write a comparison")
        paths = dict.fromkeys(
            stands.path for stands in self._names.values() if isinstance(stands, ChoiceName)
        )
        if not paths:
            self._refuse("mentions no choice")
        return Constraint(
            rule=self._rule, because=because, paths=tuple(paths), tree=tree, names=self._names
        )

    def _refuse(self, reason: str) -> NoReturn:
        raise SpaceError(f"{self._where}: {self._rule[:200]!r} {reason}")

    def _parsed(self) -> ast.expr:
        if len(self._rule) > MAX_LENGTH:
            self._refuse(f"is longer than {MAX_LENGTH} characters")
        words: list[str] = []

        def stand_in(match: re.Match[str]) -> str:
            words.append(match[0])
            if match[0] in KEYWORDS:
                return match[0]
            if match[0] in VALUES:
                return repr(VALUES[match[0]])
            name = f"_{len(self._names)}"
            self._names[name] = self._meaning(match[0])
            return name

        text = _TOKEN.sub(stand_in, self._rule)
        if "if" in words and "else" not in words:
            text += " else True"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what Python thinks of the style is not of use
                return ast.parse(text, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            self._refuse("cannot be read as a comparison of choices")

    def _meaning(self, text: str) -> "ChoiceName | Word":
        if text[0] in "\"'":
            return Word(text[1:-1])
        if text in self._choices:
            return ChoiceName(text)
        labels = {label for choice in self._choices.values() for label in choice.labels}
        if text in labels:
            return Word(text)
        if text in self._fixed:
            there = self._fixed[text]
            if isinstance(there, Reference):
                self._refuse(f"names {text}, which is a shared choice: write shared.{there.name}")
            self._refuse(f"names {text}, which is no choice but always {shown(there)}: write it")
        self._refuse(f"names no choice or option: {text}; {near_names(text, self._choices)}")

    def _kinds(self, node: ast.expr) -> set[str]:
        """What a part of the line can be, checked to make sense."""
        match node:
            case ast.Constant(value=bool()):
                return {TRUTH}
            case ast.Constant(value=int() | float()):
                return {NUMBER}
            case ast.Constant(value=None):
                return {NOTHING}
            case ast.Name(id=name) if name in self._names:
                return {_kind(label) for label in self._labels(node)}
            case ast.BoolOp():
                self._need(TRUTH, *node.values)
                return {TRUTH}
            case ast.UnaryOp(op=ast.Not()):
                self._need(TRUTH, node.operand)
                return {TRUTH}
            case ast.UnaryOp(op=ast.USub()):
                self._need(NUMBER, node.operand)
                return {NUMBER}
            case ast.BinOp() if type(node.op) in ARITHMETIC:
                self._need(NUMBER, node.left, node.right)
                if isinstance(node.op, DIVISIONS) and not self._never_zero(node.right):
                    self._refuse("divides by what may be 0; divide by a number, or by a choice")
                return {NUMBER}
            case ast.IfExp():
                self._need(TRUTH, node.test, node.body, node.orelse)
                return {TRUTH}
            case ast.Compare():
                operands = [node.left, *node.comparators]
                for left, op, right in zip(operands, node.ops, operands[1:], strict=False):
                    self._check_comparison(left, op, right)
                return {TRUTH}
            case _:
                self._refuse("cannot be read as a comparison of choices")

    def _need(self, kind: str, *nodes: ast.expr) -> None:
        for node in nodes:
            found = self._kinds(node) - {kind}
            if found:
                self._refuse(f"needs {kind} where {self._text(node)} may be {found.pop()}")

    def _check_comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> None:
        if type(op) in ORDER:
            self._need(NUMBER, left, right)
        elif isinstance(op, ast.Eq | ast.NotEq):
            self._check_equality(left, right)
        elif isinstance(op, ast.In | ast.NotIn) and isinstance(
            right, ast.Tuple | ast.List | ast.Set
        ):
            for each in right.elts:
                self._check_equality(left, each)
        elif isinstance(op, ast.In | ast.NotIn):
            self._refuse("needs a list behind 'in', such as [relu, silu]")
        else:
            self._refuse("cannot be read; compare with ==, !=, <, <=, >, >= or in")

    def _check_equality(self, left: ast.expr, right: ast.expr) -> None:
        if not self._kinds(left) & self._kinds(right):
            self._refuse(
                f"compares {self._text(left)} with {self._text(right)}, which are never alike"
            )
        for one, other in ((left, right), (right, left)):
            if not isinstance(one, ast.Name) or isinstance(self._names[one.id], Word):
                continue
            labels = self._labels(one)
            wanted = [each for each in self._labels(other) if each is not ...]
            if wanted and not any(each in labels for each in wanted):
                self._refuse(
                    f"compares {self._text(one)} with {self._text(other)}, which is none of its "
                    f"options; known: {', '.join(map(shown, labels))}"
                )

    def _labels(self, node: ast.expr) -> tuple[Any, ...]:
        """What a name or a constant can be; nothing known of anything else."""
        match node:
            case ast.Constant():
                return (node.value,)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return (-value,)
            case ast.Name():
                stands = self._names[node.id]
                if isinstance(stands, Word):
                    return (stands.word,)
                return self._choices[stands.path].labels
        return ()

    def _never_zero(self, node: ast.expr) -> bool:
        labels = self._labels(node)
        return bool(labels) and 0 not in labels

    def _text(self, node: ast.expr) -> str:
        match node:
            case ast.Name():
                stands = self._names[node.id]
                return stands.path if isinstance(stands, ChoiceName) else repr(stands.word)
            case ast.Constant():
                return shown(node.value)
        return "a part of it"


def _depth(tree: ast.AST) -> int:
    depth, level = 0, [tree]
    while level:
        depth, level = depth + 1, [each for node in level for each in ast.iter_child_nodes(node)]
    return depth


def _kind(label: object) -> str:
    match label:
        case bool():
            return TRUTH
        case int() | float():
            return NUMBER
        case str():
            return WORD
    return NOTHING


def _value(
    node: ast.expr, names: "Mapping[str, ChoiceName | Word]", choices: Mapping[str, Label]
) -> Any:
    """Value of a part of a line whose choices are all active."""

    def of(inner: ast.expr) -> Any:
        return _value(inner, names, choices)

    match node:
        case ast.Name():
            stands = names[node.id]
            return choices[stands.path] if isinstance(stands, ChoiceName) else stands.word
        case ast.Constant():
            return node.value
        case ast.BoolOp(op=ast.And()):
            return all(of(each) for each in node.values)
        case ast.BoolOp():
            return any(of(each) for each in node.values)
        case ast.UnaryOp(op=ast.Not()):
            return not of(node.operand)
        case ast.UnaryOp():
            return -of(node.operand)
        case ast.BinOp():
            return ARITHMETIC[type(node.op)](of(node.left), of(node.right))
        case ast.IfExp():
            return of(node.body) if of(node.test) else of(node.orelse)
        case ast.Compare():
            left = of(node.left)
            for op, comparator in zip(node.ops, node.comparators, strict=True):
                if isinstance(op, ast.In | ast.NotIn) and isinstance(
                    comparator, ast.Tuple | ast.List | ast.Set
                ):
                    found = any(alike(left, of(each)) for each in comparator.elts)
                    if found != isinstance(op, ast.In):
                        return False
                    continue
                right = of(comparator)
                if not _compare(op, left, right):
                    return False
                left = right
            return True
    raise AssertionError(f"{ast.dump(node)} was not refused on load")


def _compare(op: ast.cmpop, left: Any, right: Any) -> bool:
    if isinstance(op, ast.Eq | ast.NotEq):
        return alike(left, right) == isinstance(op, ast.Eq)
    return ORDER[type(op)](left, right)


def alike(left: Any, right: Any) -> bool:
    """Equality in which `true` is not 1."""
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)
