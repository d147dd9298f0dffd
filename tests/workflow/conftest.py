"""A study that goes through the whole graph in a minute."""

import pytest

SMALL = """
name: small
title: Small
cohort: {kind: virtual, cases: 20, slide_px: 384, strength: 1.0, seed: 0}
markers: {P53: {}}
model: {dim: 16, depth: 1, heads: 2, segment_lengths: [8], dilated_ratios: [1], head_hidden: 8}
methods:
  classification_only: {title: Classification, losses: [classification]}
  full: {title: Full, losses: [intra_modality, info_nce, classification]}
baseline: classification_only
full: full
training: {epochs: 1, batch: 6, lr: 1.0e-3, warmup_epochs: 0}
tiles: {min_tissue: 0.25}
evaluation: {folds: 3, bootstrap: 100}
"""


@pytest.fixture
def small():
    """The text of that study's file."""
    return SMALL
