"""Loading: the bundled model, a folder in diffusers' layout, a hub id, a single file."""

from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ..json_file import AGAIN, read_json
from ..model import UNet2DConditionModel, UNetConfig
from .damage import expect_finite, named
from .denoise import Pipeline
from .fast import choose, place
from .files import Search, search_of, weights_in
from .hub import find_pipeline, find_unet
from .kinds import defaults, text_encoders
from .preview import latent_rgb_of
from .sums import verify
from .weights import compare, files_of, header, look_over

TEXT_ENCODERS = "text_encoder", "text_encoder_2"


def load(
    what: str | Path | None = None,
    *,
    device=None,
    dtype=None,
    torch_dtype=None,
    allow_nonfinite: bool = False,
    **search,
) -> Pipeline:
    """A text-to-image pipeline, ready to run: Stable Diffusion 1.x, 2.x, turbo, LCM, SDXL.

    what: None (the bundled model), a folder or hub id in diffusers' layout, or a single
    .safetensors file. device and dtype (torch_dtype is the same): by default CUDA in float16, else
    the CPU in float32; a VAE whose config says force_upcast stays in float32. search: subfolder,
    variant, use_safetensors, revision, token, cache_dir, local_files_only, as diffusers has them.
    An id is looked for in the hub's cache, then on the hub. guidance and steps: see run/kinds.py.
    Raises FileNotFoundError if it cannot be found, and ValueError if it is damaged (weights that
    are NaN or Inf are, unless allow_nonfinite is true) or, before any of its weights is fetched or
    read, if it is of another kind, with the lines that run it.
    """
    device, dtype = choose(device, _one_dtype(dtype, torch_dtype))
    wanted = search_of(dtype != torch.float32, search)
    path = find_pipeline(what, wanted)
    look_over(path, wanted)
    parts = _from_single_file(path) if path.is_file() else _from_folder(path, wanted)
    if not allow_nonfinite:
        for name in ("unet", *TEXT_ENCODERS, "vae"):
            if name in parts:
                expect_finite(path if path.is_file() else path / name, parts[name])
    parts["unet"] = _usable(parts["unet"], device, dtype)
    parts["vae"] = place(parts["vae"], device, _vae_dtype(parts["vae"], dtype))
    for name in TEXT_ENCODERS:
        if name in parts:  # it runs once a prompt: float32 costs nothing there
            parts[name] = parts[name].to(device, torch.float32).eval()
    measured = parts.pop("latent_rgb", None)
    known = latent_rgb_of(parts["vae"]) if measured is None else torch.tensor(measured)
    parts["latent_rgb"] = known
    return Pipeline(**parts)


def load_unet(
    what: str | Path,
    *,
    device=None,
    dtype=None,
    torch_dtype=None,
    allow_nonfinite: bool = False,
    **search,
) -> UNet2DConditionModel:
    """The UNet alone, of any checkpoint whose config is covered: folder or hub id.

    Of a hub id the UNet alone is fetched. Options as load() has them; the UNet is in unet/ or at
    the top, of the subfolder if one is given.
    """
    device, dtype = choose(device, _one_dtype(dtype, torch_dtype))
    wanted = search_of(dtype != torch.float32, search)
    folder = find_unet(what, wanted)
    unet = _read_unet(folder, wanted)
    if not allow_nonfinite:
        expect_finite(folder, unet)
    return _usable(unet, device, dtype)


def _usable(unet: UNet2DConditionModel, device, dtype) -> UNet2DConditionModel:
    """In its place, and one of diffusers' models: who loads it may put it into their pipeline."""
    from .in_diffusers import one_of_theirs

    return place(one_of_theirs(unet), device, dtype)


def _one_dtype(dtype, torch_dtype):
    """diffusers' older name and its newer one mean the same."""
    if dtype is not None and torch_dtype is not None:
        raise TypeError("dtype= and torch_dtype= are the same option: pass one of them")
    return torch_dtype if dtype is None else dtype


def _vae_dtype(vae, dtype: torch.dtype) -> torch.dtype:
    """float32 where the VAE's file says force_upcast: SDXL's gives black pictures in float16.

    diffusers takes it for said where a file does not, as Stable Diffusion 1.x's, which needs none.
    """
    unsaid = "force_upcast" in vae.config.get("_use_default_values", ())
    return torch.float32 if vae.config.force_upcast and not unsaid else dtype


