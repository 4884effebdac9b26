"""A space with fewer options."""

import ast
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from nas_face.errors import SpaceError
from nas_face.space.constraints import ChoiceName, Constraint, alike, parse_constraints
from nas_face.space.space import INPUT_SHAPE, SearchSpace
from nas_face.space.template import Choice, Label, Template, keep, shown


def restricted(space: SearchSpace, kept: Callable[[str, Label], bool]) -> SearchSpace:
    """The space with some of its options only.

    Rules between choices that are gone go too; those that mention options that are gone are
    rewritten so that they say the same of what is left.

    Args:
        space: the space.
        kept: whether an option, by the path of its choice and its label, stays.

    Raises:
        SpaceError: no design is left that obeys the rules.
    """
    template = cast(dict[str, Template], keep(space.template, "", kept))
    shape = template.get(INPUT_SHAPE, space.input_shape)
    while isinstance(shape, Choice):
        shape = next(iter(shape.options.values()))
    smaller = dataclasses.replace(
        space,
        template=template,
        shared={name: keep(each, f"shared.{name}", kept) for name, each in space.shared.items()},
        input_shape=cast(tuple[int, int, int], shape),
        constraints=(),
    )
    choices = smaller.choices()
    rules = (
        _rule(each, choices, smaller)
        for each in space.constraints
        if all(path in choices for path in each.paths)
    )
    smaller = dataclasses.replace(smaller, constraints=tuple(rules))
    smaller.sample(np.random.default_rng(0))
    return smaller


def _rule(constraint: Constraint, choices: Mapping[str, Choice], space: SearchSpace) -> Constraint:
    """The rule as a file of the smaller space must say it."""

    def read(text: str) -> Constraint:
        entry = {"rule": text, "because": constraint.because}
        return parse_constraints([entry], choices, space.template, space.shared)[0]

    try:
        return read(constraint.rule)
    except SpaceError:
        tree = _Rewriter(constraint, choices).visit(_copy(constraint.tree))
        return read(ast.unparse(tree).removesuffix(" else true"))


def _copy(tree: ast.expr) -> ast.expr:
    return ast.parse(ast.unparse(tree), mode="eval").body


class _Rewriter(ast.NodeTransformer):
    """Puts the names back into a rule, and `x in []`, which is false, for what can never be.

    Choices must stay mentioned: a rule holds where one of them is not active.
    """

    def __init__(self, constraint: Constraint, choices: Mapping[str, Choice]) -> None:
        self._names = constraint.names
        self._choices = choices

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """A path as it is, a word in quotes."""
        stands = self._names[node.id]
        if isinstance(stands, ChoiceName):
            return ast.Name(id=stands.path)
        quote = "'" if '"' in str(stands.word) else '"'
        return ast.Name(id=f"{quote}{stands.word}{quote}")

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        """`true`, `false` and `null` as YAML has them."""
        if node.value is None or isinstance(node.value, bool):
            return ast.Name(id=shown(node.value))
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        """Comparisons one by one, those with what is gone replaced."""
        operands = [node.left, *node.comparators]
        parts: list[ast.expr] = [
            self._compared(left, op, right)
            for left, op, right in zip(operands, node.ops, operands[1:], strict=False)
        ]
        return _all(parts)

    def _compared(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> ast.expr:
        if isinstance(right, ast.Tuple | ast.List | ast.Set):
            alive = [each for each in right.elts if self._may_equal(left, each)]
            dead = [each for each in right.elts if each not in alive]
            options = ast.List(elts=[self.visit(each) for each in alive])
            kept = ast.Compare(left=self.visit(left), ops=[op], comparators=[options])
            return _all([kept, *self._mentioned(dead, ast.NotIn())])
        if isinstance(op, ast.Eq | ast.NotEq) and not self._may_equal(left, right):
            return _all(
                self._mentioned([left, right], ast.In() if isinstance(op, ast.Eq) else ast.NotIn())
            )
        return ast.Compare(left=self.visit(left), ops=[op], comparators=[self.visit(right)])

    def _mentioned(self, nodes: list[ast.expr], op: ast.cmpop) -> list[ast.expr]:
        """`in []` or `not in []` for each part that is a choice."""
        return [
            ast.Compare(left=self.visit(node), ops=[op], comparators=[ast.List(elts=[])])
            for node in nodes
            if isinstance(node, ast.Name) and isinstance(self._names[node.id], ChoiceName)
        ]

    def _may_equal(self, left: ast.expr, right: ast.expr) -> bool:
        """Whether both sides have a value in common; true where that is not plain to see."""
        ours, theirs = self._values(left), self._values(right)
        if not ours or not theirs:
            return True
        return any(alike(one, other) for one in ours for other in theirs)

    def _values(self, node: ast.expr) -> tuple[Any, ...]:
        match node:
            case ast.Constant():
                return (node.value,)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return (-value,)
            case ast.Name():
                stands = self._names[node.id]
                if isinstance(stands, ChoiceName):
                    return self._choices[stands.path].labels
                return (stands.word,)
        return ()


def _all(parts: list[ast.expr]) -> ast.expr:
    return parts[0] if len(parts) == 1 else ast.BoolOp(op=ast.And(), values=parts)
