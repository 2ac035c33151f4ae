"""Programs that people have already, unchanged, against a real server; absent ones are skipped."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent

import pytest

from tests.serve.live import Live, running, tiny_llm


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with running(tiny_llm(is_terse=True)) as live:
        yield live


def needs(module: str) -> None:
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed")


def run(*command: str, **environment: str) -> str:
    """Run a program of this environment and return what it says."""
    done = subprocess.run(
        [sys.executable, *command], env={**os.environ, **environment}, text=True, timeout=120,
        stdin=subprocess.DEVNULL, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_llm_command_line_talks_continues_and_keeps_to_a_schema(
    live: Live, tmp_path: Path
) -> None:
    needs("llm")
    told = f"""
        - model_id: tiny
          model_name: tiny
          api_base: {live.url}/v1
          supports_schema: true
          supports_tools: true
    """
    (tmp_path / "extra-openai-models.yaml").write_text(dedent(told))

    def llm(*words: str) -> str:
        options = ("-m", "tiny", "--key", "none", "-o", "temperature", "0")
        return run("-m", "llm", *words, *options, LLM_USER_PATH=str(tmp_path))

    streamed = llm("Hi", "-o", "max_tokens", "12")
    assert streamed == llm("Hi", "-o", "max_tokens", "12", "--no-stream")
    assert llm("-c", "And?", "-o", "max_tokens", "4")
    said = llm("Hi", "--schema", '{"type": "object", "properties": {"fits": {"type": "boolean"}}, '
               '"required": ["fits"], "additionalProperties": false}')  # fmt: skip
    assert set(json.loads(said)) == {"fits"}
    assert live.is_idle()


LITELLM = """
import json, sys, litellm
asked = {"model": "openai/tiny", "api_base": sys.argv[1], "api_key": "none", "max_tokens": 12,
         "messages": [{"role": "user", "content": "Hi"}], "temperature": 0}
whole = litellm.completion(**asked).choices[0].message.content
chunks = litellm.completion(**asked, stream=True)
assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
vectors = litellm.embedding(model="openai/tiny", input=["a"], api_base=sys.argv[1], api_key="none")
assert len(vectors.data) == 1
try:
    litellm.completion(**{**asked, "model": "openai/nobody"})
except litellm.NotFoundError:
    print("fine")
"""


def test_litellm_completes_streams_embeds_and_reads_errors(live: Live) -> None:
    needs("litellm")
    assert run("-W", "ignore", "-c", LITELLM, f"{live.url}/v1").endswith("fine\n")


AGENT = """
import asyncio, sys
import openai
from agents import Agent, ModelSettings, Runner, set_tracing_disabled
from agents import OpenAIChatCompletionsModel, OpenAIResponsesModel
from agents.mcp import MCPServerStdio

async def main(url, program):
    set_tracing_disabled(True)
    client = openai.AsyncOpenAI(base_url=url, api_key="none")
    start = {"command": sys.executable, "args": [program]}
    async with MCPServerStdio(params=start, client_session_timeout_seconds=60) as tools:
        for kind in (OpenAIChatCompletionsModel, OpenAIResponsesModel):
            model = kind(model="tiny", openai_client=client)
            settings = ModelSettings(tool_choice="required", max_tokens=100, temperature=0)
            agent = Agent(name="x", model=model, mcp_servers=[tools], model_settings=settings)
            for task in (whole, streamed):
                done = await task(agent)
                print([item.output["text"] for item in done.new_items if hasattr(item, "output")])

async def whole(agent):
    return await Runner.run(agent, "Hi", max_turns=3)

async def streamed(agent):
    running = Runner.run_streamed(agent, "Hi", max_turns=3)
    async for _ in running.stream_events():
        pass
    return running

asyncio.run(main(*sys.argv[1:]))
"""
TOOLS = """
from typing import Literal
from mcp.server import MCPServer
server = MCPServer("sums")

@server.tool()
def add(first: Literal["1", "20"], second: Literal["300"]) -> str:
    return str(int(first) + int(second))

server.run()
"""


def test_an_agent_of_another_house_calls_the_tools_of_an_mcp_server(
    live: Live, tmp_path: Path
) -> None:
    needs("agents")
    (tmp_path / "sums.py").write_text(TOOLS)
    said = run("-W", "ignore", "-c", AGENT, f"{live.url}/v1", str(tmp_path / "sums.py"))
    assert set(said.splitlines()) <= {"['301']", "['320']"}
    assert len(said.splitlines()) == 4
