"""The stages that turn raw pages into tokens: curate, tokenizer, pack."""

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from puna.chat.format import ChatFormat
from puna.data.curate import curate
from puna.data.document import Document, read_split
from puna.data.pack import cut_document, pack_documents, pack_rows
from puna.data.recall import answers_only, recall_documents
from puna.life.run import Run
from puna.log import note
from puna.posttrain.dialogs import dialogs
from puna.tokenizer.interface import Tokenizer
from puna.tokenizer.load import load_tokenizer_file
from puna.tokenizer.save import save_tokenizer
from puna.tokenizer.train import train_bpe

_SHORTEST = 64  # tokens of a text that asks about facts: two of them, a few times
_FACT_TEXTS = 400  # so many that every name becomes one token of a small vocabulary


def curate_stage(run: Run) -> dict[str, Any]:
    """Find, clean and choose documents; keep some from training."""
    report = curate(run.recipe.curate, run.stage("curate") / "documents", run.pages or None)
    return {"documents": sum(report.found.values())}


def tokenizer_stage(run: Run) -> dict[str, Any]:
    """Learn the vocabulary from a sample of the training documents and of the recall texts."""
    config = run.recipe.tokenizer
    texts = _take(training_texts(run), config.sample_bytes)
    facts = recall_documents(["."], length=1500, count=_FACT_TEXTS, needles=16, seed="tokenizer")
    tokenizer = train_bpe(itertools.chain(texts, (d.text for d in facts)), config.vocab)
    save_tokenizer(tokenizer, run.stage("tokenizer") / "tokenizer")
    return {"vocab": tokenizer.vocab}


def pack_stage(run: Run) -> dict[str, Any]:
    """Write the tokens of every phase."""
    tokenizer = load_tokenizer(run)
    folder = run.stage("pack")
    sources = _pack_pretrain(run, tokenizer, folder / "pretrain")
    counts = {"pretrain": sources.total()}
    for phase in run.recipe.extend:
        name = f"extend-{phase.sequence}"
        counts[name] = _pack_extension(run, tokenizer, folder / name, phase.sequence)
    for name, phase in run.recipe.tuning().items():
        counts[name] = _pack_dialogs(run, tokenizer, folder / name, phase.sequence, name == "sft")
    note("pack: " + ", ".join(f"{name} {tokens:,} tokens" for name, tokens in counts.items()))
    return {"tokens": counts, "sources": dict(sources)}


def load_tokenizer(run: Run) -> Tokenizer:
    """Return the tokenizer that this run trained."""
    return load_tokenizer_file(run.stage("tokenizer") / "tokenizer")


def training_texts(run: Run) -> Iterator[str]:
    """Yield the training documents one by one."""
    return (document.text for document in read_split(documents_folder(run), "train"))


def documents_folder(run: Run) -> Path:
    """Return where curation left its documents."""
    return run.stage("curate") / "documents"


def _pack_pretrain(run: Run, tokenizer: Tokenizer, folder: Path) -> Counter[str]:
    """Write the documents, then short texts that ask about facts above; count tokens by source.

    Training reads windows in an order of its own, so the texts at the end come up all along.
    """
    counts: Counter[str] = Counter()
    for document in read_split(documents_folder(run), "train"):
        counts[document.source] += len(tokenizer.encode(document.text)) + 2
    config, length = run.recipe.recall, run.recipe.pretrain.sequence - 2
    counts["recall"] = round(counts.total() * config.share)
    recalls = (
        document.text
        for size in (length // 2, length)
        for document in _recalls(run, tokenizer, size, counts["recall"] // (length * 3 // 2))
    )
    pack_documents(itertools.chain(training_texts(run), recalls), tokenizer, folder)
    return counts


def _pack_extension(run: Run, tokenizer: Tokenizer, folder: Path, sequence: int) -> int:
    """Write rows of the new length: texts that ask about facts far above, and documents."""
    config = run.recipe.recall
    rows = max(8, config.extension_tokens // sequence)
    parts = (
        part
        for text in training_texts(run)
        for part in cut_document(tokenizer.encode(text, bos=True, eos=True), sequence=sequence)
        if len(part[0]) > sequence // 4
    )
    documents = itertools.islice(parts, round(rows * (1 - config.extension_share)))
    count = round(rows * config.extension_share)
    # Joined sentences may take a few tokens more than apart; what is generated too long is passed.
    recalls = _recalls(run, tokenizer, sequence - 2 - sequence // 32, count)
    encoded = (tokenizer.encode(d.text, bos=True, eos=True) for d in recalls)
    asked = ((ids, [1] * len(ids)) for ids in encoded if len(ids) <= sequence)
    return pack_rows(itertools.chain(asked, documents), tokenizer, folder, sequence=sequence)


def _recalls(
    run: Run, tokenizer: Tokenizer, length: int, count: int, *, salt: str = ""
) -> Iterator[Document]:
    """Generate texts that end in questions about facts in them, in hay from the documents."""
    hay = (d.text for d in read_split(documents_folder(run), "train") if d.source == "general")
    config = run.recipe.recall
    return recall_documents(
        hay,
        length=length,
        count=count,
        needles=min(config.needles, max(1, length // 32)),
        rounds=config.rounds,
        measure=lambda text: len(tokenizer.encode(text)),
        seed=f"{run.recipe.seed}{salt}",
    )


def _pack_dialogs(
    run: Run, tokenizer: Tokenizer, folder: Path, sequence: int, is_first: bool
) -> int:
    """Write the dialogs and, among them, questions about facts far above, shuffled."""
    chat = ChatFormat(tokenizer, dialect="meta")
    pairs = []
    for dialog in dialogs(run.recipe.dialogs):
        prompt = chat.render(dialog.messages, tools=dialog.tools or None, reply=False)
        pairs.append((list(prompt.ids), list(prompt.loss_mask)))
    config = run.recipe.recall
    share = config.sft_share if is_first else config.longer_share
    length = min(config.sft_length, sequence) if is_first else sequence
    tokens = sum(len(ids) for ids, _ in pairs) * share / (1 - share)
    pairs += _lookups(run, tokenizer, length, int(tokens))
    random.Random(run.recipe.seed).shuffle(pairs)
    return pack_rows(pairs, tokenizer, folder, sequence=sequence)


def _lookups(
    run: Run, tokenizer: Tokenizer, longest: int, tokens: int
) -> list[tuple[list[int], list[int]]]:
    """Return questions about facts above: as many tokens of each length from a short one on.

    So the short ones, in which nearly every token is a fact or a question, are by far the most.
    """
    lengths = [longest >> halvings for halvings in range(4) if longest >> halvings >= _SHORTEST]
    pairs = [
        answers_only(document, tokenizer)
        for length in lengths
        for document in _recalls(
            run,
            tokenizer,
            length - length // 16,
            tokens // len(lengths) // length,
            salt=f"/sft/{longest}",
        )
    ]
    return [pair for pair in pairs if len(pair[0]) <= longest]


def _take(texts: Iterator[str], most_bytes: int) -> Iterator[str]:
    """Yield texts until `most_bytes` are reached."""
    size = 0
    for text in texts:
        if size > most_bytes:
            return
        size += len(text.encode())
        yield text
