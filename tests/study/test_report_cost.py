"""What a search cost, added up by hand; and the volume of its front, counted on a grid."""

import itertools
import json
import re

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState, create_trial
from rich.console import Console

from nas_face.search import objective
from nas_face.search.ledger import Ledger, Seconds
from nas_face.study.report.cost import cost_of_trials, search_cost
from nas_face.study.report.front import Front, front_of
from nas_face.study.report.html import write_html
from nas_face.study.tables import front_table, networks_table, seconds_table

FULL = 10


def ledger(counts=None, **phases):
    made = Ledger()
    for phase, (wall_s, cpu_s) in phases.items():
        made.spend(phase, Seconds(wall_s=wall_s, cpu_s=cpu_s, gpu_s=wall_s / 2))
    for name, n in (counts or {}).items():
        made.count(name, n)
    return made.to_data()


def trial(state, **attrs):
    values = [0.5, 100.0] if state == TrialState.COMPLETE else None
    return create_trial(state=state, values=values, user_attrs={"arch_id": "x", **attrs})


TRIALS = [
    trial(
        TrialState.COMPLETE,
        ledger=ledger(
            {"proposed": 1, "epochs": 12}, propose=(1, 1), train=(40, 80), verify=(3, 3)
        ),
    ),
    trial(
        TrialState.PRUNED,
        stopped=4,
        ledger=ledger({"proposed": 3, "repeated": 2, "epochs": 4}, propose=(2, 2), train=(20, 40)),
    ),
    trial(
        TrialState.PRUNED,
        refused="latency_ms 9",
        ledger=ledger({"proposed": 2, "refused": 1}, time=(0.5, 0.5)),
    ),
    trial(TrialState.FAIL, failure="x", ledger=ledger({"proposed": 1, "epochs": 1}, train=(5, 5))),
    trial(TrialState.RUNNING, ledger=ledger({"proposed": 1}, propose=(7, 7))),
]
OLD = [
    trial(TrialState.COMPLETE, metrics={"wall_s": 30.0}),
    trial(TrialState.PRUNED, stopped=3, metrics={"wall_s": 11.0}),
    trial(TrialState.FAIL, failure="x"),
    create_trial(state=TrialState.FAIL, values=None),  # cut off before there was a design
]


def test_seconds_are_added_up_by_phase_in_the_order_of_a_trial():
    cost = cost_of_trials(TRIALS, epochs=FULL)
    assert {name: (spent.wall_s, spent.cpu_s) for name, spent in cost.phases.items()} == {
        "propose": (10, 10),
        "time": (0.5, 0.5),
        "train": (65, 125),
        "verify": (3, 3),
    }
    assert list(cost.phases) == ["propose", "time", "train", "verify"]
    assert cost.total == Seconds(wall_s=78.5, cpu_s=138.5, gpu_s=39.25)
    assert cost.undivided_wall_s == 0


def test_every_network_is_counted_by_what_became_of_it():
    cost = cost_of_trials(TRIALS, epochs=FULL)
    ends = (cost.n_trained, cost.n_stopped, cost.n_refused, cost.n_failed, cost.n_open)
    assert ends == (1, 1, 1, 1, 1)
    assert cost.n_proposed == 8 == sum(ends) + cost.n_repeated + cost.n_outside
    assert (cost.n_repeated, cost.n_outside, cost.n_screened) == (2, 1, None)


def test_epochs_repeated_after_an_interruption_count_and_a_refused_network_has_none():
    cost = cost_of_trials(TRIALS, epochs=FULL)
    assert cost.epochs == 12 + 4 + 1
    assert cost.full_epochs == 3 * FULL
    assert cost.epoch_share == pytest.approx(17 / 30)


def test_a_run_without_ledgers_shows_what_it_has():
    cost = cost_of_trials(OLD, epochs=FULL)
    assert cost.phases == {}
    assert cost.undivided_wall_s == 41
    assert cost.total == Seconds(wall_s=41)
    assert (cost.n_proposed, cost.n_trained, cost.n_stopped, cost.n_failed) == (3, 1, 1, 1)
    assert (cost.epochs, cost.full_epochs) == (FULL + 3, 2 * FULL)


def test_a_run_of_both_kinds_is_the_sum_of_both():
    both = cost_of_trials([*TRIALS, *OLD], epochs=FULL)
    assert both.total.wall_s == 78.5 + 41
    assert both.n_proposed == 8 + 3
    assert both.epochs == 17 + FULL + 3


