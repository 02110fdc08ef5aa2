"""What diffusers' UNet2DConditionModel has and this one has not: said, never passed over."""

METHODS = """
    add_adapter set_adapter set_adapters active_adapters delete_adapters enable_adapters
    disable_adapters load_lora_adapter save_lora_adapter fuse_lora unfuse_lora unload_lora
    enable_lora disable_lora enable_lora_hotswap load_attn_procs save_attn_procs
    _load_ip_adapter_weights process_encoder_hidden_states
    enable_freeu disable_freeu fuse_qkv_projections unfuse_qkv_projections
    set_attn_processor set_default_attn_processor set_attention_slice
    set_attention_backend reset_attention_backend
    set_use_memory_efficient_attention_xformers enable_xformers_memory_efficient_attention
    disable_xformers_memory_efficient_attention
    set_use_npu_flash_attention enable_npu_flash_attention disable_npu_flash_attention
    set_use_xla_flash_attention enable_xla_flash_attention disable_xla_flash_attention
    enable_gradient_checkpointing disable_gradient_checkpointing
    enable_layerwise_casting enable_parallelism compile_repeated_blocks dequantize
    from_single_file load_config save_config get_config_dict extract_init_dict
    register_to_config register_for_auto_class to_json_string to_json_file
"""
ATTRIBUTES = (
    "attn_processors", "encoder_hid_proj", "num_upsamplers", "sample_size", "time_embed_act",
    "has_compatibles", "ignore_for_config", "text_encoder_name", "unet_name",
)  # fmt: skip


def _sentence(name: str) -> str:
    return (
        f"{name} is of diffusers' UNet2DConditionModel, not of this package's: use "
        "ux.to_diffusers(unet), which shares its tensors; ux.from_diffusers is the way back"
    )


def _refused(name: str):
    def refuse(*_, **__):
        raise AttributeError(_sentence(name))

    return refuse


class Lacking:
    """A base of the UNet, by which it answers for each of those names."""

    def __getattr__(self, name: str):
        if name in ATTRIBUTES:  # so that hasattr is False
            raise AttributeError(_sentence(name))
        return super().__getattr__(name)  # type: ignore[misc]  # torch's, which finds modules


# There to be called: where diffusers asks for one with hasattr, it would pass over its absence.
for _name in METHODS.split():
    setattr(Lacking, _name, _refused(_name))