def _from_folder(folder: Path, search: Search) -> dict:
    verify(folder)
    readers = text_encoders(read_json(folder / "model_index.json")["_class_name"])
    unet = _read_unet(folder / "unet", search)

    import diffusers
    import transformers

    options: dict[str, dict[str, Any]] = {
        part: {
            "variant": weights_in(_names(folder / part), search, unet=False)[1],
            "use_safetensors": search.use_safetensors,
            "local_files_only": True,
        }
        for part in (*readers, "vae")
    }
    extras = read_json(folder / "unet_explained.json")
    # As quick as by way of the meta device, for which diffusers asks for accelerate.
    options["vae"]["low_cpu_mem_usage"] = False
    kinds = {
        "text_encoder": transformers.CLIPTextModel,
        "text_encoder_2": transformers.CLIPTextModelWithProjection,
        "vae": diffusers.AutoencoderKL,
    }
    with _no_progress_bars(transformers.utils.logging):
        whole = {part: _read_whole(kinds[part], folder / part, options[part]) for part in options}
    for name in [part.replace("text_encoder", "tokenizer") for part in readers]:
        with named(folder / name):
            whole[name] = transformers.AutoTokenizer.from_pretrained(folder / name)
    with named(folder / "scheduler"):
        written = read_json(folder / "scheduler/scheduler_config.json")
        scheduler = getattr(diffusers.schedulers, written["_class_name"])
        scheduler = scheduler.from_pretrained(folder / "scheduler")
    return {
        **whole,
        **defaults(folder),
        "unet": unet,
        "scheduler": scheduler,
        **({"guidance": extras["guidance"]} if "guidance" in extras else {}),
        **({"known_words": frozenset(extras["known_words"])} if "known_words" in extras else {}),
        **({"latent_rgb": extras["latent_rgb"]} if "latent_rgb" in extras else {}),
    }


def _read_whole(kind: Any, folder: Path, options: dict[str, Any]):
    """A part by its library, which would fill in by chance what its file lacks."""
    with named(folder):
        model, seen = kind.from_pretrained(folder, output_loading_info=True, **options)
    missing = sorted(seen["missing_keys"])
    if missing:
        raise ValueError(
            f"{folder}: its weights lack {len(missing)} tensors, as {missing[0]}{AGAIN}"
        )
    return model


@contextmanager
def _no_progress_bars(logging):
    """A local file loads in less time than a bar takes to read."""
    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    yield
    if enabled:
        logging.enable_progress_bar()


def _from_single_file(path: Path) -> dict:
    """A file with CompVis names, by diffusers' converter; it needs the kind's configs, cached."""
    import diffusers

    try:
        reference = diffusers.StableDiffusionPipeline.from_single_file(
            str(path), safety_checker=None, load_safety_checker=False
        )
    except Exception as error:
        raise ValueError(
            f"{path}: could not be read as a Stable Diffusion checkpoint ({error}). A single file "
            "holds no tokenizer and no configs: those are fetched from the hub the first time"
        ) from error
    unet = _empty_unet(UNetConfig.load(dict(reference.unet.config)))
    unet.load_state_dict(reference.unet.state_dict(), assign=True)
    names = ("tokenizer", "text_encoder", "vae", "scheduler")
    return {"unet": unet} | {name: getattr(reference, name) for name in names}


def _read_unet(folder: Path, search: Search) -> UNet2DConditionModel:
    unet = _empty_unet(UNetConfig.load(folder))
    wanted = {name: tuple(tensor.shape) for name, tensor in unet.state_dict().items()}
    files = files_of(folder, search)
    if all(file.suffix == ".safetensors" for file in files):  # before a tensor is read
        compare(files[0], {n: shape for file in files for n, shape in header(file).items()}, wanted)
    state = {name: tensor for file in files for name, tensor in _read_state(file).items()}
    compare(files[0], {name: tuple(tensor.shape) for name, tensor in state.items()}, wanted)
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            raise ValueError(f"{files[0]}: {name} is {tensor.dtype}, expected floating point")
    unet.load_state_dict(state, assign=True)
    return unet.requires_grad_(True)


def _names(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


def _read_state(file: Path) -> dict[str, torch.Tensor]:
    if file.suffix == ".safetensors":
        return load_file(file)
    with named(file, "get the checkpoint's .safetensors file"):
        state = torch.load(file, map_location="cpu", weights_only=True)
    if isinstance(state, dict) and all(isinstance(value, torch.Tensor) for value in state.values()):
        return state
    raise ValueError(f"{file}: expected tensors by name; get the checkpoint's .safetensors file")


def _empty_unet(config: UNetConfig) -> UNet2DConditionModel:
    """On the meta device: nothing is allocated or initialised that weights will replace."""
    with torch.device("meta"):
        return UNet2DConditionModel(config)
