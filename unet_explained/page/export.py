"""The bundled pipeline's networks as ONNX: the package's own modules as they are, and what a page
wants to see of the UNet as further outputs.

onnx and onnxscript are asked for only here.
"""

import copy
import logging
import warnings
from contextlib import contextmanager, redirect_stdout
from io import StringIO

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..model import UNet2DConditionModel, attention_weights
from ..recording.nested import activity, first
from ..run.denoise import Pipeline
from ..run.latents import unnormalised

OPSET = 18
LEAST = 1024  # numbers of a weight that is worth a cast


class Sight:
    """What one forward of an OpenUNet is asked, and what its modules saw, by their names."""

    columns: Tensor  # (batch, token, column): 1 where a token is of a column's word
    place: Tensor  # (2,): a pixel, as shares of height and width

    def __init__(self) -> None:
        self.active: dict[str, Tensor] = {}
        self.features: dict[str, Tensor] = {}
        self.maps: dict[str, Tensor] = {}
        self.looks: dict[str, Tensor] = {}

    def forget(self) -> None:
        """A trace leaves nothing behind."""
        vars(self).clear()
        self.__init__()  # type: ignore[misc]

    def hear(self, name: str, module: nn.Module) -> None:
        def heard(module, args, output) -> None:
            self.active[name] = activity(output)
            self.features[name] = first(output)  # type: ignore[assignment]  # each gives one

        module.register_forward_hook(heard)


class SeenCross(nn.Module):
    """In the place of an attn2's Attend: the same by an explicit softmax, whose weights are kept,
    summed over the tokens of each column."""

    def __init__(self, name: str, sight: Sight) -> None:
        super().__init__()
        self.name, self.sight = name, sight

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        weights = attention_weights(q, k, mask)
        pattern = "batch head query key, batch key column -> batch head column query"
        self.sight.maps[self.name] = einsum(weights, self.sight.columns, pattern)
        pattern = "batch head query key, batch head key head_dim -> batch head query head_dim"
        return einsum(weights, v, pattern)


class SeenSelf(nn.Module):
    """In the place of an attn1's Attend: the same, and where one pixel looks."""

    def __init__(self, name: str, sight: Sight, attend: nn.Module) -> None:
        super().__init__()
        self.name, self.sight, self.attend = name, sight, attend

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        side = round(q.shape[2] ** 0.5)  # the page's latents are square
        row, column = (self.sight.place * side).to(torch.int64).unbind()
        pixel = rearrange(row * side + column, " -> 1")
        weights = attention_weights(torch.index_select(q, 2, pixel), k, mask)
        self.sight.looks[self.name] = rearrange(weights, "batch head 1 key -> batch head key")
        return self.attend(q, k, v, mask)


class OpenUNet(nn.Module):
    """A copy of a UNet that also gives its words' maps, one pixel's looks, and of its parts the
    activity and what they give.

    parts: the modules that are told of, in this order.
    """

    def __init__(self, unet: UNet2DConditionModel, parts: list[str]) -> None:
        super().__init__()
        self.unet, self.sight, self.parts = copy.deepcopy(unet), Sight(), parts
        modules = dict(self.unet.named_modules())
        self.crosses = [name for name in modules if name.endswith(".attn2")]
        self.selves = [name for name in modules if name.endswith(".attn1")]
        for name in self.crosses:
            modules[name].attend = SeenCross(name, self.sight)
        for name in self.selves:
            modules[name].attend = SeenSelf(name, self.sight, modules[name].attend)
        for name in parts:
            self.sight.hear(name, modules[name])

    def forward(
        self,
        sample: Float[Tensor, "batch channel height width"],
        timestep: Float[Tensor, "1"],
        context: Float[Tensor, "batch token text"],
        columns: Float[Tensor, "batch token column"],
        place: Float[Tensor, "2"],
    ) -> tuple[Tensor, ...]:
        """The outputs, in their order; of a layer (batch, head, column, query), of attn1 keys, of a
        part what it gives."""
        sight = self.sight
        sight.columns, sight.place = columns, place
        prediction = self.unet(sample, timestep, context).sample
        active = torch.stack([sight.active[name] for name in self.parts])
        maps = [sight.maps[name] for name in self.crosses]
        looks = [sight.looks[name] for name in self.selves]
        features = [sight.features[name] for name in self.parts]
        sight.forget()
        return prediction, active, *maps, *looks, *features

    @property
    def outputs(self) -> list[str]:
        return ["prediction", "activity", *self.crosses, *self.selves, *self.parts]


