"""Which images each step of a training takes."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, final

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, Field

from nas_face.errors import ConfigError, DataError

_Rows = npt.NDArray[np.int64]

MIN_BATCH = 2
"""Images that a process needs at a time: batch normalisation cannot train on one value per
channel,
which 1x1 feature maps would give."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RandomSampling:
    """Every image once an epoch, in random order."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    kind: Literal["random"] = "random"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BalancedSampling:
    """Every identity equally often an epoch, up to one image, in random order.

    An epoch has as many images as there are. The images of an identity take turns in a random
    order: some of those of an identity with many are left out in an epoch, those of one with few
    come several times.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    kind: Literal["balanced"] = "balanced"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleSampling:
    """Every batch shows P identities with K images each, for losses that compare images.

    Identities take turns in a random order, and the images of an identity do. All batches are
    full, and there are as many as it takes to show as many images as there are. An image comes
    twice in a batch only if its identity has fewer than K.

    Attributes:
        images_per_identity: K, at least 2; P is the batch size divided by it.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    images_per_identity: int = 4
    kind: Literal["people"] = "people"

    def __post_init__(self) -> None:
        if self.images_per_identity < 2:
            raise ConfigError(
                f"sampling.images_per_identity must be at least 2, got {self.images_per_identity}"
            )


def _of_name(data: Any) -> Any:
    """``balanced`` stands for ``{kind: balanced}``."""
    return {"kind": data} if isinstance(data, str) else data


SamplingSettings = Annotated[
    RandomSampling | BalancedSampling | PeopleSampling,
    Field(discriminator="kind"),
    BeforeValidator(_of_name),
]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BatchPlan:
    """The batches of each epoch of a training, the same in each of its processes.

    A last batch may be short. It is left out if a process would have a single image of it, on
    which batch normalisation cannot train.

    Args:
        labels: int64 `(N,)`, the identity of each image.
        batch_size: images in a batch, over all processes; may exceed N.
        seed: at least 0.
        sampling: which images follow one another.
        n_ranks: processes that share each batch, at least 1.

    Raises:
        ConfigError: the batches are too small for the processes, or are not of whole identities.
        DataError: there are too few images or identities for a batch.
        ValueError: `seed` or `n_ranks` is out of range.

    >>> plan = BatchPlan(labels=np.array([0, 0, 1, 1, 1]), batch_size=2, seed=0)
    >>> plan.n_batches, [len(each) for each in plan.batches(epoch=0)]
    (2, [2, 2])
    """

    labels: _Rows
    batch_size: int
    seed: int
    sampling: SamplingSettings = RandomSampling()
    n_ranks: int = 1

    def __post_init__(self) -> None:
        if self.seed < 0 or self.n_ranks < 1:
            raise ValueError(
                "seed must be at least 0 and n_ranks at least 1, "
                f"got {self.seed} and {self.n_ranks}"
            )
        least = MIN_BATCH * self.n_ranks
        shared = "" if self.n_ranks == 1 else f" for {self.n_ranks} processes"
        if self.batch_size < least:
            raise ConfigError(
                f"training.batch_size must be at least {least}{shared}, got {self.batch_size}"
            )
        if len(self.labels) < least:
            raise DataError(
                f"an epoch needs at least {least} images{shared}, got {len(self.labels)}"
            )
        if isinstance(self.sampling, PeopleSampling):
            _require_people(
                self.batch_size, self.sampling.images_per_identity, len(np.unique(self.labels))
            )

    @property
    def n_batches(self) -> int:
        """Batches of an epoch, the same in all."""
        full, rest = divmod(len(self.labels), self.batch_size)
        if isinstance(self.sampling, PeopleSampling):
            return full + (rest > 0)
        return full + (rest >= MIN_BATCH * self.n_ranks)

    def size(self, position: int) -> int:
        """Images in the batch at a position in any epoch, over all processes."""
        if isinstance(self.sampling, PeopleSampling):
            return self.batch_size
        return min(self.batch_size, len(self.labels) - position * self.batch_size)

    def batches(self, *, epoch: int) -> list[_Rows]:
        """The batches of an epoch.

        Args:
            epoch: at least 0; another epoch, another order.

        Returns:
            Numbers of images, int64 `(B,)` each.

        Raises:
            ValueError: `epoch` is negative.
        """
        order = self.order(self.generator(epoch))
        starts = range(0, self.n_batches * self.batch_size, self.batch_size)
        return [order[start : start + self.batch_size] for start in starts]

    def generator(self, epoch: int) -> np.random.Generator:
        """What draws the order of an epoch, and after it what happens to its images.

        Raises:
            ValueError: `epoch` is negative.
        """
        if epoch < 0:
            raise ValueError(f"epoch must be at least 0, got {epoch}")
        return np.random.default_rng([self.seed, epoch])

    def order(self, rng: np.random.Generator) -> _Rows:
        """Numbers of images, of which each `batch_size` make a batch, also those left out.

        Args:
            rng: of the epoch. What it draws does not depend on `n_ranks`.
        """
        match self.sampling:
            case RandomSampling():
                return rng.permutation(len(self.labels))
            case BalancedSampling():
                return _taking_turns(self.labels, _balanced(self.labels, rng), rng)
            case PeopleSampling(images_per_identity=n_images):
                people = _people(
                    np.unique(self.labels),
                    n_people=self.batch_size // n_images,
                    n_batches=self.n_batches,
                    rng=rng,
                )
                return _taking_turns(self.labels, np.repeat(people, n_images), rng)


def _require_people(batch_size: int, n_images: int, n_identities: int) -> None:
    """Whether batches can be of whole identities, `n_images` of each."""
    n_people, rest = divmod(batch_size, n_images)
    if rest or n_people < 2:
        raise ConfigError(
            "training.batch_size must be a multiple of sampling.images_per_identity="
            f"{n_images}, at least {2 * n_images}, got {batch_size}"
        )
    if n_people > n_identities:
        raise DataError(
            f"batches of {batch_size} with {n_images} images of each identity need {n_people} "
            f"identities, got {n_identities}; lower training.batch_size or raise "
            "sampling.images_per_identity"
        )


def _balanced(labels: _Rows, rng: np.random.Generator) -> _Rows:
    """As many identities as there are labels, each equally often up to one, shuffled."""
    identities = np.unique(labels)
    each, more = divmod(len(labels), len(identities))
    drawn = rng.choice(identities, more, replace=False)
    return rng.permutation(np.concatenate([np.repeat(identities, each), drawn]))


def _people(
    identities: _Rows, *, n_people: int, n_batches: int, rng: np.random.Generator
) -> _Rows:
    """Identities of all batches in turn: every one before any comes again, none twice in a
    batch."""
    rounds = [rng.permutation(identities)]
    n_turns = len(identities)
    while n_turns < n_batches * n_people:
        n_waiting = n_turns % n_people  # in a batch that is not full yet
        waiting = rounds[-1][len(identities) - n_waiting :]
        others = rng.permutation(identities)
        fresh = others[~np.isin(others, waiting)][: -n_waiting % n_people]
        rounds += [np.concatenate([fresh, others[~np.isin(others, fresh)]])]
        n_turns += len(identities)
    return np.concatenate(rounds)[: n_batches * n_people]


def _taking_turns(labels: _Rows, owners: _Rows, rng: np.random.Generator) -> _Rows:
    """An image of each owner; the images of an identity take turns in a random order."""
    shuffled = rng.permutation(len(labels))
    images = shuffled[np.argsort(labels[shuffled], kind="stable")]  # by identity, in random order
    identities, first, n_images = np.unique(labels[images], return_index=True, return_counts=True)
    places = np.argsort(owners, kind="stable")  # by identity, in the order of the epoch
    _, first_place, n_places = np.unique(owners[places], return_index=True, return_counts=True)
    turn = np.empty(len(owners), dtype=np.int64)  # how often the owner came before
    turn[places] = np.arange(len(owners)) - np.repeat(first_place, n_places)
    owner = np.searchsorted(identities, owners)
    return images[first[owner] + turn % n_images[owner]]
