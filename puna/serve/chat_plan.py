"""A chat completion before it is answered: what belongs together is checked, the dialog rendered.

All that can be wrong with a request is found here, before anything of an answer is sent.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from puna.chat.messages import Message
from puna.infer.request import Request
from puna.serve.answer_forms import form_of
from puna.serve.answering import pieces
from puna.serve.bodies.chat import ChatBody
from puna.serve.call import Call
from puna.serve.dialogs import Declaration, Told, declarations, messages_of, render
from puna.serve.failures import Failure
from puna.serve.reading import ChatReading, Piece
from puna.serve.sampling import request_of
from puna.serve.script import script_ids, scripted
from puna.serve.served import Served
from puna.serve.state import State
from puna.tools.tool import Tool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A chat completion that is ready to be answered."""

    served: Served
    messages: list[Message]
    request: Request
    tools: list[Declaration]  # that the model is shown
    runs: tuple[Tool, ...]  # those of them that the server runs
    stops: tuple[str, ...]
    told: Told
    is_parallel: bool
    script: list[int] | None = None

    def readings(self) -> list[ChatReading]:
        """Return a fresh reading for each choice."""
        form = self.served.format_of(self.told.tools_in)
        return [
            ChatReading(i, form.parser(self.tools), self.stops, is_parallel=self.is_parallel)
            for i in range(self.request.n)
        ]

    def pieces(
        self, state: State, call: Call, readings: Sequence[ChatReading]
    ) -> AsyncGenerator[Piece, None]:
        """Answer."""
        script = None
        if self.script is not None:
            script = scripted(
                self.script, stop_ids=self.served.llm.stop_ids,
                max_tokens=self.request.max_tokens, prompt_tokens=len(self.request.ids),
            )  # fmt: skip
        return pieces(state, call, self.served, self.request, readings, script)


def plan_of(state: State, served: Served, call: Call, body: ChatBody) -> Plan:
    """Check what a body asks for together, and render its dialog.

    Raises:
        Failure: the parts of the request do not fit one another.
        RequestError: the dialog has no place in the model's chat format.
        ContextError: it does not fit the context.
    """
    told = Told.read(body.chat_template_kwargs)
    runs = server_tools(state, body.server_tools)
    functions = declarations(body.tools)
    shown: list[Declaration] = [*told.builtins, *(tool.declaration for tool in runs), *functions]
    if body.tool_choice == "none":
        shown, runs = [], ()
    n = body.n or 1
    if n > state.settings.max_choices or (runs and n > 1) or (body.scripted_answer and n > 1):
        most = 1 if runs or body.scripted_answer else state.settings.max_choices
        raise Failure(400, f"n: {n} answers were asked for; {most} is the most here.", param="n")
    if body.scripted_answer is not None and not state.settings.is_scripted:
        raise Failure(
            400, "scripted_answer: this server does not take scripts.", param="scripted_answer"
        )
    messages = messages_of(body.messages)
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    if body.top_logprobs and not body.logprobs:
        raise Failure(400, "top_logprobs: it needs logprobs=true beside it.", param="top_logprobs")
    request = request_of(
        served, call, body, render(served, messages, shown, told),
        max_tokens=body.max_completion_tokens or body.max_tokens,
        n=n, stop=() if shown else body.stops, logprobs=logprobs,
        constraint=form_of(body, shown, served.tok),
    )  # fmt: skip
    script = None
    if body.scripted_answer is not None:
        script = script_ids(served.tok, body.scripted_answer)
    return Plan(
        served=served, messages=messages, request=request, tools=shown, runs=runs,
        stops=body.stops, told=told, is_parallel=body.parallel_tool_calls is not False,
        script=script,
    )  # fmt: skip


def server_tools(state: State, asked: bool | list[str] | None) -> tuple[Tool, ...]:
    """Return the tools that the request asks the server to run.

    Raises:
        Failure: the operator allows none of that name.
    """
    allowed = {tool.name: tool for tool in state.settings.tools}
    if not asked:
        return ()
    names = list(allowed) if asked is True else asked
    for name in names:
        if name not in allowed:
            raise Failure(
                400,
                f"server_tools: {name!r} does not run on this server; "
                f"its operator allows {', '.join(allowed) or 'none'}.",
                param="server_tools",
            )
    return tuple(allowed[name] for name in dict.fromkeys(names))
