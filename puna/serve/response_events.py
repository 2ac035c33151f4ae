"""The items of a response while it is written, and the events that tell of them.

The same object writes a response in one piece and as a stream, so both say the same. Source: OpenAI
API reference, responses, streaming events (their names, their order and their keys).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from puna.chat.events import AnswerEvent, ArgumentsDelta, CallFinished, CallStarted
from puna.chat.messages import Message
from puna.serve.reading import Piece
from puna.serve.wire import event

Json = dict[str, Any]


class Items:
    """What the model has said so far."""

    def __init__(self, id: str) -> None:
        self._id = id
        self.output: list[Json] = []
        self.finish_reason: str | None = None
        self._is_text_open = False
        self._calls: dict[int, int] = {}  # index of a call -> place of its item

    def take(self, piece: Piece | Message) -> Iterator[Json]:
        """Take a piece of the answer, or what a tool of the server said, and yield its events."""
        if isinstance(piece, Message):
            yield from self._end_step(piece)
            return
        if piece.text:
            yield from self._text(piece.text)
        for told in piece.calls:
            yield from self._call(told)
        if piece.finish_reason is not None:
            self.finish_reason = piece.finish_reason
            yield from self._close_text()

    def _end_step(self, message: Message) -> Iterator[Json]:
        yield from self._close_text()
        self._calls.clear()
        if message.role == "tool":
            item = {
                "id": f"fco_{self._id}_{len(self.output)}", "type": "function_call_output",
                "status": "completed", "call_id": message.tool_call_id, "output": message.content,
            }  # fmt: skip
            self.output.append(item)
            for kind in ("response.output_item.added", "response.output_item.done"):
                yield self._told(kind, item=item, output_index=self._place)

    def _text(self, text: str) -> Iterator[Json]:
        if not self._is_text_open:
            self._is_text_open = True
            item: Json = {
                "id": f"msg_{self._id}_{len(self.output)}", "type": "message",
                "role": "assistant", "status": "in_progress", "content": [],
            }  # fmt: skip
            yield self._told("response.output_item.added", item={**item})
            item["content"] = [_part("")]
            self.output.append(item)
            yield self._told("response.content_part.added", at=self._place, part=_part(""))
        self.output[-1]["content"][0]["text"] += text
        yield self._told("response.output_text.delta", at=self._place, delta=text, logprobs=[])

    def _close_text(self) -> Iterator[Json]:
        if not self._is_text_open:
            return
        self._is_text_open = False
        item = self.output[-1]
        item["status"] = "completed" if self.finish_reason != "length" else "incomplete"
        part = item["content"][0]
        yield self._told(
            "response.output_text.done", at=self._place, text=part["text"], logprobs=[]
        )
        yield self._told("response.content_part.done", at=self._place, part=part)
        yield self._told("response.output_item.done", item=item, output_index=self._place)

    def _call(self, told: AnswerEvent) -> Iterator[Json]:
        match told:
            case CallStarted():
                yield from self._close_text()
                item = {
                    "id": f"fc_{told.id.removeprefix('call_')}", "type": "function_call",
                    "status": "in_progress", "call_id": told.id, "name": told.name,
                    "arguments": "",
                }  # fmt: skip
                yield self._told("response.output_item.added", item={**item})
                self._calls[told.index] = len(self.output)
                self.output.append(item)
            case ArgumentsDelta():
                place = self._calls[told.index]
                self.output[place]["arguments"] += told.text
                yield self._told(
                    "response.function_call_arguments.delta", item_id=self.output[place]["id"],
                    output_index=place, delta=told.text,
                )  # fmt: skip
            case CallFinished():
                place = self._calls[told.index]
                item = self.output[place]
                item["status"] = "completed"
                yield self._told(
                    "response.function_call_arguments.done", item_id=item["id"],
                    output_index=place, name=item["name"], arguments=item["arguments"],
                )  # fmt: skip
                yield self._told("response.output_item.done", item=item, output_index=place)

    @property
    def _place(self) -> int:
        return len(self.output) - 1

    def _told(self, kind: str, *, at: int | None = None, **fields: Any) -> Json:
        if at is not None:
            fields |= {"item_id": self.output[at]["id"], "output_index": at, "content_index": 0}
        fields.setdefault("output_index", len(self.output))
        return {"type": kind, **fields}


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


class Numbered:
    """Events with the numbers that clients sort them by."""

    def __init__(self) -> None:
        self._next = 0

    def __call__(self, told: Mapping[str, Any]) -> bytes:
        """Return an event as it is sent."""
        number, self._next = self._next, self._next + 1
        return event({**told, "sequence_number": number}, name=told["type"])
