"""What kind of pipeline a folder holds, by its small files alone, before any weight is read."""

from collections.abc import Callable, Collection
from pathlib import Path

from ..json_file import AGAIN, read_json

PARTS = ("tokenizer", "text_encoder", "unet", "vae", "scheduler")
TWICE = ("tokenizer_2", "text_encoder_2")  # SDXL's second reader of the prompt
TEXT_ENCODERS = "text_encoder", "text_encoder_2"

# The classes that model_index.json names and ux.load runs, and the guidance of diffusers' own call.
GUIDANCE = {
    "StableDiffusionPipeline": 7.5,
    "StableDiffusionXLPipeline": 5.0,
    "LatentConsistencyModelPipeline": 8.5,
}
STEPS = 20  # of a checkpoint that is not distilled: its files name no number, this is our own
IMAGE, HOLE = "prompt, image=picture", "prompt, image=picture, mask_image=mask"
# What a call of the others is given.
CALLS = {
    "StableDiffusionInpaintPipeline": HOLE,
    "StableDiffusionXLInpaintPipeline": HOLE,
    "StableDiffusionInstructPix2PixPipeline": IMAGE,
    "StableDiffusionXLInstructPix2PixPipeline": IMAGE,
    "StableDiffusionDepth2ImgPipeline": IMAGE,
    "StableDiffusionUpscalePipeline": IMAGE,
    "StableDiffusionLatentUpscalePipeline": IMAGE,
    "StableDiffusionImg2ImgPipeline": IMAGE,
    "StableDiffusionXLImg2ImgPipeline": IMAGE,  # SDXL's refiner
    "LatentConsistencyModelImg2ImgPipeline": IMAGE,
    "StableUnCLIPImg2ImgPipeline": "image=picture, prompt=prompt",
    "StableDiffusionImageVariationPipeline": "picture",
    "StableDiffusionControlNetPipeline": IMAGE,
    "StableDiffusionXLControlNetPipeline": IMAGE,
    "StableDiffusionAdapterPipeline": IMAGE,
    "StableDiffusionXLAdapterPipeline": IMAGE,
}


def check_kind(folder: Path) -> None:
    """ValueError, with what does run it, for a pipeline that ux.load does not run."""
    index = read_json(folder / "model_index.json")
    there = [part.name for part in folder.iterdir() if part.is_dir()]
    why = other_kind(index, there, folder) or other_network(
        lambda name: read_json(folder / name), len(text_encoders(index["_class_name"])), folder
    )
    if why:
        raise ValueError(f"{folder}: {why}")
    file = folder / "scheduler" / "scheduler_config.json"
    name = read_json(file).get("_class_name")
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(
            f"{file}: expected the name of diffusers' scheduler as _class_name, got {name!r}{AGAIN}"
        )


def other_kind(index: dict, parts: Collection[str], where: str | Path) -> str | None:
    """Why a pipeline, by its model_index.json and the names of its parts, is not run by ux.load.

    where: its folder or id, for the lines that run it.
    """
    name = index.get("_class_name")
    if not isinstance(name, str):
        return (
            "no model_index.json that names a pipeline's class; a UNet alone: "
            "UNet2DConditionModel.from_pretrained, its shapes: shape_table"
        )
    if name in GUIDANCE:
        needed = PARTS + TWICE if "XL" in name else PARTS
        if needed == PARTS and not _is_null(index.get(TWICE[1], [None])):
            return f"a {name} with two text encoders, which only SDXL's pipeline has"
        missing = [part for part in needed if part not in parts or _is_null(index.get(part))]
        return f"of this {name} there is no {', no '.join(missing)}" if missing else None
    why = f"a {name}, and ux.load runs only {', '.join(GUIDANCE)}"
    unet = index.get("unet")
    if not isinstance(unet, list) or unet[1:] != ["UNet2DConditionModel"]:
        return f"{why}; this one has no UNet2DConditionModel, which is all that is opened here"
    return f"{why}. {lines(name, where)}"


def other_network(read: Callable[[str], dict], encoders: int, where: str | Path) -> str | None:
    """Why a UNet, by its config, needs more than its pipeline's class says that it is given.

    read: of JSON files by name; encoders: how many read the prompt.
    """
    unet, vae = (read(f"{part}/config.json") for part in ("unet", "vae"))
    takes, latents = unet.get("in_channels", 4), vae.get("latent_channels", 4)
    told = {name: unet.get(name) for name in ("class_embed_type", "num_class_embeds")}
    told = {name: value for name, value in told.items() if value is not None}
    added = unet.get("addition_embed_type")
    if takes != latents:
        why = f"takes {takes} channels, and latents have {latents}"
    elif told:
        why = f"is told more than a prompt: {told}"
    elif added != ("text_time" if encoders == 2 else None):
        why = f"has addition_embed_type {added!r}, and there are {encoders} text encoders"
    else:
        return None
    run_by = lines("DiffusionPipeline", where, "..., with what else it needs")
    return f"its unet/config.json is not that of a text-to-image pipeline: it {why}. {run_by}"


def text_encoders(kind: str) -> list[str]:
    """The names of the text encoders that a pipeline's class has."""
    return ["text_encoder", TWICE[1]] if "XL" in kind else ["text_encoder"]


def defaults(folder: Path) -> dict[str, float | int | bool]:
    """A Pipeline's guidance, steps and zeros_for_empty, as far as the folder's files show them.

    No file says that a checkpoint is distilled to few steps. These do show it: a guidance embedding
    (LCM), LCM's or TCD's scheduler, and turbo's, Euler's with trailing steps. Where the scheduler
    was replaced it cannot be known. How many steps the others want no file says: 20 is our own.
    """
    names = ("model_index.json", "unet/config.json", "scheduler/scheduler_config.json")
    return defaults_of(*(read_json(folder / name) for name in names))


def defaults_of(index: dict, unet: dict, scheduler: dict) -> dict[str, float | int | bool]:
    """The same by what those files hold."""
    kind, zeros = index["_class_name"], index.get("force_zeros_for_empty_prompt", True)
    guidance, steps = _told_by(scheduler, unet) or (GUIDANCE[kind], STEPS)
    return {"guidance": guidance, "steps": steps, "zeros_for_empty": "XL" in kind and zeros}


def _told_by(scheduler: dict, unet: dict) -> tuple[float, int] | None:
    """Guidance and steps of what is distilled."""
    if unet.get("time_cond_proj_dim") is not None:
        return GUIDANCE["LatentConsistencyModelPipeline"], 4
    name = scheduler.get("_class_name", "")
    if name in ("LCMScheduler", "TCDScheduler"):
        return 1.0, 4
    trailing = scheduler.get("timestep_spacing") == "trailing"
    zero_snr = scheduler.get("rescale_betas_zero_snr")  # these have trailing steps too
    return (1.0, 1) if name.startswith("Euler") and trailing and not zero_snr else None


def _is_null(part) -> bool:
    """In an index, [null, null] is a part that the pipeline goes without."""
    return isinstance(part, list) and part[:1] == [None]


def lines(
    name: str,
    where: str | Path,
    call: str | None = None,
    loader: str = "DiffusionPipeline.from_pretrained",
) -> str:
    """What runs and records a pipeline of diffusers', by its class; where: a folder, id or file."""
    given = call or CALLS.get(name, "prompt")
    return (
        "diffusers runs it, and its maps are recorded all the same:\n"
        f"    pipe = diffusers.{loader}({str(where)!r})\n"
        "    with ux.record(pipe) as rec:\n"
        f"        out = pipe({given})"
    )
