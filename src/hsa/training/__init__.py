"""Fit one fold, fit all folds, and choose settings by trial.

A cohort with its bags and one method of a study come in; out go a model a fold, and the embeddings of every slide by
it.
"""

__all__ = ["epoch", "fit", "follow", "seen", "start", "terms", "tile_pairs", "trial", "tuning"]