def test_no_trials_cost_nothing():
    cost = cost_of_trials([], epochs=FULL)
    assert cost.total == Seconds()
    assert cost.epoch_share is None
    assert text_of(seconds_table(cost))
    assert text_of(networks_table(cost))


def test_what_a_search_screened_is_added_up_where_it_is_on_record():
    trials = [trial(TrialState.COMPLETE, ledger=ledger({"screened": n})) for n in (100, 23)]
    assert cost_of_trials(trials, epochs=FULL).n_screened == 123


def text_of(table, width=100):
    console = Console(width=width, highlight=False, file=None)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def rows_of(table, width=100):
    return [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in text_of(table, width).splitlines()
        if line.startswith("│")
    ]


def test_table_of_seconds_adds_up():
    rows = rows_of(seconds_table(cost_of_trials(TRIALS, epochs=FULL)))
    assert rows[2] == ["train", "65.0", "125.0", "32.5", "82.8%"]
    assert rows[-1] == ["total", "78.5", "138.5", "39.2", "100.0%"]


def test_table_of_seconds_leaves_out_what_is_not_known():
    rows = rows_of(seconds_table(cost_of_trials([*TRIALS, *OLD], epochs=FULL)))
    assert rows[-2] == ["not by phase", "41.0", "", "", "34.3%"]
    assert rows[-1] == ["total", "119.5", "", "", "100.0%"]


def test_table_of_networks_has_every_count():
    (first, second, third) = rows_of(networks_table(cost_of_trials(TRIALS, epochs=FULL)))
    assert first == ["?", "8", "1", "2", "1", "1", "1", "1", "1", "17"]
    assert (second[-1], third[-1]) == ("of 30", "56.7%")


def front(values, names=("log_tar", "madds")):
    """A front of complete trials with these values; what is on it does not matter here."""
    rows = [
        {
            "trial": number,
            "arch_id": f"{number:012x}",
            **dict(zip(names, row, strict=True)),
            "params": 1_234_567,
            "test_accuracy": 0.9,
            "test_accuracy_std": 0.01,
            "test_eer": 0.1,
            "on_front": True,
        }
        for number, row in enumerate(values)
    ]
    return Front(
        objectives=tuple(objective(name) for name in names),
        trials=pd.DataFrame(rows),
        n_trials=len(rows),
        n_stopped=0,
        n_failed=0,
        n_refused=0,
    )


def share_on_a_grid(values, signs, n=60):
    """Share of the cells of the box from worst to best that some point dominates."""
    losses = np.asarray(values, dtype=float) * signs
    low, high = losses.min(axis=0), losses.max(axis=0)
    scaled = (losses - low) / (high - low)
    axis = (np.arange(n) + 0.5) / n
    cells = np.array(list(itertools.product(axis, repeat=len(signs))))
    return (scaled[:, None, :] <= cells[None]).all(axis=2).any(axis=0).mean()


@pytest.mark.parametrize("names", [("log_tar", "madds"), ("log_tar", "madds", "latency_ms")])
def test_hypervolume_is_the_share_of_the_box_that_is_dominated(names):
    rng = np.random.default_rng(0)
    values = rng.uniform(1, 9, (12, len(names)))
    signs = [-1, 1, 1][: len(names)]
    made = front(values.tolist(), names)
    assert made.hypervolume == pytest.approx(share_on_a_grid(values, signs), abs=0.02)
    assert made.reference["log_tar"] == values[:, 0].min()
    assert made.ideal["log_tar"] == values[:, 0].max()
    assert made.reference["madds"] == values[:, 1].max()
    assert made.ideal["madds"] == values[:, 1].min()


def test_hypervolume_by_hand_and_after_every_trial():
    """Worst 0.2 and 500, best 0.8 and 100: the second dominates half of one by half of the
    other."""
    made = front([[0.2, 100.0], [0.5, 300.0], [0.8, 500.0], [0.4, 400.0]])
    assert made.hypervolumes() == pytest.approx([0, 0.25, 0.25, 0.25])
    assert made.hypervolume == pytest.approx(0.25)


def test_hypervolume_never_falls():
    rng = np.random.default_rng(1)
    shares = front(rng.uniform(1, 9, (40, 3)).tolist(), ("auc", "madds", "params")).hypervolumes()
    assert len(shares) == 40
    assert (np.diff(shares) >= 0).all()


