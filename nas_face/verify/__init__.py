"""How well embeddings tell faces apart: metrics and the ten-fold protocol (numpy only)."""

from nas_face.verify.metrics import (
    Roc,
    auc,
    cosine_scores,
    eer,
    log_tar,
    roc,
    tar_at_far,
)
from nas_face.verify.protocols import (
    REPORTED_FARS,
    FoldAccuracies,
    PairIndices,
    VerificationResult,
    ten_fold_accuracy,
    verify_embeddings,
)

__all__ = [
    "REPORTED_FARS",
    "FoldAccuracies",
    "PairIndices",
    "Roc",
    "VerificationResult",
    "auc",
    "cosine_scores",
    "eer",
    "log_tar",
    "roc",
    "tar_at_far",
    "ten_fold_accuracy",
    "verify_embeddings",
]
