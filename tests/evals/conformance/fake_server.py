"""A small OpenAI-compatible server: right in everything but the faults that a test asks for."""

import json
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from puna.chat.format import ChatFormat
from puna.chat.messages import to_messages
from puna.errors import PunaError
from puna.evals.conformance.segments import from_ids, joined, split, to_ids
from puna.evals.conformance.shapes import BYTES
from puna.infer.complete import ChatReader
from tests.evals.conformance.fake_model import Speak, forced, words

CONTEXT = 4096


class WrongRequestError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Server:
    """What the fake server is, and what is wrong with it."""

    faults: frozenset[str] = frozenset()
    key: str | None = None
    shows: str | None = "/tokenize"
    speak: Speak = words
    dialect: str = "meta"
    asked: int = field(default=0)

    def prompt(self, body: dict[str, Any]) -> list[int]:
        """Render the dialog of a request."""
        messages, extra = body.get("messages"), body.get("chat_template_kwargs") or {}
        if not isinstance(messages, list) or not messages:
            raise WrongRequestError(400, "messages: a list of messages is expected")
        day = extra.get("date_string")
        date = datetime.strptime(day, "%d %b %Y").date() if day else None
        where = "system" if extra.get("tools_in_user_message") is False else "user"
        chat = ChatFormat(BYTES, self.dialect, tools_in=where)
        tools = [*extra.get("builtin_tools", ()), *(body.get("tools") or ())]
        reply = body.get("add_generation_prompt", True)
        ids = chat.render(to_messages(messages), tools, date, reply=reply).ids
        if "controls" in self.faults:
            ids = to_ids(BYTES, split(joined(from_ids(BYTES, ids))))
        if "double_bos" in self.faults:
            ids = [BYTES.bos_id, *ids]
        return ids

    def answer(self, body: dict[str, Any], prompt: Sequence[int], which: int = 0) -> dict[str, Any]:
        """Say one answer: its pieces as they are streamed, and the whole."""
        self.asked += 1
        limit = body.get("max_tokens") or body.get("max_completion_tokens") or CONTEXT
        ids = forced(body) or self.speak(prompt, body, which)
        if "restless" in self.faults:
            ids = [*BYTES.encode(str(self.asked)), *ids]
        ids = ids[:limit]
        tools = body.get("tools") if body.get("tool_choice") != "none" else None
        stop = body.get("stop") or []
        stops = [stop] if isinstance(stop, str) else stop
        if "stop_ignored" in self.faults:
            stops = []
        reader = ChatReader(ChatFormat(BYTES, "meta").parser(tools or []), stops=stops)
        pieces, used = [], 0
        for token in ids:
            pieces.append(reader.feed(token))
            used += 1
            if reader.is_stopped:
                break
        pieces.append(reader.flush())
        message = reader.message
        assert message is not None
        calls = [
            {
                "id": f"call_{number}",
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(dict(call.arguments))},
            }
            for number, call in enumerate(message.tool_calls)
        ]
        return self._with_faults(
            {
                "pieces": [piece for piece in pieces if piece],
                "content": message.content,
                "calls": calls,
                "reason": message.finish_reason,
                "used": used,
                "ids": ids[:used],
            }
        )

    def _with_faults(self, said: dict[str, Any]) -> dict[str, Any]:
        if "leaks_tag" in self.faults and said["calls"]:
            text = "<|python_tag|>" + said["calls"][0]["function"]["arguments"]
            said |= {"pieces": [text], "content": text, "calls": [], "reason": "stop"}
        if "first_call_only" in self.faults:
            said["calls"] = said["calls"][:1]
        if "always_stop" in self.faults:
            said["reason"] = "stop"
        return said


def check(server: Server, body: Any) -> None:
    """Refuse what no server should answer."""
    if not isinstance(body, dict):
        raise WrongRequestError(400, "a JSON object is expected")
    if body.get("model") != "fake" and "any_model" not in server.faults:
        raise WrongRequestError(404, f"the model {body.get('model')!r} does not exist")
    numbers = {"temperature": 0, "max_tokens": 1, "max_completion_tokens": 1, "n": 1}
    for name, least in numbers.items():
        value = body.get(name)
        if value is not None and (not isinstance(value, int | float) or value < least):
            raise WrongRequestError(400, f"{name}: a number from {least} on is expected")
    form = body.get("response_format")
    if form and form.get("type") not in ("text", "json_object", "json_schema"):
        raise WrongRequestError(400, "response_format: no such type")
    choice, tools = body.get("tool_choice"), body.get("tools") or []
    names = [tool["function"]["name"] for tool in tools]
    if isinstance(choice, dict) and choice["function"]["name"] not in names:
        raise WrongRequestError(400, "tool_choice: no such function")
    if isinstance(choice, str) and choice not in ("none", "auto", "required"):
        raise WrongRequestError(400, "tool_choice: no such choice")
    if choice == "required" and not tools:
        raise WrongRequestError(400, "tool_choice: no tools are given")


def usage(prompt: int, written: int, faults: frozenset[str] = frozenset()) -> dict[str, int]:
    total = prompt + written + ("usage" in faults)
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": total}


