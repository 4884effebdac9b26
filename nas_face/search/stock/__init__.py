"""Optuna's own samplers, made to propose only what is new and fits."""
