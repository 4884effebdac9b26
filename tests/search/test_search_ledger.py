"""What a trial cost: phases that add up, also nested, broken off and merged."""

import json
from itertools import count

import pytest

from nas_face.search.ledger import Ledger, Seconds, process_clock


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = Seconds()

    def __call__(self) -> Seconds:
        return self.now

    def pass_s(self, wall_s: float, cpu_s: float = 0.0, gpu_s: float = 0.0) -> None:
        self.now += Seconds(wall_s=wall_s, cpu_s=cpu_s, gpu_s=gpu_s)


def test_a_phase_gets_what_passes_inside_it_and_nothing_else() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    clock.pass_s(100, 100, 100)
    with ledger.phase("train"):
        clock.pass_s(4, 7, 2)
    clock.pass_s(100, 100, 100)
    assert ledger.seconds == {"train": Seconds(wall_s=4, cpu_s=7, gpu_s=2)}


def test_time_in_a_nested_phase_is_counted_once() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    with ledger.phase("train"):
        clock.pass_s(1)
        with ledger.phase("verify"):
            clock.pass_s(10)
            with ledger.phase("save"):
                clock.pass_s(100)
            clock.pass_s(20)
        clock.pass_s(2)
    by_phase = {name: spent.wall_s for name, spent in ledger.seconds.items()}
    assert by_phase == {"train": 3, "verify": 30, "save": 100}
    assert sum(by_phase.values()) == clock.now.wall_s


def test_a_phase_inside_itself_is_counted_once() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    with ledger.phase("train"), ledger.phase("train"):
        clock.pass_s(5)
    assert ledger.seconds["train"].wall_s == 5


def test_a_phase_entered_twice_adds_up() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    for seconds in (3, 4):
        with ledger.phase("verify"):
            clock.pass_s(seconds)
    assert ledger.seconds["verify"].wall_s == 7


def test_an_exception_ends_its_phases_and_leaves_the_ledger_usable() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    with pytest.raises(KeyboardInterrupt), ledger.phase("train"), ledger.phase("verify"):
        clock.pass_s(6)
        raise KeyboardInterrupt
    clock.pass_s(50)
    with ledger.phase("save"):
        clock.pass_s(1)
    assert {name: spent.wall_s for name, spent in ledger.seconds.items()} == {
        "train": 0,
        "verify": 6,
        "save": 1,
    }


def test_a_reading_within_a_phase_is_up_to_date_and_does_not_disturb_it() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    with ledger.phase("train"):
        clock.pass_s(2)
        assert ledger.seconds["train"].wall_s == 2
        assert ledger.to_data()["seconds"]["train"]["wall_s"] == 2
        clock.pass_s(3)
    assert ledger.seconds["train"].wall_s == 5


def test_json_gives_the_same_ledger_back() -> None:
    ticks = count()
    ledger = Ledger(lambda: Seconds(wall_s=next(ticks) / 3, cpu_s=next(ticks) / 7))
    with ledger.phase("train"):
        ledger.count("screened", 12)
    ledger.spend("train", Seconds(gpu_s=0.1))
    again = Ledger.of(json.loads(json.dumps(ledger.to_data())))
    assert again.seconds == ledger.seconds
    assert again.counts == {"screened": 12}


def test_no_data_is_an_empty_ledger_and_an_empty_ledger_changes_no_sum() -> None:
    ledger = Ledger()
    ledger.spend("train", Seconds(wall_s=2.5))
    ledger.count("repeated")
    assert Ledger.of({}).seconds == {}
    assert (ledger + Ledger.of({})).to_data() == ledger.to_data()


def test_the_sum_of_ledgers_is_by_phase_and_name_and_leaves_them_alone() -> None:
    first, second = Ledger(), Ledger()
    first.spend("train", Seconds(wall_s=1, cpu_s=2, gpu_s=3))
    first.count("screened", 5)
    second.spend("train", Seconds(wall_s=10, cpu_s=20, gpu_s=30))
    second.spend("save", Seconds(wall_s=7))
    second.count("screened", 6)
    second.count("repeated")
    total = first + second
    assert total.seconds == {
        "train": Seconds(wall_s=11, cpu_s=22, gpu_s=33),
        "save": Seconds(wall_s=7),
    }
    assert total.counts == {"screened": 11, "repeated": 1}
    total.count("screened", 100)
    assert first.counts == {"screened": 5}


def test_the_clock_of_the_process_runs_with_its_work_and_holds_no_gpu() -> None:
    before = process_clock()
    while process_clock().cpu_s == before.cpu_s:
        pass
    spent = process_clock() - before
    assert spent.cpu_s > 0
    assert spent.wall_s > 0
    assert spent.gpu_s == 0