class Handler(BaseHTTPRequestHandler):
    server_: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        if not self.path.startswith("/v1"):
            self._send(404, {"error": {"message": "no such path"}})
        elif self._may_enter() and self.path == "/v1/models":
            model = {"id": "fake", "object": "model", "max_model_len": CONTEXT}
            self._send(200, {"object": "list", "data": [model]})

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if not self._may_enter():
            return
        try:
            self._route(text)
        except WrongRequestError as error:
            status = 200 if "errors_as_200" in self.server_.faults else error.status
            self._send(status, {"error": {"message": str(error), "type": "invalid_request_error"}})
        except PunaError as error:
            status = 500 if "breaks" in self.server_.faults else 400
            self._send(status, {"error": {"message": str(error), "type": "invalid_request_error"}})

    def _may_enter(self) -> bool:
        key = self.server_.key
        if key is None or self.headers["Authorization"] == f"Bearer {key}":
            return True
        self._send(401, {"error": {"message": "wrong key"}})
        return False

    def _route(self, text: str) -> None:
        try:
            body = json.loads(text)
        except ValueError:
            raise WrongRequestError(400, "no JSON") from None
        server = self.server_
        if self.path == server.shows == "/tokenize":
            ids = server.prompt(body)
            names = [BYTES.piece(i).decode("latin-1") for i in ids]
            self._send(200, {"count": len(ids), "tokens": ids, "token_strs": names})
        elif self.path == "/detokenize" and server.shows == "/tokenize":
            self._send(200, {"prompt": BYTES.decode(body["tokens"])})
        elif self.path == server.shows == "/apply-template":
            self._send(200, {"prompt": BYTES.decode(server.prompt(body))})
        elif self.path in ("/v1/chat/completions", "/v1/completions"):
            check(server, body)
            self._complete(body, is_text=self.path == "/v1/completions")
        else:
            raise WrongRequestError(404, "no such path")

    def _complete(self, body: dict[str, Any], *, is_text: bool) -> None:
        server = self.server_
        if is_text:
            texts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
            prompts = [BYTES.encode(text, bos="no_bos" not in server.faults) for text in texts]
        else:
            prompts = [server.prompt(body)] * body.get("n", 1)
        if len(prompts[0]) >= CONTEXT and "cuts_prompts" not in server.faults:
            raise WrongRequestError(400, f"{len(prompts[0])} tokens; at most {CONTEXT} fit")
        said = [server.answer(body, prompt, which) for which, prompt in enumerate(prompts)]
        kind = "text_completion" if is_text else "chat.completion"
        head = {"id": "cmpl-1", "created": int(time.time()), "model": "fake"}
        read = sum(map(len, prompts)) if is_text else len(prompts[0])
        told = usage(read, sum(one["used"] for one in said), server.faults)
        if body.get("stream"):
            self._stream(body, head, said, told, is_text=is_text)
            return
        choices = [
            choice_of(one, index, body, server.faults, is_text=is_text)
            for index, one in enumerate(said)
        ]
        self._send(200, {**head, "object": kind, "choices": choices, "usage": told})

    def _stream(
        self, body: dict, head: dict, said: list[dict], told: dict, *, is_text: bool
    ) -> None:
        faults = self.server_.faults
        kind = "text_completion" if is_text else "chat.completion.chunk"
        events = []
        for index, one in enumerate(said):
            pieces = one["pieces"]
            if "stream_differs" in faults:
                pieces = pieces[:-1]
            if "stream_splits" in faults:
                raw = "".join(pieces).encode()
                pieces = [bytes([byte]).decode("utf-8", "replace") for byte in raw]
            deltas = [{"role": "assistant", "content": ""}, *({"content": p} for p in pieces)]
            for number, call in enumerate(one["calls"]):
                deltas += list(call_deltas(number, call, faults))
            for delta in deltas:
                words = {"text": delta.get("content", "")} if is_text else {"delta": delta}
                events.append([{"index": index, **words, "finish_reason": None}])
            rest = {"text": ""} if is_text else {"delta": {}}
            events.append([{"index": index, **rest, "finish_reason": one["reason"]}])
        chunks = [{**head, "object": kind, "choices": choices} for choices in events]
        if (body.get("stream_options") or {}).get("include_usage") and "no_usage" not in faults:
            chunks.append({**head, "object": kind, "choices": [], "usage": told})
        lines = [json.dumps(chunk) for chunk in chunks] + ["[DONE]"] * ("no_done" not in faults)
        self._send(200, "".join(f"data: {line}\n\n" for line in lines))

    def _send(self, status: int, body: dict[str, Any] | str) -> None:
        is_stream = isinstance(body, str)
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/event-stream" if is_stream else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = True


def call_deltas(number: int, call: dict, faults: frozenset[str]) -> Iterator[dict]:
    """Yield a call as it is streamed: name first, arguments in pieces."""
    function = call["function"]
    first = {**call, "index": number, "function": {"name": function["name"], "arguments": ""}}
    yield {"tool_calls": [first]}
    pieces = re.findall(r".{1,7}", function["arguments"], re.DOTALL)
    if "brace_lost" in faults:
        pieces[-1] = pieces[-1][:-1]
    for piece in pieces:
        yield {"tool_calls": [{"index": number, "function": {"arguments": piece}}]}


def choice_of(
    said: dict, index: int, body: dict, faults: frozenset[str], *, is_text: bool
) -> dict[str, Any]:
    if is_text:
        return {"index": index, "text": said["content"], "finish_reason": said["reason"]}
    message = {"role": "assistant", "content": said["content"]}
    if "arguments_as_object" in faults:
        for call in said["calls"]:
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    if said["calls"]:
        message |= {"content": said["content"] or None, "tool_calls": said["calls"]}
    choice = {"index": index, "message": message, "finish_reason": said["reason"]}
    if body.get("logprobs"):
        entry = {"token": "x", "logprob": -0.1, "top_logprobs": [{"token": "x", "logprob": -0.1}]}
        choice["logprobs"] = {"content": [entry] * said["used"]}
    return choice


@contextmanager
def serve(*faults: str, **options: Any) -> Iterator[str]:
    """Serve on a free port of this machine; yield the address up to /v1."""
    told = Server(faults=frozenset(faults), **options)
    handler = type("Told", (Handler,), {"server_": told})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}/v1"
        finally:
            http.shutdown()
            thread.join()
