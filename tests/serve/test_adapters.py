"""Adapters are models of their own names, beside the model whose weights they share."""

from pathlib import Path

import pytest

from puna.cli.service import add_adapters
from puna.errors import RequestError
from puna.serve.served import Served
from tests.infer.test_adapters import save
from tests.serve.live import SMALL, running, tiny_llm

HI = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 12, "ignore_eos": True}


def test_an_adapter_answers_under_its_own_name(tmp_path: Path) -> None:
    with running(tiny_llm(), tiny_llm(name="other")) as live:
        models = live.server.state.models
        assert isinstance(models, dict)
        add_adapters(models, [f"tuned=other:{save(tmp_path / 'a')}"], SMALL)
        plain, tuned = (live.ask(**HI, model=name)["choices"] for name in ("other", "tuned"))
        assert plain[0]["message"]["content"] != tuned[0]["message"]["content"]
        base, adapted = models["other"].llm.model, models["tuned"].llm.model
        assert base.embed.weight.data_ptr() == adapted.embed.weight.data_ptr()
        assert live.client.get("/v1/models/tuned").json()["root"] == "other"
        with pytest.raises(RequestError, match="NAME=FOLDER"):
            add_adapters(models, ["tuned=x"], SMALL)


def test_the_names_of_models_keep_their_own_answers() -> None:
    with running(tiny_llm(), tiny_llm(name="other")) as live:
        assert isinstance(live.server.state.models["tiny"], Served)
        assert live.ask(**HI)["model"] == "tiny"
        assert live.ask(**HI, model="other")["model"] == "other"
