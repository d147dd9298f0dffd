import numpy as np

from hsa.reporting import idea


def test_in_the_picture_every_pair_lies_together_and_apart_from_all_others():
    both = np.concatenate([idea.CASES, idea.CASES + idea.BESIDE])
    case = np.tile(np.arange(len(idea.CASES)), 2)
    distance = np.hypot(*(both[:, None] - both).T)
    own = distance[(case[:, None] == case) & (distance > 0)]
    other = distance[case[:, None] != case]
    assert own.max() < 0.5 * other.min()
    assert both.min() > 0.05 and both.max() < 0.95
