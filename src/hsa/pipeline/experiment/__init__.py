"""The experiment: every method at every point of a study, kept as it ends, so that any machine can go on.

A point is the study itself or one of its `sweep`, a unit one method of one marker with one seed there.
"""

__all__ = ["calibration", "findings", "kept", "points", "run"]
