"""The conformance suite against the server itself: every vector, streaming and not."""

from puna.evals.conformance.client import Client
from puna.evals.conformance.server import check_server
from tests.serve.live import running, tiny_llm


def test_the_server_passes_every_vector_of_the_conformance_suite() -> None:
    with running(tiny_llm(is_terse=True), is_scripted=True, keys=("secret",)) as live:
        report = check_server(Client(f"{live.url}/v1", key="secret"))
        assert live.is_idle()
    wrong = [f"{o.id}: {o.detail}" for o in report.outcomes if o.status == "failed"]
    assert not wrong, "\n".join(wrong)
    assert report.count("passed") > 350
