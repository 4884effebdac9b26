"""`start_with`: what names stand for, what is left out and why, and what a run keeps."""

import json
import shutil

import numpy as np
import optuna
import pytest
from tiny_study import write_study

from nas_face.arch.zoo import network
from nas_face.errors import ConfigError
from nas_face.search import Budget
from nas_face.search.samplers import make_sampler
from nas_face.shipped import find_file
from nas_face.space import load_space
from nas_face.study.config import load_study
from nas_face.study.report import front_of
from nas_face.study.run import Run
from nas_face.study.same_study import require_same
from nas_face.study.seeding import kept_start, start_designs

FREE = Budget()


def seesaw():
    path = find_file("search_spaces/seesaw.yaml")
    assert path is not None
    return load_space(path).with_input_size(48)


def ids(space, choices):
    return [space.decode(labels).arch_id for labels in choices]


def test_zoo_networks_and_spec_files_in_the_order_of_the_list(tmp_path):
    space = seesaw()
    drawn = space.sample(np.random.default_rng(0)).spec
    (tmp_path / "drawn.json").write_text(json.dumps(drawn.to_data()))
    (tmp_path / "candidate").mkdir()
    other = space.sample(np.random.default_rng(1)).spec
    (tmp_path / "candidate" / "spec.json").write_text(json.dumps(other.to_data()))
    names = [
        str(tmp_path / "drawn.json"),
        "seesaw_shuffle",
        str(tmp_path / "candidate"),
        "seesaw_share",
    ]
    found = start_designs(names, space, FREE)
    small = [
        network(name).variant(input_size=(48, 48)) for name in ("seesaw_shuffle", "seesaw_share")
    ]
    expected = [drawn.arch_id, small[0].arch_id, other.arch_id, small[1].arch_id]
    assert ids(space, found.choices) == expected
    assert found.notes == ()


def test_a_spec_file_of_another_image_size_is_taken_at_that_of_the_space(tmp_path):
    space = seesaw()
    large = space.with_input_size(112).sample(np.random.default_rng(0))
    (tmp_path / "large.json").write_text(json.dumps(large.spec.to_data()))
    found = start_designs([str(tmp_path / "large.json")], space, FREE)
    assert found.choices == (large.choices,)


def test_the_same_design_twice_is_one(tmp_path):
    space = seesaw()
    spec = network("seesaw_share").variant(input_size=(48, 48))
    (tmp_path / "same.json").write_text(json.dumps(spec.to_data()))
    found = start_designs(["seesaw_share", str(tmp_path / "same.json")], space, FREE)
    assert len(found.choices) == 1


def test_what_is_not_in_the_space_or_outside_the_budget_is_said_in_a_line():
    space = seesaw()
    sizes = {
        name: network(name).variant(input_size=(48, 48)).cost().madds
        for name in ("seesaw_share", "dw_seesaw_v1")
    }
    wall = sizes["seesaw_share"]
    assert wall < sizes["dw_seesaw_v1"]
    names = ["dw_seesaw_v1", "seesaw_share", "mobilefacenet_128"]
    found = start_designs(names, space, Budget(max_madds=wall))
    assert len(found.choices) == 1
    assert found.notes == (
        f"start_with: dw_seesaw_v1: left out; the network: has {sizes['dw_seesaw_v1']:,} madds, "
        f"where max_madds is {wall:,}",
        "start_with: mobilefacenet_128: left out; the network: stages.0.block.kind is seesaw, "
        "not inverted_residual",
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "mobilefacnet_128",
            r"mobilefacnet_128 is no zoo network.*did you mean 'mobilefacenet_128'",
        ),
        ("/no/such/run", r"/no/such/run is no zoo network, spec file, run folder or folder with"),
        ("mobilefacenet_128", r"start_with: nothing of it is in seesaw .*mobilefacenet_128: left"),
    ],
)
def test_what_cannot_be_used_at_all(name, message):
    with pytest.raises(ConfigError, match=message) as caught:
        start_designs([name], seesaw(), FREE)
    assert "\n" not in str(caught.value)


