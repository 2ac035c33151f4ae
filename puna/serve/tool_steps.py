"""Tools that run on the server: the answer's calls are executed, until the model answers.

It is `puna.tools.loop` for many requests at once: generating is asynchronous, and each call runs in
a thread. A message that calls a tool of the client ends the loop before anything of it is run. In a
stream the results are deltas of the role "tool", each followed by the next words of the assistant;
in one piece the last message is the answer and the others stand under the key `puna`.
"""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from puna.chat.messages import Message
from puna.serve.call import Call
from puna.serve.chat_plan import Plan
from puna.serve.dialogs import render
from puna.serve.reading import ChatReading, Piece
from puna.serve.state import State
from puna.tools.execute import Limits, execute
from puna.tools.tool import Tool

Item = Piece | Message  # messages of steps that are over: what was called, and the results


async def with_tools(
    state: State, call: Call, plan: Plan
) -> AsyncGenerator[tuple[list[ChatReading], Item], None]:
    """Yield the pieces of the answer, and between its steps what was called and the results.

    Each comes with the readings of the step that it belongs to. Only the last step ends the answer.
    """
    limits = Limits()
    named = {tool.name: tool for tool in plan.runs}
    for step in range(1, limits.max_steps + 1):
        readings = plan.readings()
        async with aclosing(plan.pieces(state, call, readings)) as found:
            async for piece in found:
                if _goes_on(readings[0], named, is_last=step == limits.max_steps):
                    piece.finish_reason = None
                yield readings, piece
        if not _goes_on(readings[0], named, is_last=step == limits.max_steps):
            return
        answer = readings[0].message
        yield readings, answer
        dialog = [*plan.messages, answer]
        for asked in answer.tool_calls:
            result, _ = await asyncio.to_thread(execute, asked, named, limits, None)
            dialog.append(Message(role="tool", content=result, tool_call_id=asked.id))
            yield readings, dialog[-1]
        plan = await _next(plan, dialog)


def _goes_on(reading: ChatReading, named: Mapping[str, Tool], *, is_last: bool) -> bool:
    """Whether a step that has ended called tools of the server, and of nobody else."""
    calls = reading.message.tool_calls if reading.finish_reason and named else ()
    return bool(calls) and not is_last and all(call.name in named for call in calls)


async def _next(plan: Plan, dialog: list[Message]) -> Plan:
    served, tools, told = plan.served, plan.tools, plan.told
    size = sum(len(message.content) for message in dialog)
    ids = await served.prepare(lambda: render(served, dialog, tools, told), size)
    # Only the first step may be forced to call: the next ones must be able to answer.
    request = dataclasses.replace(plan.request, ids=ids, constraint=None)
    return dataclasses.replace(plan, messages=dialog, request=request)