class Reader(nn.Module):
    """A text encoder, ids to embeddings."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: Int[Tensor, "1 token"]) -> Float[Tensor, "1 token text"]:
        return self.encoder(ids)[0]


class Painter(nn.Module):
    """A VAE's decoder, latents to a picture from -1 to 1."""

    def __init__(self, vae) -> None:
        super().__init__()
        self.vae = vae

    def forward(
        self, latents: Float[Tensor, "1 channel height width"]
    ) -> Float[Tensor, "1 rgb height_out width_out"]:
        return self.vae.decode(unnormalised(self.vae, latents)).sample


def exported(pipe: Pipeline, parts: list[str]) -> dict[str, bytes]:
    """ONNX files of "text", "unet" and "vae", of float32 on the CPU; parts: see OpenUNet.

    Weights that float16 holds exactly are stored as such. Two exports are equal, byte for byte.
    """
    opened = OpenUNet(pipe.unet, parts).eval()
    tokens, (side, width) = pipe.tokenizer.model_max_length, sizes_of(pipe)
    latents = torch.zeros(2, pipe.vae.config.latent_channels, side, side)
    context = torch.zeros(2, tokens, width)
    columns = torch.zeros(2, tokens, 3)
    given = (latents, torch.zeros(1), context, columns, torch.zeros(2))
    batch = torch.export.Dim("batch", min=1, max=2)
    column = torch.export.Dim("column", min=2, max=tokens)
    shapes = ({0: batch}, None, {0: batch}, {0: batch, 2: column}, None)
    names = ["sample", "timestep", "context", "columns", "place"]
    ids = torch.zeros(1, tokens, dtype=torch.long)
    return {
        "text": _onnx(Reader(pipe.text_encoder).eval(), (ids,), ["ids"], ["context"]),
        "unet": _onnx(opened, given, names, opened.outputs, shapes),
        "vae": _onnx(Painter(pipe.vae).eval(), (latents[:1],), ["latents"], ["picture"]),
    }


def sizes_of(pipe: Pipeline) -> tuple[int, int]:
    """The latents' side, and the width of a token's embedding."""
    side, encoder = pipe.unet.config.sample_size, pipe.text_encoder.config
    return side, encoder.hidden_size  # type: ignore[return-value,union-attr]


@torch.no_grad()
def _onnx(
    module: nn.Module, given: tuple, names: list[str], outputs: list[str], shapes=None
) -> bytes:
    with _quiet():
        program = torch.onnx.export(
            module, given, input_names=names, output_names=outputs, opset_version=OPSET,
            dynamic_shapes=shapes, dynamo=True, verbose=False,
        )  # fmt: skip
    assert program is not None  # it is with dynamo=True
    return smaller(program.model_proto)


def smaller(model) -> bytes:
    """Without traces of where each node came from; weights in float16 where that is the same."""
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size >= LEAST and _is_half(values):
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
            node = helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT)
            casts.append(node)
    nodes = [*casts, *graph.node]
    del graph.node[:], graph.value_info[:], model.metadata_props[:], model.functions[:]
    graph.node.extend(nodes)
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output, graph, model):
        part.doc_string = ""
        del part.metadata_props[:]
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{number}"
    return model.SerializeToString(deterministic=True)


def _is_half(values: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        return bool((values.astype(np.float16).astype(np.float32) == values).all())


@contextmanager
def _quiet():
    """The exporter tells its progress on stdout, and what it lacks as warnings and by a log."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
