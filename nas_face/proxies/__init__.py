"""Zero-cost proxies: figures of an untrained network that are said to foretell its accuracy.

They choose nothing by themselves: `nas-face proxies` says what they are worth on a run.
"""

from nas_face.proxies.ranking import log_rank_sum
from nas_face.proxies.scores import (
    PROXIES,
    Proxy,
    ProxyScores,
    measure_proxies,
    proxy,
    proxy_scores,
    proxy_values,
)
from nas_face.proxies.subject import MIN_IMAGES, Subject

__all__ = [
    "MIN_IMAGES",
    "PROXIES",
    "Proxy",
    "ProxyScores",
    "Subject",
    "log_rank_sum",
    "measure_proxies",
    "proxy",
    "proxy_scores",
    "proxy_values",
]
