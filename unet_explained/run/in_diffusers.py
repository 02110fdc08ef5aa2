"""This package's UNet as one of diffusers' models, which its pipelines load, move and save."""

from functools import wraps

from diffusers import ModelMixin

from ..model import UNet2DConditionModel as Network
from .convert import save


class UNet2DConditionModel(Network, ModelMixin):
    """The network, and that it is a model: diffusers asks it of what is put into a pipeline.

    Of ModelMixin's own methods those act that need no more than a module (num_parameters,
    get_memory_footprint, push_to_hub ...); the network refuses the others.
    """

    # Its signature is theirs: a pipeline passes on those options that it sees there.
    @wraps(ModelMixin.save_pretrained)
    def save_pretrained(self, save_directory, *args, **options):  # type: ignore[override]
        save(self, save_directory, *args, **options)


def one_of_theirs(unet: Network) -> Network:
    """The same object. Its class alone is another, for importing diffusers takes seconds."""
    unet.__class__ = UNet2DConditionModel
    # What model_index.json will name beside the class: who reads the files that it is saved as.
    unet.__module__ = "diffusers"
    return unet
