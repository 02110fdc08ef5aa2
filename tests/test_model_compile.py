"""torch.compile takes the whole network as one graph.

In processes of their own: the check of shapes that the other tests switch on does not compile.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = """
import sys, torch
from unet_explained.model import UNet2DConditionModel
backend, kinds = sys.argv[1], sys.argv[2].split(",")
model = UNet2DConditionModel.from_config(dict(
    block_out_channels=[8, 16][: len(kinds)], norm_num_groups=4, cross_attention_dim=12,
    attention_head_dim=4, layers_per_block=1, mid_block_type="UNetMidBlock2D",
    down_block_types=[kind + "DownBlock2D" for kind in kinds],
    up_block_types=[kind + "UpBlock2D" for kind in reversed(kinds)],
), seed=0)
compiled = torch.compile(model, fullgraph=True, backend=backend)
with torch.no_grad():
    inputs = torch.randn(2, 4, 8, 8), torch.tensor(417), torch.randn(2, 5, 12)
    expected, actual = model(*inputs).sample, compiled(*inputs).sample
    error = (actual - expected).abs().max() / expected.abs().max()
    assert error <= 1e-5, error
assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
assert not torch._dynamo.utils.counters["graph_break"]
print("compiled")
"""


def run(*arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"JAXTYPING_DISABLE": "1"}
    command = [sys.executable, "-c", SCRIPT, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "kinds"),
    [
        pytest.param("eager", "CrossAttn,", id="eager"),
        pytest.param("inductor", "CrossAttn", id="inductor", marks=pytest.mark.long),
    ],
)
def test_the_network_compiles_as_one_graph(backend, kinds):
    process = run(backend, kinds)
    assert process.returncode == 0, process.stderr[-3000:]
    assert process.stdout.strip() == "compiled"
