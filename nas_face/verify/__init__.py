"""How well embeddings tell faces apart: metrics, protocols, intervals, thresholds (no torch)."""

from nas_face.verify.accuracy import BestAccuracy, best_accuracy, exact_fold_accuracies
from nas_face.verify.bootstrap import BootstrapIntervals, PairIdentities, bootstrap_intervals
from nas_face.verify.curves import corners, thinned
from nas_face.verify.insightface import (
    FoldAccuracies,
    RowPairs,
    ValAtFar,
    ten_fold_accuracy,
    val_at_far,
)
from nas_face.verify.intervals import Interval, clopper_pearson_interval, wilson_interval
from nas_face.verify.metrics import (
    Roc,
    auc,
    cosine_scores,
    eer,
    log_tar,
    roc,
    squared_distances,
    tar_at_far,
)
from nas_face.verify.protocols import (
    CONFIDENCE,
    REPORTED_FARS,
    OperatingPoint,
    PairIndices,
    RefusedFar,
    Resampling,
    VerificationResult,
    verify_embeddings,
)
from nas_face.verify.thresholds import (
    ThresholdCard,
    ThresholdCheck,
    threshold_card,
)

__all__ = [
    "CONFIDENCE",
    "REPORTED_FARS",
    "BestAccuracy",
    "BootstrapIntervals",
    "FoldAccuracies",
    "Interval",
    "OperatingPoint",
    "PairIdentities",
    "PairIndices",
    "RefusedFar",
    "Resampling",
    "Roc",
    "RowPairs",
    "ThresholdCard",
    "ThresholdCheck",
    "ValAtFar",
    "VerificationResult",
    "auc",
    "best_accuracy",
    "bootstrap_intervals",
    "clopper_pearson_interval",
    "corners",
    "cosine_scores",
    "eer",
    "exact_fold_accuracies",
    "log_tar",
    "roc",
    "squared_distances",
    "tar_at_far",
    "ten_fold_accuracy",
    "thinned",
    "threshold_card",
    "val_at_far",
    "verify_embeddings",
    "wilson_interval",
]
