"""Properties: random configs and inputs, against diffusers, slow loops, and what must not matter.

More of them by one command: UNET_EXAMPLES=200 python -m pytest -n 0 tests/test_limits_properties.py
"""

import math
import os

import diffusers
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from model_reference import (
    CROSS,
    NARROW,
    SHALLOW,
    adapter,
    cast,
    controlnet,
    error,
    inputs_of,
    ours_of,
    randomise,
    recorded,
)  # fmt: skip
from recording_helpers import of_a_run
from torch import nn

from unet_explained.model import UNet2DConditionModel, attention_weights
from unet_explained.model.attention import GEGLU, Attention
from unet_explained.model.embeddings import Timesteps
from unet_explained.model.resnet import TimeShift
from unet_explained.recording import record

EXAMPLES = int(os.environ.get("UNET_EXAMPLES", "20"))
ADDED = dict(
    addition_embed_type="text_time",
    addition_time_embed_dim=4,
    projection_class_embeddings_input_dim=10 + 6 * 4,
)
CLASSES = (
    {},
    dict(num_class_embeds=7),
    dict(class_embed_type="timestep"),
    dict(class_embed_type="identity"),
    dict(class_embed_type="projection", projection_class_embeddings_input_dim=34),
    dict(class_embed_type="simple_projection", projection_class_embeddings_input_dim=34),
)


def several(test):
    """A few examples in the suite, always the same; as many as are asked for by the command.

    A failing one is shown as it was drawn: to make it smaller takes minutes, each is a network.
    """
    return settings(
        max_examples=EXAMPLES, deadline=None, derandomize="UNET_EXAMPLES" not in os.environ,
        database=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate],
    )(test)  # fmt: skip


@st.composite
def configs(draw) -> dict:
    """The whole option space, on one to three narrow levels, as config.json has it."""
    levels = draw(st.integers(1, 3))

    def each(values):
        return st.lists(values, min_size=levels, max_size=levels)

    def any_of(*values):
        return draw(st.sampled_from(values))

    layers = draw(st.integers(1, 2) | each(st.integers(1, 2)))
    counts = layers if isinstance(layers, list) else [layers] * levels
    depths, upward = draw(st.integers(0, 2) | each(st.integers(0, 2))), None
    if any_of(False, True):
        depths = [draw(st.integers(1, 2) | _list(n)) for n in counts]
        upward = [draw(st.integers(0, 2) | _list(n + 1)) for n in counts[::-1]]
    options = dict(
        in_channels=draw(st.integers(1, 5)),
        out_channels=draw(st.integers(1, 5)),
        block_out_channels=draw(each(st.sampled_from([8, 16, 24]))),
        norm_num_groups=any_of(1, 2, 4, 8),
        attention_head_dim=draw(st.sampled_from([1, 2, 4, 8]) | each(st.sampled_from([1, 2, 4]))),
        cross_attention_dim=any_of(6, [6] * levels),
        down_block_types=[f"{kind}DownBlock2D" for kind in draw(each(KINDS))],
        up_block_types=[f"{kind}UpBlock2D" for kind in draw(each(KINDS))],
        mid_block_type=any_of("UNetMidBlock2DCrossAttn", "UNetMidBlock2D", None),
        only_cross_attention=draw(st.booleans() | each(st.booleans())),
        layers_per_block=layers,
        transformer_layers_per_block=depths,
        reverse_transformer_layers_per_block=upward,
        downsample_padding=any_of(0, 1),
        mid_block_scale_factor=any_of(1, 1.7, 0.5),
        dropout=any_of(0.0, 0.3),
        act_fn=any_of("silu", "swish", "mish", "gelu", "relu"),
        norm_eps=any_of(1e-5, 1e-3),
        use_linear_projection=any_of(False, True),
        upcast_attention=any_of(False, True),
        time_cond_proj_dim=any_of(None, 6),
        resnet_time_scale_shift=any_of("default", "scale_shift"),
        conv_in_kernel=any_of(1, 3, 5),
        conv_out_kernel=any_of(1, 3, 5),
        center_input_sample=any_of(False, True),
        flip_sin_to_cos=any_of(False, True),
        freq_shift=any_of(0, 1, 0.5),
    )
    return options | draw(st.sampled_from(CLASSES)) | any_of({}, ADDED)


