import torch

from hsa.models.pooling import GatedABMIL, MeanPool


def padded_batch():
    generator = torch.Generator().manual_seed(0)
    bags = [torch.randn(n, 6, generator=generator) for n in (3, 7, 5)]
    batch = torch.full((3, 7, 6), 9.0)  # padding that would show
    mask = torch.zeros(3, 7, dtype=torch.bool)
    for i, bag in enumerate(bags):
        batch[i, : len(bag)], mask[i, : len(bag)] = bag, True
    return bags, batch, mask


def encoders():
    torch.manual_seed(0)
    return [MeanPool(6), GatedABMIL(6, 8, 4, dropout=0.5).eval()]


def test_a_slide_does_not_depend_on_its_batch_neighbours():
    bags, batch, mask = padded_batch()
    coords = torch.zeros(3, 7, 2)
    for encoder in encoders():
        together = encoder(batch, coords, mask)
        alone = torch.cat([encoder(bag[None], coords[:1, : len(bag)]) for bag in bags])
        torch.testing.assert_close(together, alone)


def test_the_order_of_tiles_plays_no_part():
    bags, _, _ = padded_batch()
    for encoder in encoders():
        torch.testing.assert_close(encoder(bags[1][None], None), encoder(bags[1].flip(0)[None], None))


def test_mean_pool_by_hand():
    bag = torch.tensor([[[1.0, 0.0], [3.0, 4.0], [50.0, 50.0]]])
    mask = torch.tensor([[True, True, False]])
    torch.testing.assert_close(MeanPool(2)(bag, None, mask), torch.tensor([[2.0, 2.0]]))


def test_attention_is_the_published_formula():
    torch.manual_seed(0)
    encoder = GatedABMIL(6, 8, 4).eval()
    bags, _, _ = padded_batch()
    h = torch.relu(bags[0] @ encoder.embed[0].weight.T + encoder.embed[0].bias)
    tanh = torch.tanh(h @ encoder.tanh.weight.T + encoder.tanh.bias)
    gate = torch.sigmoid(h @ encoder.gate.weight.T + encoder.gate.bias)
    scores = ((tanh * gate) @ encoder.score.weight.T).squeeze(-1)
    weights = scores.exp() / scores.exp().sum()
    torch.testing.assert_close(encoder(bags[0][None], None)[0], weights @ h)
    torch.testing.assert_close(encoder.attention(h[None])[0], weights)


def test_padding_gets_no_attention():
    _, batch, mask = padded_batch()
    encoder = encoders()[1]
    weights = encoder.attention(encoder.embed(batch), mask)
    assert (weights[~mask] == 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(3))
