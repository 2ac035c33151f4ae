"""A random Llama of a few thousand weights, loud enough that its greedy choices are not ties."""

import torch

from puna.infer.sampling import SamplingConfig
from puna.model.config import ModelConfig, RopeScaling
from puna.model.init import initialise
from puna.model.llama import Llama

GREEDY = SamplingConfig(temperature=0)
WARM = SamplingConfig(temperature=1.0, top_p=None, seed=5)


def tiny_model(
    *, vocab: int = 97, context: int = 64, scaled: bool = False, seed: int = 0, tied: bool = False
) -> Llama:
    scaling = RopeScaling(original_context=context // 2) if scaled else None
    config = ModelConfig(
        width=48, layers=2, heads=6, kv_heads=2, mlp_width=80, vocab=vocab, context=context,
        rope_theta=10_000.0, rope_scaling=scaling, tied=tied,
    )  # fmt: skip
    model = Llama(config)
    initialise(model, seed=seed, std=0.3)
    return model.eval().requires_grad_(False)


def prompts_of(lengths: list[int], *, vocab: int = 97, seed: int = 1) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(vocab, (n,), generator=generator).tolist() for n in lengths]
