"""One forward of the full-size SD 1.5 UNet: ours against diffusers' on the same weights."""

import gc

import torch

import unet_explained as ux

from .timing import interleaved, table


def reference_unet():
    """diffusers' UNet of SD 1.5's config, with random weights."""
    import diffusers

    torch.manual_seed(0)
    config = ux.UNetConfig.load("sd15").to_dict()
    return diffusers.UNet2DConditionModel.from_config(config).eval()


def our_unet(reference):
    """Ours with the reference's weights, as load() would place it: in channels_last."""
    with torch.device("meta"):
        unet = ux.UNet2DConditionModel(ux.UNetConfig.load("sd15"))
    unet.load_state_dict(reference.state_dict(), assign=True)
    return unet.to(memory_format=torch.channels_last).eval()


def inputs(device, dtype) -> tuple:
    """Latents, timestep and text of one step under guidance: batch 2, 64 x 64, 77 tokens."""
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(2, 4, 64, 64, generator=generator)
    text = torch.randn(2, 77, 768, generator=generator)
    timestep = torch.tensor(500, device=device)
    return sample.to(device, dtype), timestep, text.to(device, dtype)


@torch.no_grad()
def forward(device: str, dtype: torch.dtype, rounds: int, as_it_comes: bool = False) -> str:
    """A table of times and of errors against the reference's float32 output."""
    theirs = reference_unet()
    exact = theirs(*inputs("cpu", torch.float32)).sample
    theirs, given = theirs.to(device, dtype), inputs(device, dtype)
    ours = our_unet(theirs)

    def recorded():
        with ux.record(ours):
            return ours(*given)

    contenders = {"ours": lambda: ours(*given), "ours, default recording": recorded}
    outputs = {name: work().sample for name, work in contenders.items()}
    if as_it_comes:
        contenders = {"diffusers as it comes": lambda: theirs(*given)} | contenders
        outputs["diffusers as it comes"] = theirs(*given).sample
    else:
        theirs = theirs.to(memory_format=torch.channels_last)
        contenders = {"diffusers, channels_last": lambda: theirs(*given)} | contenders
        outputs["diffusers, channels_last"] = theirs(*given).sample
    times = interleaved(contenders, rounds)
    base = next(iter(times.values())).median
    rows = [
        (name, time, f"{time.median / base:.3f}", f"{_error(outputs[name], exact):.1e}")
        for name, time in times.items()
    ]
    if device == "cuda":
        rows.append(("peak memory of ours", _peak(lambda: ours(*given)), "", ""))
    del theirs, ours
    gc.collect()
    title = f"SD 1.5 forward, {device}, {str(dtype).removeprefix('torch.')}"
    title += "" if as_it_comes else ", all in channels_last"
    return table(title, rows, ("", "median (least to most)", "of the first", "error"))


def _error(output, exact) -> float:
    """The largest difference to the reference in float32, over the largest value."""
    return ((output.float().cpu() - exact).abs().max() / exact.abs().max()).item()


def _peak(work) -> str:
    torch.cuda.reset_peak_memory_stats()
    work()
    return f"{torch.cuda.max_memory_allocated() / 1e9:.2f} GB"
