"""Collectives against what one process computes; a rank that dies or hangs."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from crew import Crew
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nas_face.errors import ConfigError, RanksLost
from nas_face.nn.ranks import ALONE, Ranks


@pytest.fixture(scope="module", params=[2, 3])
def crew(request, tmp_path_factory):
    with Crew(tmp_path_factory.mktemp("crew"), request.param) as crew:
        yield crew


def size(crew: Crew) -> int:
    return len(crew.pipes)


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [0, 1, 5, 14, 100])
def test_shares_are_those_of_array_split(n, n_ranks):
    shares = [list(range(n))[Ranks(n=n_ranks, rank=rank).share(n)] for rank in range(n_ranks)]
    assert shares == [list(each) for each in np.array_split(np.arange(n), n_ranks)]


def test_alone_everything_is_what_it_was():
    x = torch.randn(4, 3, requires_grad=True)
    for each in (ALONE.gather(x), ALONE.enter(x), ALONE.sum(x)):
        assert each is x
    assert torch.equal(ALONE.max(x), x) and not ALONE.max(x).requires_grad
    assert torch.equal(ALONE.gather_rows(x), x)
    assert (ALONE.tell("word"), ALONE.agree(False), ALONE.total(3)) == ("word", False, 3)
    own = torch.zeros(4, 3)
    ALONE.scatter_rows_(own, x.detach())
    assert torch.equal(own, x)
    assert ALONE.leads
    assert not torch.distributed.is_initialized()


def test_without_torchrun_a_process_is_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert Ranks.from_environment() is ALONE


def test_torchrun_with_one_process_is_alone(monkeypatch):
    for name, value in (("WORLD_SIZE", "1"), ("RANK", "0"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    assert Ranks.from_environment() is ALONE


@pytest.mark.parametrize("value", [None, "", "two", "-1"])
def test_a_broken_environment_is_named(monkeypatch, value):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    if value is not None:
        monkeypatch.setenv("RANK", value)
    with pytest.raises(ConfigError, match=r"RANK must be a number.*torchrun"):
        Ranks.from_environment()


def rows(ranks: Ranks) -> torch.Tensor:
    """Different on every rank, and of another size: 1, 2, 3 ... rows."""
    return torch.arange((ranks.rank + 1) * 2.0).view(-1, 2) + 100 * ranks.rank


def all_rows(n: int) -> torch.Tensor:
    return torch.cat([rows(Ranks(n=n, rank=rank)) for rank in range(n)])


def gather_all_kinds(ranks: Ranks):
    x = rows(ranks)
    kinds = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool)
    return [ranks.gather(x.to(kind)) for kind in kinds]


def test_gather_puts_uneven_rows_in_the_order_of_ranks(crew):
    expected = all_rows(size(crew))
    for result in crew(gather_all_kinds):
        for each in result:
            assert torch.equal(each, expected.to(each.dtype))


def gather_with_total(ranks: Ranks):
    x = torch.arange(10.0)[ranks.share(10)]
    with pytest.raises(ValueError, match="of 20"):
        ranks.gather(x, total=20)
    return ranks.gather(x, total=10)


def test_gather_with_a_known_total(crew):
    for result in crew(gather_with_total):
        assert torch.equal(result, torch.arange(10.0))


def gradient_of_gather(ranks: Ranks):
    x = rows(ranks).requires_grad_()
    gathered = ranks.gather(x)
    weight = torch.arange(1.0, gathered.numel() + 1).view_as(gathered)
    (gathered * weight).sum().backward()
    return x.grad


def test_gather_gives_back_the_own_rows_of_the_gradient_times_n(crew):
    n = size(crew)
    weight = torch.arange(1.0, all_rows(n).numel() + 1).view_as(all_rows(n))
    assert torch.equal(torch.cat(crew(gradient_of_gather)), n * weight)


def split_computation(ranks: Ranks):
    """Sum over r of (r + 1) x^2, then its square: x is replicated, each r lies on a rank."""
    x = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    own = (ranks.rank + 1) * ranks.enter(x).square()
    before = own.detach().clone()
    total = ranks.sum(own)
    assert torch.equal(own, before)  # a collective overwrites nothing
    total.square().sum().backward()
    return total.detach(), x.grad


def test_enter_and_sum_differentiate_a_split_computation(crew):
    weight = sum(range(1, size(crew) + 1))
    x = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    expected = weight * x.square()
    expected.square().sum().backward()
    for total, gradient in crew(split_computation):
        torch.testing.assert_close(total, expected.detach())
        torch.testing.assert_close(gradient, x.grad)


def small_words(ranks: Ranks):
    ranks.barrier()
    return {
        "max": ranks.max(torch.tensor([ranks.rank, -ranks.rank])).tolist(),
        "agree": (ranks.agree(ranks.rank == ranks.n - 1), ranks.agree(False)),
        "total": ranks.total(10**12 + ranks.rank),
        "tell": ranks.tell({"from": ranks.rank, "tensor": torch.ones(2)})["from"],
        "leads": ranks.leads,
    }


def test_words_between_ranks(crew):
    n = size(crew)
    for rank, result in enumerate(crew(small_words)):
        assert result == {
            "max": [n - 1, 0],
            "agree": (True, False),
            "total": n * 10**12 + n * (n - 1) // 2,
            "tell": 0,
            "leads": rank == 0,
        }


def rows_there_and_back(ranks: Ranks):
    x = rows(ranks)[: ranks.rank * 2]  # none on rank 0
    whole = ranks.gather_rows(x)
    own = torch.zeros_like(x)
    ranks.scatter_rows_(own, whole)
    return whole, torch.equal(own, x)


def test_rows_go_to_rank_0_and_back(crew):
    results = crew(rows_there_and_back)
    n = size(crew)
    assert torch.equal(results[0][0], all_rows(n)[1:])
    assert all(whole is None for whole, _ in results[1:])
    assert all(same for _, same in results)


# ---- a rank that is gone

HANG_S = 3.0


def lose_one(ranks: Ranks, how: str, where: str):
    """The last rank goes in the middle of the work; what the others see, and after how long."""
    network = DistributedDataParallel(nn.Linear(4, 2))
    x = torch.ones(2, 4)
    ranks.barrier()
    started = time.monotonic()
    if ranks.rank == ranks.n - 1:
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(3 * HANG_S)
        return None
    try:
        with ranks.guard():
            match where:
                case "backward":
                    network(x).sum().backward()
                case "split":
                    ranks.enter(x.requires_grad_()).sum().backward()
                case "gather":
                    ranks.gather(x)
                case "barrier":
                    ranks.barrier()
                case "tell":
                    # Telling is done when the word is out; the next word finds nobody.
                    for _ in range(3):
                        ranks.tell("word")
                        ranks.barrier()
                case "rows":
                    ranks.gather_rows(x)
    except RanksLost as lost:
        return str(lost), time.monotonic() - started
    return None


PLACES = ["backward", "split", "gather", "barrier", "tell", "rows"]


@pytest.mark.parametrize("where", PLACES)
def test_a_killed_rank_ends_the_other_in_one_clear_error(tmp_path, where):
    with Crew(tmp_path, 2) as crew:  # whose ranks would wait for a minute
        crew.start(lose_one, "killed", where)
        message, seconds = crew.result(0)
        assert "\n" not in message
        assert "rank 0 of 2: another process of this training ended" in message
        assert "any number of processes" in message
        assert seconds < 30


@pytest.mark.parametrize("where", ["backward", "gather"])
def test_a_rank_that_hangs_is_waited_for_no_longer_than_the_limit(tmp_path, where):
    with Crew(tmp_path, 3, timeout_s=HANG_S) as crew:
        crew.start(lose_one, "hangs", where)
        for rank in (0, 1):
            message, _ = crew.result(rank)
            assert f"no answer for {HANG_S:g} s" in message


def test_a_rank_that_never_comes_is_missed(tmp_path):
    with pytest.raises(RanksLost, match="rank 0 of 2"):
        Ranks.join(f"file://{tmp_path / 'meeting'}", n=2, rank=0, timeout_s=1.0)


def guard_others(ranks: Ranks):
    with pytest.raises(RuntimeError, match="own mistake"), ranks.guard():
        raise RuntimeError("own mistake")
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), ranks.guard():
        torch.ones(2, 3) @ torch.ones(2, 3)


def test_guard_leaves_other_errors_as_they_are(crew):
    crew(guard_others)


SCRIPT = """
import sys
from pathlib import Path
import torch
from nas_face.nn.ranks import Ranks
ranks = Ranks.from_environment(timeout_s=60)
told = [ranks.n, ranks.local_rank == ranks.rank,
*ranks.gather(torch.tensor([ranks.rank])).tolist()]
# A file each: lines that two processes print at once may run into one another.
Path(sys.argv[1], str(ranks.rank)).write_text(str(told))
ranks.close()
"""


@pytest.mark.slow
def test_torchrun_starts_ranks(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*command, "--nproc-per-node", "2", str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / rank).read_text() for rank in ("0", "1")] == ["[2, True, 0, 1]"] * 2