def test_nothing_asked_for_nothing_found():
    assert start_designs([], seesaw(), FREE).choices == ()


def test_an_earlier_run_gives_the_members_of_its_front(finished: Run):
    found = start_designs([str(finished.folder)], finished.space, FREE)
    members = list(front_of(finished).members["arch_id"])
    assert members
    assert ids(finished.space, found.choices) == members


def test_an_earlier_run_on_larger_images_gives_the_same_labels(finished: Run):
    space = finished.space.with_input_size(48)
    found = start_designs([str(finished.folder)], space, FREE)
    numbers = front_of(finished).members["trial"]
    assert list(found.choices) == [finished.trial(int(number)).params for number in numbers]


def test_members_outside_the_budget_are_counted(finished: Run):
    members = front_of(finished).members
    if len(members) == 1:
        pytest.skip("this front has one member")
    wall = int(members["madds"].min())
    found = start_designs([str(finished.folder)], finished.space, Budget(max_madds=wall))
    assert len(found.choices) == 1
    (note,) = found.notes
    assert f"1 of {len(members)} taken; trial " in note
    assert note.endswith(f"where max_madds is {wall:,}")


def test_a_run_without_results_is_refused(tiny, tmp_path):
    run = Run.start(tmp_path / "run", tiny)
    with pytest.raises(ConfigError, match=r"the run has no finished candidate yet"):
        start_designs([str(run.folder)], run.space, FREE)


def test_the_run_keeps_what_it_started_with(finished: Run, tmp_path, caplog):
    """Once resolved, the earlier folder may go; a path of another machine changes nothing."""
    shutil.copytree(finished.folder, tmp_path / "earlier")
    config = load_study(
        write_study(tmp_path / "new", {"start_with": ["../earlier", "vargfacenet"]})
    )
    study = optuna.create_study(directions=["maximize", "minimize"])
    first = kept_start(study, config, finished.space)
    assert first.choices
    assert [record.getMessage() for record in caplog.records] == list(first.notes)
    assert first.notes[-1].startswith("start_with: vargfacenet: left out; ")
    shutil.rmtree(tmp_path / "earlier")
    assert kept_start(study, config, finished.space) == first
    elsewhere = load_study(write_study(tmp_path / "new", {"start_with": ["/elsewhere/run"]}))
    assert kept_start(study, elsewhere, finished.space) == first


def test_a_run_is_taken_up_when_what_it_started_with_has_gone(tmp_path, tiny):
    earlier = tmp_path / "earlier"
    space = Run.start(tmp_path / "any", tiny).space
    earlier.write_text(json.dumps(space.sample(np.random.default_rng(0)).spec.to_data()))
    path = write_study(tmp_path / "new", {"start_with": ["../earlier"], "budget": None})
    folder = Run.start(tmp_path / "run", load_study(path)).folder
    earlier.unlink()
    again = load_study(path)
    assert again.start_with != Run.open(folder).config.start_with
    require_same(folder, Run.open(folder).config, again)
    other = load_study(path, {"start_with": ["seesaw_share"]})
    with pytest.raises(ConfigError, match="another study: start_with was"):
        require_same(folder, Run.open(folder).config, other)


def test_a_wrong_name_leaves_no_folder(tmp_path):
    config = load_study(write_study(tmp_path, {"start_with": ["seesaw_shar"]}))
    with pytest.raises(ConfigError, match=r"did you mean 'seesaw_share'"):
        Run.start(tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


def test_what_was_found_is_what_a_sampler_proposes_first(finished: Run):
    found = start_designs([str(finished.folder)], finished.space, FREE)
    sampler = make_sampler("nsga2", finished.space, FREE, [], 0, start=found.choices)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    trial = study.ask()
    finished.space.propose(lambda path, choice: trial.suggest_categorical(path, choice.labels))
    assert trial.params == found.choices[0]