KINDS = st.sampled_from(["", "CrossAttn"])


def _list(count: int):
    return st.lists(st.integers(0, 2), min_size=count, max_size=count)


@st.composite
def forwards(draw, options: dict) -> dict:
    """Arguments of a forward that a model of this config may be given, odd sizes among them."""
    batch, tokens = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    size = draw(st.integers(2, 13)), draw(st.integers(2, 13))
    inputs = inputs_of(options, size=size, batch=batch, tokens=tokens)
    times = draw(st.sampled_from([417, torch.tensor(3.5), torch.tensor([999, 0, 250])[:batch]]))
    inputs["timestep"] = times
    if "timestep_cond" in inputs and draw(st.booleans()):
        del inputs["timestep_cond"]
    if draw(st.booleans()):
        inputs["encoder_attention_mask"] = draw(masks(batch, tokens))
    if draw(st.integers(0, 3)) == 0:
        keys = draw(st.sampled_from([tokens, size[0] * size[1]]))
        inputs["attention_mask"] = draw(masks(batch, keys))
    return inputs


@st.composite
def masks(draw, batch: int, keys: int) -> torch.Tensor:
    """Of ones and zeros; a row may be all zeros."""
    dtype = draw(st.sampled_from([torch.bool, torch.int64, torch.float32]))
    seed = draw(st.integers(0, 99))
    return torch.randint(0, 2, (batch, keys), generator=torch.Generator().manual_seed(seed)).to(
        dtype
    )


def outcome(model: nn.Module, inputs: dict) -> torch.Tensor | Exception:
    """What a forward gives, or what it raises; diffusers takes from the lists that it is given."""
    own = {name: list(v) if isinstance(v, list) else v for name, v in inputs.items()}
    try:
        with torch.no_grad():
            return model(**own).sample
    except Exception as refusal:
        return refusal


def made(options: dict) -> tuple[nn.Module | Exception, nn.Module | Exception]:
    """diffusers' random model and ours with its weights, or what each raises."""
    torch.manual_seed(0)
    models: list = []
    for kind in (diffusers.UNet2DConditionModel, UNet2DConditionModel):
        try:
            models.append(kind.from_config(options).eval())
        except Exception as refusal:
            models.append(refusal)
    reference, ours = models
    if not any(isinstance(model, Exception) for model in models):
        ours = ours_of(options, randomise(reference)).eval()
    return reference, ours


def residuals(data, reference: nn.Module, inputs: dict) -> dict:
    """A ControlNet's, a T2I-Adapter's, both or none, of the sizes that this forward has."""
    seen, levels = recorded(reference, inputs), len(reference.down_blocks)
    found = {}
    if "mid_block" in seen and data.draw(st.booleans(), "ControlNet"):
        found |= controlnet(seen, levels)
    if data.draw(st.booleans(), "T2I-Adapter"):
        mid = "mid_block" in seen and data.draw(st.booleans(), "mid")
        found |= adapter(seen | {"mid_block": seen.get("mid_block", [])}, reference, mid)
    return found


@pytest.mark.slow
@several
@given(options=configs(), dtype=st.sampled_from([torch.float32, torch.bfloat16]), data=st.data())
def test_a_random_config_gives_what_diffusers_gives(options, dtype, data):
    """Bit for bit; and what diffusers cannot run is refused in words, before any work."""
    reference, ours = made(options)
    inputs = data.draw(forwards(options), "inputs")
    if not isinstance(outcome(reference, inputs), Exception):
        inputs = inputs | residuals(data, reference, inputs)
    inputs, reference, ours = cast(inputs, dtype), reference.to(dtype), ours.to(dtype)
    expected, actual = outcome(reference, inputs), outcome(ours, inputs)
    if isinstance(expected, Exception):
        assert type(actual) is ValueError, (expected, actual)
    elif isinstance(actual, Exception):
        # diffusers adds zeros to a mask of another length, or one number to every key.
        assert type(actual) is ValueError, actual
        assert str(actual).startswith("attention_mask: "), actual
    else:
        assert torch.equal(actual, expected)


