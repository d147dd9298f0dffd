import pytest
import torch

from hsa.bags.batches import Batch
from hsa.models.model import SlideModel
from hsa.study.study import load


def bags(lengths, seed):
    """Bags of several lengths, padded."""
    torch.manual_seed(seed)
    longest = max(lengths)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    features = (3 + torch.randn(len(lengths), longest, 32)) * mask[..., None]
    return Batch(features, torch.randint(0, 40, (len(lengths), longest, 2)) * 256, mask)


@pytest.mark.parametrize("encoder", ["longnet", "abmil", "mean"])
def test_what_is_embedded_in_one_call_is_what_each_would_be_alone(encoder):
    torch.manual_seed(0)
    model = SlideModel(32, encoder, load("smoke").model).eval()
    model.set_scale("he", torch.full((32,), 3.0), torch.full((32,), 0.5))
    model.set_scale("ihc", torch.full((32,), 2.0), torch.full((32,), 2.0))
    he, ihc = bags([20, 13, 7], 1), bags([9, 31, 16], 2)  # padded to other lengths
    masked = he.mask & (torch.rand(he.mask.shape) < 0.4)
    with torch.no_grad():
        together = model(he, masked, ihc)
        alone = {"z": model.embed(he, "he"), "z_masked": model.embed(he, "he", masked), "y": model.embed(ihc, "ihc")}
    assert set(together) >= set(alone)
    for name, z in alone.items():
        torch.testing.assert_close(together[name], z, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(together["z"], together["z_masked"], atol=1e-3)
