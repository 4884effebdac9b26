"""What `pareto` prints: the front, its volume, and what the search cost."""

import json
import re

import pytest

from nas_face.study.run import Run


def flat(text):
    return " ".join(text.split())


def cells(text, first):
    """Cells of the table row that begins with a word."""
    (line,) = [line for line in text.splitlines() if re.match(rf"│ +{first} ", line)]
    return [cell.strip() for cell in line.split("│")[1:-1]]


def files_of(folder):
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def add_open_trial(folder):
    """A candidate that another worker has begun."""
    trial = Run.open(folder).study().ask()
    trial.set_user_attr("arch_id", "0" * 12)
    return trial


def test_front_says_which_way_each_objective_goes_and_what_it_dominates(searched, nas_face):
    answer = nas_face("pareto", searched[0])
    assert re.search(r"┃ +log_tar ┃ +madds ┃", answer.out)
    assert re.search(r"┃ +max ┃ +min ┃", answer.out)
    assert re.search(
        r"the front dominates [\d.]+% of the box from the worst value of each objective among "
        r"complete trials \(the reference point\) to the best: log_tar \d\.\d+ to \d\.\d+, madds ",
        flat(answer.out),
    )


def test_cost_is_below_the_front(searched, nas_face):
    answer = nas_face("pareto", searched[0])
    assert answer.out.index("Pareto front") < answer.out.index("Cost: networks")
    train, total = cells(answer.out, "train"), cells(answer.out, "total")
    assert 0 < float(total[1]) >= float(train[1])
    assert total[3] == "0.0"  # trained on a processor
    assert total[-1] == "100.0%"


def test_cost_and_volume_as_json(searched, nas_face):
    data = json.loads(nas_face("pareto", searched[0], "--json").out)
    assert data["rungs"] is None  # the study has none
    assert 0 <= data["hypervolume"]["share"] <= 1
    reference, ideal = data["hypervolume"]["reference"], data["hypervolume"]["ideal"]
    assert reference["log_tar"] <= ideal["log_tar"]
    assert reference["madds"] >= ideal["madds"]
    cost = data["cost"]
    assert cost["networks"]["trained"] == 3
    assert cost["epochs"] == {"spent": 3, "full": 3, "share": 1.0}
    assert cost["seconds"].keys() >= {"propose", "build", "train", "verify", "save"}
    assert cost["total"]["wall_s"] == pytest.approx(
        sum(each["wall_s"] for each in cost["seconds"].values())
    )
    assert cost["undivided_wall_s"] == 0


def test_run_in_progress(nas_face, run):
    before = json.loads(nas_face("pareto", run, "--json").out)
    trial = add_open_trial(run)
    with Run.open(run).locked():
        answer = nas_face("pareto", run, "--json")
    assert answer.code == 0
    after = json.loads(answer.out)
    assert after["front"] == before["front"]
    assert after["trials"] == before["trials"]
    assert after["cost"]["networks"]["open"] == 1
    assert Run.open(run).trials()[trial.number].state.name == "RUNNING"


def test_it_changes_nothing(nas_face, run):
    add_open_trial(run)
    before = files_of(run)
    assert nas_face("pareto", run).code == 0
    assert nas_face("pareto", run, "--json").code == 0
    assert files_of(run) == before
