"""A model that says what a test tells it to, and a tokenizer of single bytes."""

import torch
from torch import Tensor, nn

from puna.llm import LLM, ChatStyle
from puna.model.config import ModelConfig
from puna.tokenizer.ranks import RankTokenizer
from puna.tools.tool import Tool

BYTES = RankTokenizer([bytes([value]) for value in range(256)])  # 256 bytes, 256 specials
EOT, EOM = BYTES.specials["<|eot_id|>"], BYTES.specials["<|eom_id|>"]
TAG = BYTES.specials["<|python_tag|>"]


def ids_of(*parts: str | int) -> list[int]:
    """Text and control ids, one after the other."""
    return [i for part in parts for i in ([part] if isinstance(part, int) else BYTES.encode(part))]


class Scripted(nn.Module):
    """Answers its n-th prompt with the n-th script; after the script it repeats the last token."""

    def __init__(self, *scripts: list[int], context: int = 512) -> None:
        super().__init__()
        self.config = ModelConfig(
            width=8, layers=2, heads=4, kv_heads=2, mlp_width=8, vocab=BYTES.vocab, context=context
        )
        self.embed = nn.Embedding(BYTES.vocab, 8)
        self.scripts = [list(script) for script in scripts]
        self.prompts: list[list[int]] = []
        self._place = 0

    def forward(self, ids: Tensor, *, cache, counts=None, last=None) -> Tensor:
        if int(cache.lengths.max()) == 0:
            self.prompts.append(ids[0].tolist())
            self._place = -1
        self._place += 1
        cache.lengths += ids.shape[1]
        script = self.scripts[len(self.prompts) - 1]
        logits = torch.zeros(1, BYTES.vocab)
        logits[0, script[min(self._place, len(script) - 1)]] = 100.0
        return logits if last is not None else logits[:, None]


def scripted(*scripts: list[int], context: int = 512, tools: tuple[Tool, ...] = ()) -> LLM:
    style = ChatStyle(dialect="meta", source="the test", is_instruct=True, tools=tools)
    model = Scripted(*scripts, context=context)
    return LLM(model, BYTES, style=style, stop_ids=BYTES.stop_ids)
