"""What zero-cost proxies may do in a search; of its own, because it needs no torch."""

from dataclasses import dataclass
from typing import ClassVar, final

from nas_face.errors import ConfigError, near_names

PROXY_NAMES = ("params", "madds", "synflow", "naswot", "zico", "az_nas")
"""Names of `nas_face.proxies.PROXIES`, which would load torch."""

MIN_IMAGES = 4


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySettings:
    """Proxies as a head start of a search; they judge nothing, and are off without names.

    Attributes:
        names: proxies to use; several are joined by their ranks.
        images: training faces that they look at, 4 or more.
        start: how many of the first designs are chosen by them, spread over multiply-adds.
        shortlist: designs of about equal multiply-adds that each of these is the best of.
        features: whether their figures are also given to the predictor of the sampler.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    names: tuple[str, ...] = ()
    images: int = 32
    start: int = 4
    shortlist: int = 8
    features: bool = False

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in PROXY_NAMES:
                raise ConfigError(
                    f"proxies.names: unknown proxy {name!r}; {near_names(name, PROXY_NAMES)}"
                )
        if len(set(self.names)) != len(self.names):
            raise ConfigError(f"proxies.names must differ, got {', '.join(self.names)}")
        if self.features and not self.names:
            raise ConfigError("proxies.features needs proxies.names")
        for key, least in (("images", MIN_IMAGES), ("start", 0), ("shortlist", 1)):
            if getattr(self, key) < least:
                raise ConfigError(
                    f"proxies.{key} must be at least {least}, got {getattr(self, key)}"
                )
