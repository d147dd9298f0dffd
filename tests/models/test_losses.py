import math

import pytest
import torch

from hsa.errors import InputError
from hsa.models.losses import classification, info_nce, intra_modality


def embeddings(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_intra_modality_by_hand():
    z, masked = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [3.0, 0.0]])
    assert intra_modality(z, masked).item() == pytest.approx((4 + 9) / 4)
    assert intra_modality(2 * z, 2 * masked).item() == pytest.approx(13)  # not normalised


def test_info_nce_by_hand():
    z = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    y = torch.tensor([[3.0, 3.0], [0.0, 5.0]])
    half = math.sqrt(0.5)  # cosines: [[half, 0], [half, 1]]
    rows = [math.log(1 + math.exp(-half)), math.log(1 + math.exp(half - 1))]
    columns = [math.log(2), math.log(1 + math.exp(-1))]
    assert info_nce(z, y, 1.0).item() == pytest.approx((sum(rows) + sum(columns)) / 4, abs=1e-6)


def test_info_nce_limits_and_invariances():
    z, y = embeddings(8, 16), embeddings(8, 16, seed=1)
    loss = info_nce(z, y, 0.1)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(info_nce(y, z, 0.1), loss)
    torch.testing.assert_close(info_nce(z[order], y[order], 0.1), loss)
    torch.testing.assert_close(info_nce(7 * z, 0.1 * y, 0.1), loss)
    assert info_nce(z[order], y, 0.1) != loss
    assert info_nce(z, z).item() == pytest.approx(0, abs=1e-6)
    assert info_nce(torch.ones(8, 4), torch.ones(8, 4)).item() == pytest.approx(math.log(8), abs=1e-5)
    torch.testing.assert_close(info_nce(z, y), info_nce(z, y, 0.01))


def test_info_nce_refuses_a_single_pair():
    with pytest.raises(InputError, match="two pairs"):
        info_nce(embeddings(1, 4), embeddings(1, 4))


def test_info_nce_leaves_out_cases_without_a_partner():
    z, y = embeddings(6, 4), embeddings(6, 4, seed=1)
    paired = torch.tensor([True, False, True, True, False, True])
    torch.testing.assert_close(info_nce(z, y, paired=paired), info_nce(z[paired], y[paired]))
    torch.testing.assert_close(info_nce(z, y, paired=torch.ones(6, dtype=bool)), info_nce(z, y))
    z.requires_grad_()
    alone = info_nce(z, y, paired=torch.arange(6) == 2)
    alone.backward()
    assert alone == 0 and (z.grad == 0).all()


def test_classification_by_hand():
    logits, labels = torch.tensor([[0.0, math.log(3)], [math.log(3), 0.0]]), torch.tensor([1, 1])
    assert classification(logits, labels).item() == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)


def test_losses_are_float32_under_autocast():
    z, y = embeddings(8, 16), embeddings(8, 16, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = z.bfloat16(), y.bfloat16()
        losses = info_nce(*half), intra_modality(*half), classification(half[0], torch.arange(8))
    assert all(loss.dtype == torch.float32 for loss in losses)
    torch.testing.assert_close(losses[0], info_nce(half[0].float(), half[1].float()))


def test_a_slide_without_a_label_does_not_count():
    logits = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, -1, 1, -1])
    expected = classification(logits[[0, 2]], labels[[0, 2]])
    torch.testing.assert_close(classification(logits, labels), expected)
    assert classification(logits, torch.full((4,), -1)) == 0
