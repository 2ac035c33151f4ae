"""Answers in batches: through the renderer and the decoding that chat uses."""

import torch

from puna.chat.format import ChatFormat
from puna.evals.reply import batched_reply
from puna.infer.generate import generate_ids
from puna.infer.sampling import SamplingConfig
from tests.evals.tiny import ByteTokenizer, tiny_model

DIALOGS = [[{"role": "user", "content": text}] for text in ("Hi", "What is 12 + 30?", "Bye now")]


def test_a_batch_answers_as_each_dialog_would_alone() -> None:
    model, chat = tiny_model(context=128), ChatFormat(ByteTokenizer())
    together = batched_reply(model, chat, max_tokens=6, batch=3)(DIALOGS, ())
    alone = batched_reply(model, chat, max_tokens=6, batch=1)(DIALOGS, ())
    assert [m.content for m in together] == [m.content for m in alone]


def test_the_prompt_is_the_one_that_chat_renders() -> None:
    """B1, B2: one BOS, and the header of the assistant at the end."""
    model, tok = tiny_model(context=256), ByteTokenizer()
    chat = ChatFormat(tok)
    prompt = chat.render(DIALOGS[1], tools=["calculator"]).ids
    assert prompt[0] == tok.bos_id
    assert tok.bos_id not in prompt[1:]
    expected = generate_ids(
        model,
        [prompt],
        max_tokens=5,
        sampling=SamplingConfig(temperature=0.0),
        stop_ids=tok.stop_ids,
    )[0]
    answer = batched_reply(model, chat, max_tokens=5)([DIALOGS[1]], ("calculator",))[0]
    assert answer == chat.parse(expected.ids, tools=["calculator"])


def test_every_terminator_ends_an_answer() -> None:
    """B4: a model that only ever writes one terminator answers with nothing, at once."""
    tok = ByteTokenizer()
    for name in ("<|end_of_text|>", "<|eot_id|>", "<|eom_id|>"):
        model = tiny_model(context=128)
        score = torch.zeros(tok.vocab)
        score[tok.specials[name]] = 1.0
        model.logits = lambda x, score=score: score.expand(*x.shape[:-1], -1)  # type: ignore
        answers = batched_reply(model, ChatFormat(tok), max_tokens=20)(DIALOGS, ())
        assert [m.content for m in answers] == ["", "", ""]
