"""What is wrong with a space: dead options, choices without effect, designs that cannot be
built."""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from nas_face.arch.cost import Cost
from nas_face.errors import ArchError
from nas_face.space.constraints import RuleBroken
from nas_face.space.draws import Draw, draw
from nas_face.space.picks import prefer
from nas_face.space.space import Design, SearchSpace
from nas_face.space.survey import descend
from nas_face.space.template import Choice, Label, Reference, leaves, needs, shown

N_DRAWS = 400
MAX_DRAWS = 8000
"""Draws where most break a constraint."""

N_POOL = 20
N_FORCED = 150
"""Tries to make a design with a given option before it counts as dead."""

N_CHANGES = 40
"""Changes of a choice before it counts as without effect."""

N_REASONS = 3

Kind = Literal["dead option", "dead choice", "no effect", "cannot be built", "over budget"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: of mistake.
        where: path of the choice, with `=label` for an option.
        what: one line about it.
        remedy: what to do.
    """

    kind: Kind
    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.remedy}"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Everything that was found.

    Attributes:
        findings: in the order of the file, by kind.
        n_drawn: designs drawn.
        n_rule_broken: of them, those that break a constraint or have what a target refuses.
        n_unbuildable: of them, those that make no working network.
    """

    findings: tuple[Finding, ...]
    n_drawn: int
    n_rule_broken: int
    n_unbuildable: int


def check(
    space: SearchSpace, excess: Callable[[Cost], float] | None = None, *, seed: int = 0
) -> Check:
    """Look for mistakes in a space by drawing designs and by trying every option.

    Nothing is proved: an option is called dead, or a choice without effect, after many tries that
    all failed.

    Args:
        space: the space.
        excess: how far a cost is over a budget, 0 where it fits; none for no budget.
        seed: of the draws.

    Raises:
        SpaceError: no legal design was met.
    """
    examiner = _Examiner(space, seed)
    findings = [
        *examiner.unused(),
        *examiner.dead(),
        *examiner.without_effect(),
        *examiner.unbuildable(),
    ]
    if excess is not None:
        findings += examiner.over_budget(excess)
    broken = [each for each in examiner.draws if isinstance(each.failure, RuleBroken)]
    illegal = [each for each in examiner.draws if each.failure is not None]
    return Check(
        findings=tuple(findings),
        n_drawn=len(examiner.draws),
        n_rule_broken=len(broken),
        n_unbuildable=len(illegal) - len(broken),
    )


@final
class _Examiner:
    """Draws, the legal designs among them, and the options that were seen to work."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._space = space
        self._rng = np.random.default_rng(seed)
        self._choices = space.choices()
        self._above = needs(space.template, space.shared)
        self.draws: list[Draw] = []
        self._pool: list[Design] = []
        self._alive: set[tuple[str, Label]] = set()
        while len(self._pool) < N_DRAWS and len(self.draws) < MAX_DRAWS:
            self.draws.append(draw(space, self._rng))
            if self.draws[-1].design is not None:
                self._add(self.draws[-1].design)
            if len(self.draws) - len(self._pool) >= N_DRAWS and self._slow():
                break
        while len(self._pool) < N_POOL:
            self._add(space.sample(self._rng))

    def _slow(self) -> bool:
        """Whether draws fail where failing takes time: in the network and not in a constraint."""
        return sum(not isinstance(each.failure, RuleBroken) for each in self.draws) > 2 * N_DRAWS

    def _add(self, design: Design) -> None:
        self._pool.append(design)
        self._alive |= set(design.choices.items())

    def unused(self) -> Iterator[Finding]:
        """Shared choices that nothing refers to."""
        met = {
            node.name
            for _, node in leaves(self._space.template, "")
            if isinstance(node, Reference)
        }
        for name in self._space.shared:
            if name not in met:
                yield Finding(
                    kind="dead choice",
                    where=f"shared.{name}",
                    what="nothing refers to it",
                    remedy=f"remove it, or write {{shared: {name}}} where it should count",
                )

    def dead(self) -> Iterator[Finding]:
        """Options that no legal design takes."""
        for path, choice in self._choices.items():
            if not all(each in self._alive for each in self._above[path]):
                continue  # the option that it lies in is dead, and was said to be
            for label in choice.labels:
                if (path, label) in self._alive:
                    continue
                reasons = self._force(path, label)
                if (path, label) in self._alive:
                    continue
                reason = reasons.most_common(1)[0][0] if reasons else "it is never met"
                yield Finding(
                    kind="dead option",
                    where=f"{path}={shown(label)}",
                    what=f"no design with it is legal ({sum(reasons.values())} were tried): "
                    f"{reason}",
                    remedy="remove the option, or change what forbids it",
                )

    def _force(self, path: str, label: Label) -> Counter[str]:
        """Try to make a legal design with an option; why that failed, if it did."""
        wanted = {**dict(self._above[path]), path: label}
        reasons: Counter[str] = Counter()
        for turn in range(N_FORCED):
            base = self._pool[int(self._rng.integers(len(self._pool)))].choices if turn % 2 else {}
            try:
                design = self._space.propose(prefer({**base, **wanted}, self._rng))
            except ArchError as failure:
                reasons[str(failure)] += 1
                continue
            if design.choices.get(path) == label:
                self._add(design)
                break
        return reasons

    def without_effect(self) -> Iterator[Finding]:
        """Choices that can be changed without changing the architecture."""
        free = dataclasses.replace(self._space, constraints=(), avoided=frozenset())
        for path, choice in self._choices.items():
            labels = [label for label in choice.labels if (path, label) in self._alive]
            if len(labels) < 2:
                continue
            designs = [each for each in self._pool if path in each.choices]
            if not any(
                self._matters(free, designs[turn % len(designs)], path, labels)
                for turn in range(N_CHANGES)
            ):
                yield Finding(
                    kind="no effect",
                    where=path,
                    what=f"{N_CHANGES} changes of it made no other network",
                    remedy="remove it, or use what it sets",
                )

    def _matters(self, free: SearchSpace, design: Design, path: str, labels: list[Label]) -> bool:
        others = [label for label in labels if label != design.choices[path]]
        label = others[int(self._rng.integers(len(others)))]
        try:
            other = free.propose(prefer({**design.choices, path: label}, self._rng))
        except ArchError:
            return False
        return other.spec.arch_id != design.spec.arch_id

    def unbuildable(self) -> Iterator[Finding]:
        """Draws that obey every rule and make no working network, by reason."""
        failed = [
            each
            for each in self.draws
            if each.failure is not None and not isinstance(each.failure, RuleBroken)
        ]
        by_reason: dict[str, list[Draw]] = {}
        for each in failed:
            by_reason.setdefault(re.sub(r"\d+", "N", str(each.failure)), []).append(each)
        frequent = sorted(by_reason.values(), key=len, reverse=True)
        for draws in frequent[:N_REASONS]:
            example = min(draws, key=lambda each: len(each.choices))
            guilty = self._guilty(example)
            yield Finding(
                kind="cannot be built",
                where=str(example.failure).split(":")[0],
                what=f"{len(draws) / len(self.draws):.1%} of designs drawn cannot be built: "
                f"{str(example.failure).partition(': ')[2]} (with {guilty})",
                remedy="forbid it by a constraint, or offer only what goes together",
            )
        rest = sum(map(len, frequent[N_REASONS:]))
        if rest:
            yield Finding(
                kind="cannot be built",
                where="elsewhere",
                what=f"{rest / len(self.draws):.1%} of designs drawn cannot be built for "
                f"{len(frequent) - N_REASONS} other reasons",
                remedy="look again once the reasons above are gone",
            )

    def _guilty(self, failed: Draw) -> str:
        """The choices of a failed draw of which another label would have worked."""
        guilty = [
            f"{path}={shown(label)}"
            for path, label in failed.choices.items()
            if any(self._works(failed, path, other) for other in self._choices[path].labels)
        ]
        if not guilty:
            guilty = [f"{path}={shown(label)}" for path, label in failed.choices.items()]
        return ", ".join(guilty)

    def _works(self, failed: Draw, path: str, label: Label) -> bool:
        try:
            self._space.propose(prefer({**failed.choices, path: label}, self._rng))
        except RuleBroken:
            return True  # another rule, that the failed draw did not break
        except ArchError:
            return False
        return True

    def over_budget(self, excess: Callable[[Cost], float]) -> Iterator[Finding]:
        """Options of which every design is over a budget."""

        def rank(design: Design) -> tuple[float, ...]:
            cost = design.spec.cost()
            return excess(cost), float(cost.madds)

        fitting = [each for each in self._pool if rank(each)[0] == 0.0]
        affordable = {option for each in fitting for option in each.choices.items()}
        least = descend(self._space, min(self._pool, key=rank), rank)
        affordable |= set(least.choices.items()) if rank(least)[0] == 0.0 else set()
        for path, choice in self._choices.items():
            yield from self._too_large(path, choice, least, rank, affordable)

    def _too_large(
        self,
        path: str,
        choice: Choice,
        least: Design,
        rank: Callable[[Design], tuple[float, ...]],
        affordable: set[tuple[str, Label]],
    ) -> Iterator[Finding]:
        for label in choice.labels:
            wanted = {**dict(self._above[path]), path: label}
            if (path, label) in affordable or (path, label) not in self._alive:
                continue
            if not all(each in affordable for each in self._above[path]):
                continue  # the option that it lies in is too large, and was said to be
            try:
                start = self._space.propose(prefer({**least.choices, **wanted}, self._rng))
            except ArchError:
                start = min(
                    (each for each in self._pool if each.choices.get(path) == label), key=rank
                )
            best = descend(self._space, start, rank, held=wanted, enough=(0.0, np.inf))
            over = rank(best)[0]
            if over == 0.0:
                affordable |= set(best.choices.items())
                continue
            yield Finding(
                kind="over budget",
                where=f"{path}={shown(label)}",
                what=f"even the smallest design with it is {over:.1%} over the budget",
                remedy="remove the option, or raise the budget",
            )
