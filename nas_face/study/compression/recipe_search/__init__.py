"""Recipes proposed by Optuna, tried on one model: what `nas-face compress --search` does."""
