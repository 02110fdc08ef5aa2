"""Each name and shape of the walk that this project began from is found, and its page leads there.

Texts alone: nothing is run.
"""

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/walk_through.md"
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))

NAMES = re.findall(
    r"\S+",
    """
sample timestep encoder_hidden_states prompt_embeds timestep_cond cross_attention_kwargs
added_cond_kwargs return_dict get_time_embed time_embedding class_labels conv_in
CrossAttnDownBlock2D DownBlock2D hidden_states temb ResnetBlock2D Transformer2DModel Downsample2D
down_block_res_samples UNetMidBlock2DCrossAttn UpBlock2D CrossAttnUpBlock2D Upsample2D
res_hidden_states_tuple conv_norm_out conv_act conv_out norm1 nonlinearity conv1 time_emb_proj
skip_time_act time_embedding_norm norm2 dropout conv2 input_tensor output_scale_factor attn1 attn2
only_cross_attention norm_hidden_states scaled_dot_product_attention query key value
""",
)

SHAPES = re.findall(
    r"\S+",
    """
(2,4,64,64) (2,77,768) (2,320) (2,1280) (2,320,64,64) (2,320,32,32) (2,640,16,16) (2,1280,8,8)
(2,1280,16,16) (2,1280,32,32) (2,640,64,64) (2,320,1,1) (2,8,4096,40) (2,8,77,40)
""",
)

# What the walk names in diffusers' words and this package calls otherwise: a notebook says so.
OTHERWISE = (
    "res_hidden_states_tuple", "down_block_res_samples", "get_time_embed", "processor",
    "norm_hidden_states", "scaled_dot_product_attention", "skip_time_act", "time_embedding_norm",
    "prompt_embeds", "cross_attention_kwargs", "added_cond_kwargs",
)  # fmt: skip


def prose(path: Path) -> str:
    return "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text()


@pytest.mark.parametrize("name", NAMES)
def test_each_name_stands_on_the_page(page, name):
    assert re.search(rf"`[^`]*\b{name}\b[^`]*`", page)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_stands_on_the_page(page, shape):
    assert shape in page


@pytest.mark.parametrize("name", OTHERWISE)
def test_each_name_of_its_own_stands_in_a_notebook(name):
    assert any(name in prose(path) for path in NOTEBOOKS)


def test_every_line_leads_to_a_heading_that_exists(page):
    leads = re.findall(r'\[\d\d\]\(\.\./(notebooks/\w+\.ipynb)\), "([^"]+)"', page)
    lines = [line for line in page.splitlines() if line.startswith("| ") and "`" in line]
    assert len(leads) >= len(lines) > 30
    for notebook, heading in leads:
        assert re.search(rf"^#+ {re.escape(heading)}$", prose(ROOT / notebook), re.MULTILINE), (
            f"{notebook} has no heading {heading!r}"
        )


def test_the_page_names_no_file_that_is_not_there(page):
    for link in re.findall(r"\]\(([^)]+)\)", page):
        assert (PAGE.parent / link).exists(), link


def test_its_slip_is_quoted_and_corrected_here_and_in_notebook_06(page):
    for text in (page, prose(ROOT / "notebooks/06_up.ipynb")):
        for line in ("Downsample2D() #(2,1280,32,32)", "Downsample2D() #(2,640,64,64)"):
            assert line in text
        assert "oth are `Upsample2D`" in text
