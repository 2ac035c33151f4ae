"""`/tokenize` and `/detokenize`: ids exactly as a completion would read them.

Source: vLLM, OpenAI-compatible server, tokenizer API.
"""

from typing import Any

from puna.serve.bodies.tokens import DetokenizeBody, TokenizeBody
from puna.serve.call import Call
from puna.serve.dialogs import Told, declarations, messages_of, render
from puna.serve.failures import Failure
from puna.serve.served import Served, size_of
from puna.serve.state import State
from puna.serve.wire import Reply


async def tokenize(state: State, call: Call, body: TokenizeBody) -> Reply:
    """Return the ids of a text or of a dialog."""
    served = state.model(body.model)
    if (body.prompt is None) == (body.messages is None):
        raise Failure(400, "tokenize: a prompt or messages are expected, and not both.")
    size = size_of(body.prompt) + size_of([m.content for m in body.messages or ()])
    ids = await served.prepare(lambda: _ids(served, body), size)
    told: dict[str, Any] = {"count": len(ids), "max_model_len": served.context, "tokens": ids}
    if body.return_token_strs:
        told["token_strs"] = [served.tok.piece(token).decode("utf-8", "replace") for token in ids]
    return Reply.json(told)


def _ids(served: Served, body: TokenizeBody) -> list[int]:
    if body.messages is None:
        assert body.prompt is not None
        return served.tok.encode(body.prompt, bos=body.add_special_tokens is not False)
    told = Told.read(body.chat_template_kwargs)
    return render(
        served,
        messages_of(body.messages),
        [*told.builtins, *declarations(body.tools)],
        told,
        reply=body.add_generation_prompt is not False,
    )


async def detokenize(state: State, call: Call, body: DetokenizeBody) -> Reply:
    """Return the text of ids, control tokens by their names."""
    served = state.model(body.model)
    return Reply.json({"prompt": served.tok.decode(body.tokens)})
