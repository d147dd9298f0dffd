import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hsa.errors import InputError
from hsa.models import attention
from hsa.models.longnet import LongNet

GOLDEN = np.load(Path(__file__).parents[1] / "data" / "longnet.npz")


def golden_weights(name, shape):
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    x = np.random.Generator(np.random.PCG64(seed)).standard_normal(shape).astype("float32")
    if "norm.weight" in name or name.endswith("inner_attn_ln.weight"):
        return torch.from_numpy(1 + 0.1 * x)
    if name.endswith("bias"):
        return torch.from_numpy(0.05 * x)
    return torch.from_numpy(x / np.sqrt(shape[1]) if len(shape) == 2 else 0.02 * x).float()


def golden_case(case):
    meta = json.loads(str(GOLDEN[f"{case}_meta"]))
    with torch.device("cpu"):
        model = LongNet(
            meta["in_chans"], meta["dim"], meta["depth"], meta["heads"], meta["mlp"],
            meta["segment_length"], meta["dilated_ratio"],
        ).eval()  # fmt: skip
    model.load_state_dict({k: golden_weights(k, s) for k, s in meta["keys"].items()}, strict=True)
    rng = np.random.Generator(np.random.PCG64(meta["seed"]))
    tokens = rng.standard_normal((1, meta["N"], meta["in_chans"])).astype("float32")
    cells = rng.permutation(meta["ngrids"] ** 2)[: meta["N"]]
    coords = np.stack([cells // meta["ngrids"], cells % meta["ngrids"]], -1)[None].astype("float32") * 256
    coords = coords + rng.integers(0, 256, (1, meta["N"], 2))
    return meta, model, torch.from_numpy(tokens), torch.from_numpy(coords)


@pytest.mark.parametrize("case", ["a", "b"])
@pytest.mark.parametrize("plain_scores", [attention.PLAIN_SCORES, 2**14])
def test_equals_the_official_encoder(case, plain_scores, monkeypatch):
    monkeypatch.setattr(attention, "PLAIN_SCORES", plain_scores)
    meta, model, tokens, coords = golden_case(case)
    pool = "mean" if meta["global_pool"] else "cls"
    with torch.inference_mode():
        states = list(model.states(tokens, coords))
        layers = torch.stack([model.pool(s, pool=pool) for s in states])
        out = model.pool(states[-1], final_norm=True, pool=pool)
    assert np.abs(layers.numpy() - GOLDEN[f"{case}_all_layers"]).max() < 1e-5
    assert np.abs(out.numpy() - GOLDEN[f"{case}_encoder_out"]).max() < 1e-5


def small(seed=0, **changes):
    torch.manual_seed(seed)
    settings = {
        "in_dim": 6, "dim": 16, "depth": 3, "heads": 4, "mlp_ratio": 2.0,
        "segment_lengths": [4, 9, 30], "dilated_ratios": [1, 2, 8],
    }  # fmt: skip
    model = LongNet(**settings | changes).eval()
    for parameter in model.parameters():  # biases too, so that padding would show
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def bags(lengths, in_dim=6):
    rng = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(n, in_dim, generator=rng),
            torch.stack([torch.arange(n) % 7, torch.arange(n) // 7], 1) * 256,
        )
        for n in lengths
    ]


def padded(slides):
    longest = max(len(features) for features, _ in slides)
    batch = torch.full((len(slides), longest, slides[0][0].shape[1]), 5.0)
    coords = torch.full((len(slides), longest, 2), -7)
    mask = torch.zeros(len(slides), longest, dtype=torch.bool)
    for i, (features, xy) in enumerate(slides):
        batch[i, : len(xy)], coords[i, : len(xy)], mask[i, : len(xy)] = features, xy, True
    return batch, coords, mask


def reference_attention(q, k, v, segments, ratios):
    """The guide's rules, one query at a time, for one slide: q, k, v (H, N, d)."""
    heads, tokens, width = q.shape
    outputs = torch.zeros(len(ratios), heads, tokens, width)
    lse = torch.full((len(ratios), heads, tokens), -1e8)
    for b, (s, r) in enumerate(zip(segments, ratios, strict=True)):
        size = min(s, tokens)
        for head in range(heads):
            group = head // -(-heads // r)
            for query in range(tokens):
                start = query // size * size
                if (query - start) % r != group:
                    continue
                keys = [start + p for p in range(group, -(-size // r) * r, r)]
                inside = [t < min(start + size, tokens) for t in keys]
                zero = torch.zeros(width)
                key = torch.stack([k[head, t] if ok else zero for t, ok in zip(keys, inside, strict=True)])
                value = torch.stack([v[head, t] if ok else zero for t, ok in zip(keys, inside, strict=True)])
                scores = key @ q[head, query] / width**0.5
                outputs[b, head, query] = scores.softmax(0) @ value
                lse[b, head, query] = scores.logsumexp(0)
    return (lse.softmax(0)[..., None] * outputs).sum(0)


@pytest.mark.parametrize("tokens", [1, 3, 8, 13, 40])
@pytest.mark.parametrize("heads", [4, 6])
def test_dilated_attention_follows_the_published_rules(tokens, heads):
    qkv = torch.randn(3, 1, heads, tokens, 5, generator=torch.Generator().manual_seed(0))
    segments, ratios = [4, 7, 9, 30], [1, 2, 4, 8]
    expected = reference_attention(*qkv[:, 0], segments, ratios)
    got = attention.dilated_attention(qkv, [tokens], segments, ratios)
    torch.testing.assert_close(got[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("lengths", [[3, 3], [2, 3, 1], [5, 12, 9], [40, 3, 12, 8, 33], [60, 29, 30]])
@pytest.mark.parametrize("options", [{}, {"final_norm": True, "layer": 1}, {"pool": "cls", "layer": -2}])
def test_a_slide_does_not_depend_on_its_batch_neighbours(lengths, options):
    model, slides = small(), bags(lengths)
    with torch.inference_mode():
        together = model(*padded(slides), **options)
        alone = torch.cat([model(f[None], xy[None], **options) for f, xy in slides])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def gradients(qkv, lengths):
    qkv = qkv.clone().requires_grad_()
    output = attention.dilated_attention(qkv, lengths, [8, 40], [1, 2])
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    return output.detach(), qkv.grad


@pytest.mark.parametrize("kernel", [attention.CPU_KERNEL, None])
def test_bounded_memory_gives_the_same_output_and_gradient(kernel, monkeypatch):
    qkv = torch.randn(3, 2, 4, 50, 8, generator=torch.Generator().manual_seed(0))
    qkv[:, 1, :, 21:] = 0
    expected = gradients(qkv, [50, 21])
    monkeypatch.setattr(attention, "PLAIN_SCORES", 100)
    monkeypatch.setattr(attention, "CPU_KERNEL", kernel)
    for got, wanted in zip(gradients(qkv, [50, 21]), expected, strict=True):
        got, wanted = got.unbind(-4), wanted.unbind(-4)
        torch.testing.assert_close(got[0], wanted[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(got[1][..., :21, :], wanted[1][..., :21, :], atol=1e-5, rtol=1e-4)


class Counted(TorchDispatchMode):
    """Counts the operators that run, and collects the devices of what they give."""

    def __init__(self):
        super().__init__()
        self.calls, self.devices = [], set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        self.calls.append(func.overloadpacket._qualified_op_name)
        self.devices |= {value.device.type for value in tree_leaves(output) if torch.is_tensor(value)}
        return output


def test_another_device_takes_few_steps_and_nothing_from_the_cpu():
    """On the `meta` device, whose tensors have no values: what a GPU would be asked to do."""
    qkv = torch.empty(3, 36, 16, 4097, 48, device="meta")  # a step of the published training
    with Counted() as counted, torch.no_grad():
        attention.branch(attention.rows_of(qkv), 16, [4097] * 36, 1024, 1)
    assert counted.devices == {"meta"}
    rows, length = 36 * 5 * 16, 1024  # five segments
    steps = -(-rows * length * length // attention.LOOP_SCORES)
    assert steps <= counted.calls.count("aten::logsumexp") <= steps + 1 < 20


def test_branch_weights_carry_no_gradient():
    qkv = torch.randn(3, 1, 1, 6, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    attention.dilated_attention(qkv, [6], [2, 6], [1, 1]).sum().backward()
    pieces = [attention.branch(attention.rows_of(qkv), 1, [6], s, 1) for s in (2, 6)]
    weights = torch.stack([lse for _, lse in pieces]).softmax(0)
    frozen = sum(w.detach()[..., None] * o for w, (o, _) in zip(weights, pieces, strict=True))
    (expected,) = torch.autograd.grad(frozen.sum(), qkv)
    torch.testing.assert_close(qkv.grad, expected)
    assert not weights.requires_grad


def test_positions_are_those_of_the_published_table():
    model = small(dim=16)
    x, y = 999, 3
    w = 10000 ** (-np.arange(4) / 4)
    expected = np.concatenate([np.sin(y * w), np.cos(y * w), np.sin(x * w), np.cos(x * w)])
    got = model.positions(torch.tensor([[[x * 256 + 255, y * 256]]]))[0, 0]
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("corner", [[1000 * 256, 0], [0, -1]])
def test_coordinates_outside_the_grid_are_refused(corner):
    features, coords = bags([4])[0]
    coords[2] = torch.tensor(corner)
    with pytest.raises(InputError, match="grid cell"):
        small()(features[None], coords[None])


def test_bad_arguments_are_refused():
    features, coords = (x[None] for x in bags([4])[0])
    with pytest.raises(InputError, match=r"model\.layer is 4"):
        small()(features, coords, layer=4)
    with pytest.raises(InputError, match=r"model\.pool"):
        small()(features, coords, pool="max")
    with pytest.raises(InputError, match="no tile"):
        small()(features, coords, torch.zeros(1, 4, dtype=torch.bool))
    with pytest.raises(InputError, match="padding last"):
        small()(features, coords, torch.tensor([[False, True, True, True]]))
    with pytest.raises(InputError, match=r"model\.dim"):
        small(dim=18)
    with pytest.raises(InputError, match=r"model\.dilated_ratios"):
        small(dilated_ratios=[1])


def test_layer_norm_and_pool_are_what_they_say():
    model, (features, coords) = small(), (x[None] for x in bags([9])[0])
    with torch.inference_mode():
        states = list(model.states(features, coords))
        for layer in range(-4, 4):
            torch.testing.assert_close(model(features, coords, layer=layer), model.norm(states[layer][:, 1:].mean(1)))
        torch.testing.assert_close(
            model(features, coords, final_norm=True, pool="cls"),
            model.norm(model.encoder.layer_norm(states[-1])[:, 0]),
        )


def test_dropout_and_drop_path_act_in_training_only():
    model, (features, coords) = small(dropout=0.5, drop_path=1.0), (x[None] for x in bags([9])[0])
    assert torch.equal(model(features, coords), model(features, coords))
    model.train()
    assert not torch.equal(model(features, coords), model(features, coords))
    states = list(small(dropout=0.0, drop_path=1.0).train().states(features, coords))
    assert torch.equal(states[3], states[2])  # the last layer is always dropped
    assert not torch.equal(states[1], states[0])  # the first never


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_recomputed_activations_give_equal_gradients(precision):
    results, saved = [], []
    for keep in (False, True):
        model = small(dropout=0.3, drop_path=0.5, checkpoint_activations=keep).train()
        sizes = {}

        def pack(tensor, sizes=sizes):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        torch.manual_seed(5)  # of dropout
        with (
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
            torch.autocast("cpu", precision, enabled=precision is not None),
        ):
            z = model(*padded(bags([40, 12, 33])))
        z.square().sum().backward()
        results.append([z.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
        saved.append(sum(sizes.values()))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True)) and len(results[0]) > 40
    assert saved[1] < saved[0] / 3


def test_autocast_adds_up_in_full_precision():
    model, (features, coords) = small(depth=4), (x[None] for x in bags([30])[0])
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert {state.dtype for state in model.states(features, coords)} == {torch.float32}
