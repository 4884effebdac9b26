"""How fast are designs screened, against building each and counting it?

Draws designs of a space evenly and costs them (params, MAdds, peak activations), then builds some
of them as torch modules and counts them with thop, as one does without a cost model. Times are
processor seconds of this process, on one thread, and memory is read before torch is imported.

    python benchmarks/screening.py search_spaces/all_families.yaml --designs 1000000 --built 20
"""

import argparse
import contextlib
import io
import itertools
import resource
import sys
import time
import warnings
from pathlib import Path

from nas_face.arch.spec import ArchSpec
from nas_face.space import load_space
from nas_face.space.screening import Screened, Screener

BLOCK = 20_000


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("space", type=Path)
    parser.add_argument("--designs", type=int, default=200_000)
    parser.add_argument("--built", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    space = load_space(arguments.space)
    start = time.process_time()
    draws = Screener(space).draws(arguments.seed)
    rates = []
    smallest = largest = next(draws)
    for done in range(0, arguments.designs, BLOCK):
        before = time.process_time()
        size = min(BLOCK, arguments.designs - done)
        for each in itertools.islice(draws, size):
            if each.madds < smallest.madds:
                smallest = each
            elif each.madds > largest.madds:
                largest = each
        rates.append(size / (time.process_time() - before))
    screened_s = time.process_time() - start
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert "torch" not in sys.modules
    print(f"screened {arguments.designs:,} designs of {space.name} in {screened_s:.1f} s")
    print(
        f"  {arguments.designs / screened_s:,.0f} a second from cold, {rates[-1]:,.0f} once warm"
    )
    print(f"  {smallest.madds:,} to {largest.madds:,} MAdds; peak memory {peak_mb:.0f} MB")
    kept = list(itertools.islice(draws, arguments.built))
    before = time.process_time()
    specs = [each.spec for each in kept]
    decoded_s = (time.process_time() - before) / len(kept)
    built_s = built(kept, specs)
    print(f"decoding one into an ArchSpec takes {1e3 * decoded_s:.2f} ms")
    print(f"building one and counting it with thop takes {1e3 * built_s:,.0f} ms")
    print(f"  {built_s * rates[-1]:,.0f} x the time of screening it")


def built(kept: list[Screened], specs: list[ArchSpec]) -> float:
    """Mean processor seconds to build a design and count it with thop."""
    import torch

    from nas_face.nn.build import build

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from thop import profile
    torch.set_num_threads(1)
    total_s = 0.0
    for screened, spec in zip(kept, specs, strict=True):
        before = time.process_time()
        module = build(spec.lower(), spec.input).eval()
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            profile(module, (torch.zeros(1, *spec.input),), verbose=False)
        total_s += time.process_time() - before
        assert spec.cost().madds == screened.madds
    return total_s / len(kept)


if __name__ == "__main__":
    main()
