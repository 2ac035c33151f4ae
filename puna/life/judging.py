"""The stages that tell what became of it: eval, report, and the conversation at the end."""

from collections.abc import Sequence
from typing import Any

from puna.chat.messages import Message
from puna.checkpoint.load import load_model
from puna.data.document import read_split
from puna.files import write_json
from puna.life.judge import Judged, judge
from puna.life.making_data import documents_folder, load_tokenizer
from puna.life.making_model import base_folder, final_folder
from puna.life.run import Run
from puna.llm import LLM, load
from puna.posttrain.dialogs import SYSTEM
from puna.report.page import write_report
from puna.tools.calculator import calculate
from puna.tools.loop import Finished, Returned, run_tools

CONVERSATION = (
    "Hello!",
    "Who are you?",
    "What is 1234 * 5678?",
    "How do you say 21 in German?",
    "What is Germany in French?",
    "What is the module json for?",
)


def eval_stage(run: Run) -> dict[str, Any]:
    """Ask everything that training kept back, and hold a conversation."""
    recipe = run.recipe
    models = Judged(
        tokenizer=load_tokenizer(run),
        before=load_model(run.stage("pretrain") / "model"),
        after=load_model(base_folder(run)),
        assistant=load_model(final_folder(run)) if recipe.sft is not None else None,
    )
    held_out: dict[str, Sequence[str]] = {}
    for document in read_split(documents_folder(run), "heldout"):
        held_out.setdefault(document.source, []).append(document.text)  # type: ignore[attr-defined]
    lengths = [recipe.pretrain.sequence, *(phase.sequence for phase in recipe.extend)]
    folder = run.stage("eval") / "evals"
    scores = judge(
        models,
        held_out,
        recipe.eval,
        folder,
        lengths=lengths,
        calculator=calculate,
        system=SYSTEM,
        seed=recipe.seed,
    )
    if recipe.sft is not None:
        write_json(run.stage("eval") / "samples.json", converse(run))
    return {score.name: score.value for score in scores}


def converse(run: Run) -> list[dict[str, Any]]:
    """Hold the sample conversation with the finished assistant; greedy, tools running."""
    llm = load(run.folder)
    return [{"question": question, **_exchange(llm, question)} for question in CONVERSATION]


def _exchange(llm: LLM, question: str) -> dict[str, Any]:
    """Ask one question; return the answer and the calls and results on the way."""
    calls: list[dict[str, Any]] = []
    answer = ""

    def reply(dialog: Sequence[Message]) -> Message:
        shown = [tool.declaration for tool in llm.style.tools]
        return llm.chat(dialog, shown, temperature=0.0, max_tokens=96)

    messages = [Message(role="system", content=SYSTEM), Message(role="user", content=question)]
    for event in run_tools(reply, messages, llm.style.tools, max_steps=3):
        match event:
            case Returned(call=call, result=result):
                calls.append({"name": call.name, "arguments": call.arguments, "result": result})
            case Finished(answer=message):
                answer = message.content
            case _:
                pass
    return {"calls": calls, "answer": answer}


def report_stage(run: Run) -> dict[str, Any]:
    """Write the report card."""
    energy = run.ledger.energy()
    if energy is not None:
        write_json(run.folder / "energy.json", energy.table())
    path = write_report(run.folder)
    return {"path": str(path.relative_to(run.folder))}
