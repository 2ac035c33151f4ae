"""An induction circuit in the fresh weights: a model that can copy before it has learnt anything.

"What followed this token the last time?" takes two heads: one tells each position the token before
it; one, a layer above, looks for positions told of the current token and copies what stands there.
Training finds this circuit after millions of tokens; a baby llama has fewer. Here it is written
into two heads of the first two layers, roughly, and training does with it what it likes.
Source: Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits"; Olsson et al. 2022,
arXiv:2209.11895. The idea of starting from a circuit: Trockman and Kolter 2023, arXiv:2305.09828.
"""

import torch
from torch import Tensor

from puna.errors import ConfigError
from puna.model.llama import Attention, Block, Llama

_SHARE = 0.5  # size of the direction common to all embeddings, against their own part
_SHARP = 6.0  # score of each fast pair of channels at a distance of one token
_FAST_PAIRS = 5  # pairs whose rotation tells one token's distance from none and from two
_WRITTEN = 0.1  # how loudly the first head writes, against the embedding's 0.02 a channel
_MATCH = 3.0  # how strongly the second head prefers a match
_COPIED = 0.4  # how loudly it writes what it copies


@torch.no_grad()
def plant_induction(model: Llama, *, seed: int) -> None:
    """Write the circuit into the first heads of the first two layers of a freshly drawn model.

    Raises:
        ConfigError: the model has one layer, or is too narrow to keep the parts apart.
    """
    config = model.config
    E, half = config.head_width, config.head_width // 2
    slow = [i for i in range(half) if model.freqs[i] * config.context < 1.0]
    signature = 2 * len(slow)
    if config.layers < 2 or 2 * signature + E + 1 > config.width or half < 2 * _FAST_PAIRS:
        raise ConfigError(
            f"induction: {config.layers} layers of width {config.width} with heads of {E} were "
            "given; two layers and a width of twice the head's are needed. Leave it out."
        )
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(config.width, config.width, generator=generator))[0].T
    common, rest = basis[0], basis[1:]
    told, read, copied = rest[:signature], rest[signature : 2 * signature], rest[-E:]

    embed = model.embed.weight
    size = embed.float().norm(dim=1).mean()
    embed += _SHARE * size * common
    # After the norm every position holds this much of the common direction.
    held = config.width**0.5 * _SHARE / (1 + _SHARE**2) ** 0.5
    _look_back(model, common / held)
    first, second = _attention(model, 0), _attention(model, 1)
    first.wv.weight[:signature] = read
    first.wo.weight[:, :signature] = _WRITTEN * told.T

    # Only slow pairs match over a distance: the others have turned.
    channels = [*slow, *(i + half for i in slow)]
    second.wq.weight[:E], second.wk.weight[:E] = 0.0, 0.0
    second.wq.weight[channels] = _MATCH * read
    second.wk.weight[channels] = _MATCH * told
    second.wv.weight[:E] = copied
    second.wo.weight[:, :E] = _COPIED * copied.T


def _look_back(model: Llama, constant: Tensor) -> None:
    """Make the first head of the first layer attend to the token before, whatever it is."""
    E, half = model.config.head_width, model.config.head_width // 2
    length = (_SHARP * E**0.5) ** 0.5
    query, key = torch.zeros(E), torch.zeros(E)
    for pair in range(_FAST_PAIRS):
        angle = model.freqs[pair]
        key[pair] = length
        query[pair], query[pair + half] = length * angle.cos(), -length * angle.sin()
    attn = _attention(model, 0)
    attn.wq.weight[:E] = torch.outer(query, constant)
    attn.wk.weight[:E] = torch.outer(key, constant)


def _attention(model: Llama, layer: int) -> Attention:
    block = model.blocks[layer]
    assert isinstance(block, Block)
    return block.attn
