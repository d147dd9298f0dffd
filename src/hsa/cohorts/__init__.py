"""Patients, cases, slides and labels: who is in the study, and in which fold.

A manifest comes in, one's own or that of a public cohort; out goes a `Cohort` whose every row was checked, and a
table of folds in which a patient stands once.
"""

__all__ = [
    "cells",
    "check",
    "cohort",
    "draft",
    "identity",
    "labels",
    "manifest",
    "opened",
    "pairing",
    "paths",
    "public",
]
