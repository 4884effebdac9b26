"""Angles and sums of angles from cosines, with derivatives that stay finite at 0 and pi."""

import math

import torch
from torch import Tensor

TINY = 1e-12  # under a root, whose derivative would be infinite at 0


def sine(cosine: Tensor) -> Tensor:
    """sin(theta) for theta in [0, pi]; at least 1e-6."""
    return (1.0 - cosine.square()).clamp_min(TINY).sqrt()


def angle(cosine: Tensor) -> Tensor:
    """theta in [0, pi] of cos(theta), to within 1e-6 of its ends."""
    return torch.atan2(sine(cosine), cosine)


def add_angle(cosine: Tensor, margin: float | Tensor, *, fall_back: bool) -> Tensor:
    """cos(theta + m).

    Args:
        cosine: cos(theta), theta in [0, pi].
        margin: m in radians, 0 to pi/2; a number, or one for each element of `cosine`.
        fall_back: where theta + m passes pi, give cos(theta) - m sin(m) instead. It lies below
            all that comes before and goes on falling with theta.
    """
    if isinstance(margin, Tensor):
        cos_m, sin_m, cos_turn = margin.cos(), margin.sin(), -margin.cos()
        m_sin_m = margin * sin_m
        added = cosine * cos_m - sine(cosine) * sin_m
        return torch.where(cosine > cos_turn, added, cosine - m_sin_m) if fall_back else added
    added = cosine * math.cos(margin) - sine(cosine) * math.sin(margin)
    if not fall_back:
        return added
    fallen_back = cosine - margin * math.sin(margin)
    return torch.where(cosine > math.cos(math.pi - margin), added, fallen_back)
