"""What the server tells about itself: its models, whether it is well, its metrics.

`max_model_len` is vLLM's key for the context; `puna` holds what the chat page wants to know.
"""

from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST

from puna import __version__
from puna.serve.call import Call
from puna.serve.served import Served
from puna.serve.state import State
from puna.serve.wire import Reply

Parts = dict[str, str]


async def models(state: State, call: Call, parts: Parts) -> Reply:
    """List the models."""
    listed = [_about(state, served) for served in state.models.values()]
    return Reply.json({"object": "list", "data": listed})


async def model(state: State, call: Call, parts: Parts) -> Reply:
    """Tell about one model."""
    return Reply.json(_about(state, state.model(parts["model"])))


def _about(state: State, served: Served) -> dict[str, Any]:
    config, sampling = served.llm.model.config, served.llm.sampling
    return {
        "id": served.name,
        "object": "model",
        "created": state.created,
        "owned_by": "puna",
        "root": served.root,
        "max_model_len": served.context,
        "puna": {
            "parameters": config.parameters,
            "chat": served.llm.style.dialect is not None,
            "chat_format": served.llm.style.source,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "server_tools": [
                {"name": tool.name, "description": tool.description}
                for tool in state.settings.tools
            ],
        },
    }


async def health(state: State, call: Call, parts: Parts) -> Reply:
    """Say whether new requests are taken, and what is wrong with an engine that does not work."""
    troubles = {
        name: trouble
        for name, served in state.models.items()
        if (trouble := served.driver.trouble(state.settings.hang_s)) is not None
    }
    status = "draining" if state.is_draining else "failing" if troubles else "ok"
    told: dict[str, Any] = {
        "status": status,
        "version": __version__,
        "running": state.running,
        "models": list(state.models),
    }
    if troubles:
        told["troubles"] = troubles
    return Reply.json(told, status=200 if status == "ok" else 503)


async def metrics(state: State, call: Call, parts: Parts) -> Reply:
    """Return the metrics for Prometheus."""
    return Reply(body=state.metrics.text(), kind=CONTENT_TYPE_LATEST)