# What makes a config none, or another than it says; a number in the place of [level] is for all.
BREAKS = {
    "attention_head_dim": (3, 5, [1], [2] * 5),
    "norm_num_groups": (3, 5, 7, 16),
    "block_out_channels": ([6], [7, 8], [8, 12, 10]),
    "down_block_types": (["AttnDownBlock2D"], ["DownBlock2D"] * 4, ["UpBlock2D"] * 2),
    "up_block_types": (["SkipUpBlock2D"], ["UpBlock2D"] * 4, ["DownBlock2D"] * 2),
    "mid_block_type": ("UNetMidBlock2DSimpleCrossAttn", "MidBlock"),
    "only_cross_attention": ([True] * 4,),
    "layers_per_block": ([1] * 4, 0),
    "cross_attention_dim": ([6] * 4, [6, 8]),
    "transformer_layers_per_block": ([1] * 4, [[1], [1]]),
    "act_fn": ("tanh", "SiLU!"),
    "class_embed_type": ("projection", "simple_projection", "identity2"),
    "addition_embed_type": ("text_time", "text", "image"),
    "resnet_time_scale_shift": ("spatial", "none"),
    "time_embedding_type": ("fourier", "cosine"),
    "conv_in_kernel": (0, 2),
    "num_class_embeds": (0,),
}


@pytest.mark.slow
@several
@given(options=configs(), option=st.sampled_from(sorted(BREAKS)), data=st.data())
def test_a_config_that_diffusers_refuses_is_refused_by_name(options, option, data):
    """And what we alone refuse is named, as an option that is not covered."""
    options = options | {option: data.draw(st.sampled_from(BREAKS[option]), option)}
    reference, ours = made(options)
    if isinstance(ours, Exception):
        assert type(ours) is ValueError, ours
        assert "expected" in str(ours) or "not covered" in str(ours) or "takes" in str(ours), ours
        return
    assert not isinstance(reference, Exception), reference
    inputs = inputs_of(options, size=(8, 8), batch=1)
    assert torch.equal(outcome(ours, inputs), outcome(reference, inputs))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


SMALL = st.integers(1, 4)


@several
@given(batch=SMALL, queries=SMALL, keys=SMALL, heads=SMALL, width=SMALL, masked=st.booleans())
def test_attention_is_each_head_on_its_own_channels(batch, queries, keys, heads, width, masked):
    channels = heads * width
    attention = Attention(channels, heads, 3).requires_grad_(False)
    x, text = normal(batch, queries, channels), normal(batch, keys, 3, seed=1)
    mask = -1e4 * (normal(batch, keys, seed=2) > 0) if masked else None
    q, k, v = attention.to_q(x), attention.to_k(text), attention.to_v(text)
    merged = torch.zeros(batch, queries, channels)
    for b in range(batch):
        for head in range(heads):
            own = slice(head * width, (head + 1) * width)
            for i in range(queries):
                scores = [float(q[b, i, own] @ k[b, j, own]) / width**0.5 for j in range(keys)]
                scores = torch.tensor(scores) + (0 if mask is None else mask[b])
                shares = (scores - scores.max()).exp()
                for j in range(keys):
                    merged[b, i, own] += shares[j] / shares.sum() * v[b, j, own]
    assert error(attention(x, text, mask), attention.to_out(merged)) < 1e-4


@several
@given(batch=SMALL, queries=SMALL, channels=SMALL, hidden=SMALL)
def test_geglu_takes_its_values_from_the_first_half(batch, queries, channels, hidden):
    geglu, x = GEGLU(channels, hidden).requires_grad_(False), normal(batch, queries, channels)
    both, found = geglu.proj(x), geglu(x)
    for b in range(batch):
        for i in range(queries):
            for n in range(hidden):
                value, gate = both[b, i, n], both[b, i, hidden + n]
                assert torch.isclose(found[b, i, n], value * F.gelu(gate), rtol=1e-5)


@several
@given(batch=SMALL, channels=SMALL, height=SMALL, width=SMALL)
def test_time_is_one_number_a_channel_for_every_pixel(batch, channels, height, width):
    picture, time = normal(batch, channels, height, width), normal(batch, channels, seed=1)
    found = picture + TimeShift()(time)
    for b in range(batch):
        for c in range(channels):
            for y in range(height):
                for x in range(width):
                    assert found[b, c, y, x] == picture[b, c, y, x] + time[b, c]


