"""A rank's share of a checkpoint: only the rows and columns that are its own leave the disk.

A tensor is mapped, cut where it lies and only then converted, so that no rank ever holds the whole
model. Weights stored in few bits are widened, one tensor at a time.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from puna.checkpoint.load import Undrawn
from puna.checkpoint.stored import Checkpoint
from puna.model.config import ModelConfig
from puna.model.llama import Llama
from puna.parallel.apply import make_share
from puna.parallel.links import Links
from puna.parallel.shards import shards_of


def load_share(checkpoint: Checkpoint, links: Links, *, dtype: torch.dtype) -> Llama:
    """Load the weights of this process, in evaluation mode, onto its device.

    Raises:
        ConfigError: the model cannot be divided over this mesh.
    """
    return fill_share(checkpoint.config, checkpoint.weights(), links, dtype=dtype)


def fill_share(
    config: ModelConfig, weights: Mapping[str, Tensor], links: Links, *, dtype: torch.dtype
) -> Llama:
    """Return this rank's share of a model, cut from whole tensors that are read one by one."""
    with torch.device("meta"), Undrawn():
        model = make_share(config, links)
    for shard in shards_of(config, links.mesh):
        part = shard.cut(weights[shard.source]).to(links.device, dtype).contiguous()
        owner, _, leaf = shard.target.rpartition(".")
        setattr(model.get_submodule(owner), leaf, nn.Parameter(part, requires_grad=False))
    if model.embed.weight.is_meta:  # it receives states and has no rows
        none = torch.empty(0, config.width, dtype=dtype, device=links.device)
        model.embed.weight = nn.Parameter(none, requires_grad=False)
    left = [name for name, weight in model.named_parameters() if weight.is_meta]
    assert not left, f"{left} were not loaded"
    return model.eval().requires_grad_(False)