def test_an_axis_without_extent_is_left_out():
    made = front([[0.2, 100.0], [0.5, 100.0]])
    assert made.hypervolumes() == [0.0, 1.0]
    assert front([[0.2, 100.0], [0.2, 100.0]]).hypervolume == 0.0


def test_front_table_names_directions_and_the_reference_point_and_fits_100_columns():
    values = [[0.1234, 123_456_789.0, 12.345], [0.9, 99_456_789.0, 10.0]]
    text = text_of(front_table(front(values, ("log_tar", "madds", "latency_ms"))))
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    assert re.search(r"log_tar ┃ +madds ┃ latency_ms", text)
    assert re.search(r" max ┃ +min ┃ +min ", text)
    flat = " ".join(text.split())
    assert "the reference point" in flat
    assert "madds 123,456,789 to 99,456,789" in flat


def test_a_front_by_params_has_that_column_once():
    text = text_of(front_table(front([[0.5, 7.0]], ("auc", "params"))))
    assert text.count("params ┃") == 1


def test_page_has_the_tables_and_the_volume(tmp_path):
    path = tmp_path / "front.html"
    cost = cost_of_trials(TRIALS, epochs=FULL)
    made = front([[0.2, 100.0], [0.5, 300.0], [0.8, 500.0]])
    tables = [networks_table(cost), seconds_table(cost)]
    write_html(made, path, title="t", choices={}, note="n", tables=tables)
    page = path.read_text(encoding="utf-8")
    assert "<h2>Cost: networks</h2>" in page
    assert "<td>train</td><td>65.0</td><td>125.0</td><td>32.5</td><td>82.8%</td>" in page
    assert 'id="hypervolume"' in page
    assert "the front dominates 25.0% of the box" in page


def test_tables_are_text_and_not_markup(tmp_path):
    table = seconds_table(
        cost_of_trials([trial(TrialState.COMPLETE, ledger=ledger(**{"<b>": (1, 1)}))], epochs=1)
    )
    write_html(
        front([[0.2, 100.0]]), tmp_path / "a.html", title="", choices={}, note="", tables=[table]
    )
    assert "<td>&lt;b&gt;</td>" in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_a_run_accounts_for_its_trials(finished):
    cost = search_cost(finished)
    states = [each.state for each in finished.trials()]
    assert cost.n_trained == states.count(TrialState.COMPLETE)
    assert cost.n_stopped == states.count(TrialState.PRUNED)
    assert cost.phases.keys() == {"propose", "time", "build", "train", "verify", "save"}
    stopped = [t.user_attrs["stopped"] for t in finished.trials() if "stopped" in t.user_attrs]
    full = finished.config.training.epochs
    assert cost.epochs == cost.n_trained * full + sum(stopped)
    assert cost.phases["train"].wall_s > 0
    assert cost.n_screened is not None
    assert cost.n_screened >= cost.n_proposed >= len(states)
    assert json.loads(json.dumps(cost.to_data()))["networks"]["trained"] == cost.n_trained


def test_an_audited_trial_is_complete_and_may_be_on_the_front(copied):
    before = front_of(copied)
    best = copied.study().ask()
    metrics = {
        "madds": 1,
        "params": 1,
        "test_accuracy": 1.0,
        "test_accuracy_std": 0.0,
        "test_eer": 0.0,
    }
    for name, value in {"arch_id": "a" * 12, "audited": 1, "metrics": metrics}.items():
        best.set_user_attr(name, value)
    copied.study().tell(best, [1.0, 1.0])
    made = front_of(copied)
    assert made.members["trial"].tolist() == [best.number]
    assert made.n_stopped == before.n_stopped
    assert len(made.trials) == len(before.trials) + 1


def test_a_refused_trial_is_not_one_that_a_rung_stopped(copied):
    before = front_of(copied)
    refused = copied.study().ask()
    for name, value in {"arch_id": "b" * 12, "refused": "latency_ms 9"}.items():
        refused.set_user_attr(name, value)
    copied.study().tell(refused, state=optuna.trial.TrialState.PRUNED)
    after = front_of(copied)
    assert (after.n_stopped, after.n_refused) == (before.n_stopped, 1)
    assert "1 refused for their latency" in " ".join(text_of(front_table(after)).split())
