"""Learning rate by optimiser step."""

import math

from nas_face.train.settings import TrainSettings

STEP_DROPS = (0.5, 0.75, 0.9)  # shares of all steps, near those of the published recipes


def learning_rate(step: int, n_steps: int, settings: TrainSettings) -> float:
    """Rate of one optimiser step, above 0.

    Args:
        step: from 0 to `n_steps` - 1.
        n_steps: steps of the whole training.
        settings: peak, warm-up share and shape.
    """
    warmup_steps = int(settings.warmup * n_steps)
    if step < warmup_steps:
        return settings.learning_rate * (step + 1) / warmup_steps
    if settings.schedule == "step":
        drops = sum(step >= share * n_steps for share in STEP_DROPS)
        return settings.learning_rate * 0.1**drops
    left = 1 - (step - warmup_steps) / max(1, n_steps - warmup_steps)
    if settings.schedule == "linear":
        return settings.learning_rate * left
    if settings.schedule == "polynomial":  # of power 2, as the published arcface_torch recipes
        return settings.learning_rate * left**2
    return settings.learning_rate * 0.5 * (1 - math.cos(math.pi * left))