@several
@given(
    times=st.lists(st.integers(0, 999) | st.floats(0, 999), min_size=1, max_size=4),
    half=st.integers(2, 20),
    cos_first=st.booleans(),
    shift=st.sampled_from([0, 1, 0.5]),
)
def test_a_time_is_sinusoids_from_one_to_a_ten_thousandth(times, half, cos_first, shift):
    found = Timesteps(2 * half, cos_first, shift)(torch.tensor(times))
    for row, t in zip(found.tolist(), times):
        for i in range(half):
            angle = t * 10000 ** (-i / (half - shift))
            waves = math.cos(angle), math.sin(angle)
            pair = row[i], row[half + i]
            expected = waves if cos_first else waves[::-1]
            # The angle itself is a float32, of some 1000.
            assert max(abs(a - b) for a, b in zip(pair, expected)) < 5e-4


TINY = NARROW | SHALLOW | CROSS
LAYERS = ("down_blocks.0.attentions.0", "mid_block.attentions.0", "up_blocks.1.attentions.1")
WHERE = st.sampled_from([f"{name}.transformer_blocks.0.attn2" for name in LAYERS])


@st.composite
def pictures(draw, narrowest: int = 2) -> dict:
    """Arguments of a forward of a few pictures of any size and text of any length."""
    size = draw(st.integers(2, 9)), draw(st.integers(narrowest, narrowest + 7))
    count, tokens = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    return inputs_of(TINY, size=size, batch=count, tokens=tokens)


def sharp(times: float = 8) -> UNet2DConditionModel:
    """Each pixel prefers a token: else all maps would be alike."""
    unet = randomise(UNet2DConditionModel.from_config(TINY, seed=0)).requires_grad_(False)
    for name, parameter in unet.named_parameters():
        if "to_q" in name or "to_k" in name:
            parameter.mul_(times)
    return unet


UNET, CALM = sharp(), sharp(1)
# A sharp network makes of a last digit of float32 another map; of float64's nothing that is kept.
EXACT = sharp().double()


def maps(inputs: dict, layer: str, unet: UNet2DConditionModel = UNET, **options) -> torch.Tensor:
    """The weights (picture, query, key) of a layer."""
    count = len(inputs["sample"])
    named = of_a_run(conditional=slice(0, count), batch=count)
    with record(unet, **options) as rec, named:
        unet(**inputs)
    return torch.stack([rec.weights(layer, picture=i) for i in range(count)])


def of_rows(inputs: dict, rows: list[int]) -> dict:
    """Some of the pictures, in this order."""
    return {n: v[rows] if n != "timestep" else v for n, v in inputs.items()}


STORED = 2**-10  # what float16 may take from a weight of one


@pytest.mark.slow
@several
@given(inputs=pictures(), layer=WHERE, data=st.data())
def test_the_order_of_the_batch_makes_no_difference(inputs, layer, data):
    order = data.draw(st.permutations(range(len(inputs["sample"]))), "order")
    inputs = cast(inputs, torch.float64)
    found, other = (maps(each, layer, EXACT) for each in (inputs, of_rows(inputs, order)))
    assert torch.allclose(other, found[order], atol=STORED)


@pytest.mark.slow
@several
@given(inputs=pictures(), layer=WHERE)
def test_the_number_of_pictures_makes_no_difference(inputs, layer):
    inputs = cast(inputs, torch.float64)
    found = maps(inputs, layer, EXACT)
    for i in range(len(found)):
        alone = maps(of_rows(inputs, [i]), layer, EXACT)[0]
        assert torch.allclose(alone, found[i], atol=STORED)


@pytest.mark.slow
@several
@given(inputs=pictures(), layer=WHERE, dtype=st.sampled_from([torch.bool, torch.float32]))
def test_a_mask_of_ones_makes_no_difference(inputs, layer, dtype):
    ones = torch.ones(inputs["encoder_hidden_states"].shape[:2], dtype=dtype)
    masked = inputs | {"encoder_attention_mask": ones}
    assert torch.equal(UNET(**masked).sample, UNET(**inputs).sample)
    assert torch.equal(maps(masked, layer), maps(inputs, layer))


DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16])
# torch's convolutions of stride 2 in bfloat16 read memory that nobody wrote where two pixels or
# fewer are side by side (docs/limits.md), and a U of four levels has three, each at half the width.
NARROWEST = 9


@pytest.mark.slow
@several
@given(inputs=pictures(NARROWEST), layer=WHERE, dtype=DTYPES)
def test_a_map_is_of_the_queries_and_keys_of_its_dtype(inputs, layer, dtype):
    unet, heard = sharp().to(dtype), []
    attend = unet.get_submodule(f"{layer}.attend")
    attend.register_forward_pre_hook(lambda _, args: heard.append(args[:2]))
    found = maps(cast(inputs, dtype), layer, unet)
    ((q, k),) = heard
    scores = q.double() @ k.double().mT / math.sqrt(q.shape[-1])
    assert torch.allclose(found.double(), scores.softmax(dim=-1).mean(dim=1), atol=STORED)


@pytest.mark.slow
@several
@given(
    inputs=pictures(NARROWEST),
    layer=WHERE,
    dtype=st.sampled_from([torch.float64, torch.bfloat16]),
)
def test_the_dtype_makes_as_little_difference_as_it_rounds(inputs, layer, dtype):
    """Of a calm network: a sharp one makes of a last digit another picture, in any code."""
    found = maps(inputs, layer, CALM)
    other = maps(cast(inputs, dtype), layer, sharp(1).to(dtype))
    # Rounded to 8 bits, what comes through the whole network is off by a few of the last.
    rounding = 2**-6 if dtype == torch.bfloat16 else STORED
    assert torch.allclose(other, found, atol=rounding)


@pytest.mark.slow
@several
@given(inputs=pictures(), layer=WHERE, data=st.data())
def test_the_order_of_the_tokens_is_that_of_the_keys(inputs, layer, data):
    inputs = cast(inputs, torch.float64)
    text = inputs["encoder_hidden_states"]
    order = data.draw(st.permutations(range(text.shape[1])), "order")
    other = maps(inputs | {"encoder_hidden_states": text[:, order]}, layer, EXACT)
    assert torch.allclose(other, maps(inputs, layer, EXACT)[..., order], atol=STORED)


@pytest.mark.slow
@several
@given(inputs=pictures(), layer=WHERE)
def test_weights_are_shares_and_each_way_of_keeping_them_says_the_same(inputs, layer):
    with (
        record(UNET) as mean,
        record(UNET, attention="heads") as heads,
        record(UNET, attention="sum") as summed,
        of_a_run(2, conditional=slice(0, len(inputs["sample"])), batch=len(inputs["sample"])),
    ):
        for t in (900, 100):
            UNET(**inputs | {"timestep": torch.tensor(t)})
    where = dict(layer=layer, picture=0)
    whole = mean.weights(**where)
    tokens = whole.shape[-1]
    assert whole.min() >= 0
    assert torch.allclose(whole.sum(dim=-1), torch.ones(len(whole)), atol=tokens * STORED)
    each = [heads.weights(head=head, **where) for head in range(2)]
    assert torch.allclose(torch.stack(each).mean(dim=0), whole, atol=STORED)
    steps = [mean.weights(step=step, **where) for step in range(2)]
    assert torch.allclose(torch.stack(steps).mean(dim=0), whole, atol=STORED)
    assert torch.allclose(summed.weights(**where), whole, atol=STORED)
    total = sum(mean.attention(token=token, picture=0) for token in range(tokens))
    assert torch.allclose(total, torch.ones_like(total), atol=tokens * STORED)


@several
@given(batch=SMALL, heads=SMALL, queries=SMALL, keys=SMALL, width=SMALL)
def test_weights_are_those_that_the_fused_kernel_uses(batch, heads, queries, keys, width):
    q, k = normal(batch, heads, queries, width), normal(batch, heads, keys, width, seed=1)
    v = torch.eye(keys).expand(batch, heads, keys, keys)
    used = F.scaled_dot_product_attention(q, k, v)
    assert torch.allclose(attention_weights(q, k), used, atol=1e-6)
