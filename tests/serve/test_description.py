"""`/openapi.json` describes what the server does: schemathesis sends what it allows and forbids."""

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import GenerationMode

from tests.serve.live import running, tiny_llm

# What a random body may cost is bounded by the tiny context alone.
QUICK = settings(
    max_examples=4, deadline=None, phases=(Phase.explicit, Phase.generate), derandomize=True,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
FINE = {200, 400, 401, 404, 405, 406, 408, 413, 415, 422, 429}


def test_nothing_that_fits_or_breaks_the_description_breaks_the_server() -> None:
    with running(tiny_llm(context=256), keys=("key",)) as live:
        headers = {"authorization": "Bearer key"}
        schema = schemathesis.openapi.from_url(f"{live.url}/openapi.json", headers=headers)
        operations = [found.ok() for found in schema.get_all_operations()]
        assert len(operations) > 15
        for operation in operations:
            has_body = bool(operation.body)
            for mode in list(GenerationMode)[: 1 + has_body]:

                @QUICK
                @schemathesis_given(operation, mode)
                def send(case: schemathesis.Case) -> None:
                    answer = case.call(headers=headers, timeout=20)
                    assert answer.status_code in FINE, f"{case.as_curl_command()}: {answer.text}"
                    if answer.status_code != 200:
                        assert answer.json()["error"]["message"]

                send()
        assert live.is_idle()


def schemathesis_given(operation, mode):  # type: ignore[no-untyped-def]
    from hypothesis import given

    return given(case=operation.as_strategy(generation_mode=mode))


def test_every_body_of_the_description_has_a_schema() -> None:
    with running(keys=("key",)) as live:
        told = live.client.get("/openapi.json").json()
    assert told["openapi"].startswith("3.1")
    chat = told["paths"]["/v1/chat/completions"]["post"]
    assert chat["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("ChatBody")
    assert chat["security"] == [{"key": []}]
    assert "security" not in told["paths"]["/health"]["get"]
    fields = told["components"]["schemas"]["ChatBody"]
    assert fields["required"] == ["messages"]
    assert fields["additionalProperties"] is False
    assert {"schema", "name"} <= set(told["components"]["schemas"]["JsonSchema"]["properties"])
    named = {name.partition(":")[0] for name in told["paths"]}
    assert not [name for name in named if ":" in name]
