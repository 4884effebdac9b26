"""Fewer points for the same picture of a ROC or DET curve."""

import dataclasses

import numpy as np
import numpy.typing as npt

from nas_face.verify.metrics import Roc


def corners(curve: Roc) -> Roc:
    """The points where the curve turns: what is left out lies on a level or an upright line.

    Exact on axes of any scale, since both stay straight there.
    """
    far, tar = curve.false_accepts, curve.true_accepts
    keep = np.ones(len(far), dtype=np.bool_)
    level = (tar[1:-1] == tar[:-2]) & (tar[2:] == tar[1:-1])
    upright = (far[1:-1] == far[:-2]) & (far[2:] == far[1:-1])
    keep[1:-1] = ~(level | upright)
    return _taken(curve, keep)


def thinned(curve: Roc, *, n_columns: int = 8192) -> Roc:
    """At most `2 * n_columns + 6` points of a curve whose picture looks the same.

    The axis of FARs is cut into columns, even in log(FAR / (1 - FAR)), and of each the first and
    the last corner are kept. A curve that only rises stays within its column between them, and a
    column is narrower than 1/1000 of a linear, a logarithmic, or a normal deviate axis.

    Args:
        curve: of any number of points.
        n_columns: at least 1.

    Returns:
        A curve of some of its points, the first and the last among them.

    Raises:
        ValueError: `n_columns` is below 1.
    """
    if n_columns < 1:
        raise ValueError(f"n_columns must be at least 1, got {n_columns}")
    turned = corners(curve)
    accepts, n = turned.false_accepts, turned.n_different
    inner = (accepts > 0) & (accepts < n)
    # FAR 0 and 1 have columns of their own, before and behind
    column = np.where(accepts == 0, -1, n_columns + 1)
    if n > 1:
        logit = np.log(accepts[inner] / (n - accepts[inner]))
        widest = np.log(n - 1) or 1.0
        column[inner] = ((logit / widest + 1) / 2 * n_columns).astype(np.int64)
    is_first = np.append(True, np.diff(column) != 0)
    return _taken(turned, is_first | np.append(is_first[1:], True))


def _taken(curve: Roc, keep: npt.NDArray[np.bool_]) -> Roc:
    return dataclasses.replace(
        curve,
        thresholds=curve.thresholds[keep],
        false_accepts=curve.false_accepts[keep],
        true_accepts=curve.true_accepts[keep],
    )
