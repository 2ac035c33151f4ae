"""`puna.load`: one object that completes text, answers dialogs and gives logits.

This is the Python face of puna. It turns text and dialogs into ids and hands them to `puna.infer`;
the chat format is that of `puna.chat`, the same that fine-tuning and evaluation use. A folder that
the native decoder runs from where it lies is answered without torch, whose import takes longer than
all the rest; whoever asks for `LLM.model` gets the same weights as a module.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date as Date
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeGuard, Unpack, cast

from puna.chat.messages import Message, to_messages
from puna.checkpoint.open import open_checkpoint
from puna.checkpoint.stored import Checkpoint
from puna.checkpoint.tokenizers import check_tokenizer, load_tokenizer
from puna.config import refuse_unknown_keys
from puna.errors import PunaError, RequestError
from puna.infer.complete import Answer, ChatReader, Completion, Reader, complete
from puna.infer.decoder import cache_name
from puna.infer.generate import stream_ids
from puna.infer.mapped_model import MappedModel
from puna.infer.open_model import expect, open_model, place_of, recipe_of
from puna.infer.sampling import SamplingConfig
from puna.infer.stops import TextStream
from puna.model.config import ModelConfig
from puna.tokenizer.interface import Tokenizer
from puna.tokenizer.specials import END_OF_MESSAGE, END_OF_TURN, PYTHON_TAG
from puna.tools.execute import MAX_STEPS, TIMEOUT_S, Consent
from puna.tools.tool import Tool

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from puna.chat.format import ChatFormat
    from puna.model.llama import Llama
    from puna.parallel.links import Links

Dialog = Iterable[Message | Mapping[str, Any]]


class Options(TypedDict, total=False):
    """How to generate; what is left out comes from `LLM.sampling`."""

    max_tokens: int | None  # None allows what fits into the context
    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    seed: int | Sequence[int] | None  # one for all prompts, or one a prompt
    stop: str | Sequence[str] | None  # text that ends the answer and is left out of it
    ignore_eos: bool  # write on past the stop ids


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatStyle:
    """How a model wants its dialogs written, and how puna knows."""

    dialect: str | None  # for `puna.ChatFormat`; None where no format is known
    source: str
    is_instruct: bool  # whether a bare prompt is meant as a message
    tools: tuple[Tool, ...] = ()  # that the model was raised with


def load(
    path: str | Path,
    quantize: str | None = None,
    device: str = "auto",
    dtype: "str | torch.dtype | None" = None,
    tokenizer: str | Path | Tokenizer | None = None,
    kv_cache: str | None = None,
    links: "Links | None" = None,
    as_module: bool = False,
) -> "LLM":
    """Load a model: a run folder, a Hugging Face or Meta folder, a `.gguf` or llama2.c `.bin` file.

    Args:
        quantize: "int8", "int4" or "fp8" rounds the weights on the way (`puna quantize` does it
            with calibration, once); None keeps them as they are stored.
        device: "auto" takes the GPU where there is one.
        dtype: of the weights in memory; None keeps what is stored where the device is fast at it.
        tokenizer: a tokenizer, or its file, for weights that come without one.
        kv_cache: what keys and values are kept in: "f32", "bf16", or "int8" or "fp8", which take
            half of the memory of bf16; None takes what suits the weights.
        links: to the other processes of a divided model; its share is loaded, to their device.
        as_module: load the weights as a module of torch at once, for whoever needs `LLM.model`.
    Raises:
        NotFoundError: there is nothing at `path`.
        FormatError: the files are damaged, or the tokenizer does not belong to the weights.
    """
    place = "cpu" if links is not None else place_of(device)
    recipe = None if quantize is None else recipe_of(quantize)
    checkpoint = open_checkpoint(path)
    if recipe is not None and any(stored.low for stored in checkpoint.tensors.values()):
        raise RequestError(
            f"{path}: quantize={quantize!r} was given, and the weights are stored in few bits "
            "already; rounding them again would lose more. Leave quantize out."
        )
    if links is None:  # a share of a divided model is less than its files
        expect(checkpoint)
    if tokenizer is None:
        tok = checkpoint.tokenizer()
    else:
        tok = load_tokenizer(tokenizer) if isinstance(tokenizer, str | Path) else tokenizer
    if tok is not None:
        check_tokenizer(tok, checkpoint)
    model = open_model(
        checkpoint, place, dtype=dtype, recipe=recipe, links=links, as_module=as_module
    )
    stop_ids = frozenset(checkpoint.stop_ids) | (tok.stop_ids if tok else frozenset())
    return LLM(
        model, tok, style=chat_style(checkpoint, tok), stop_ids=stop_ids, name=str(path),
        kv_cache=kv_cache,
    )  # fmt: skip


def chat_style(checkpoint: Checkpoint, tok: Tokenizer | None) -> ChatStyle:
    """Find the chat format: the folder's own template, else what the control tokens tell.

    A run of puna is written in `meta` whatever template lies in it for other programs. A folder
    without a template may hold a base model, so its bare prompts are continued, not answered.
    """
    template = checkpoint.chat_template
    if tok is None:
        return ChatStyle(dialect=None, source="no tokenizer", is_instruct=False)
    if checkpoint.kind != "run" and template is not None:
        return ChatStyle(dialect=template, source="chat template of the model", is_instruct=True)
    if {END_OF_MESSAGE, PYTHON_TAG} <= tok.specials.keys():
        is_run = checkpoint.kind == "run"
        return ChatStyle(
            dialect="meta",
            source="run of puna" if is_run else "control tokens of Llama 3.1",
            is_instruct=template is not None,
            tools=_raised_with() if is_run and template is not None else (),
        )
    if END_OF_TURN in tok.specials:
        return ChatStyle(dialect="hf3", source="control tokens of Llama 3", is_instruct=False)
    return ChatStyle(dialect=None, source="no template, no control tokens", is_instruct=False)


def _raised_with() -> tuple[Tool, ...]:
    from puna.tools.calculator import CALCULATOR

    return (CALCULATOR,)


class LLM:
    """A model in memory with its tokenizer, its chat format and its defaults."""

    def __init__(
        self,
        model: "Llama | MappedModel",
        tokenizer: Tokenizer | None,
        *,
        style: ChatStyle,
        stop_ids: frozenset[int] = frozenset(),
        sampling: SamplingConfig | None = None,
        name: str = "model",
        kv_cache: str | None = None,
    ) -> None:
        self.style, self.stop_ids, self.name = style, stop_ids, name
        self.sampling = sampling or SamplingConfig()  # used where a call says nothing
        self.kv_cache = cache_name(kv_cache)
        self._model = model
        self._tokenizer = tokenizer
        self._format: ChatFormat | None = None

    @property
    def model(self) -> "Llama":
        """The model as a module of torch; one that ran from its file is loaded as one here."""
        if isinstance(self._model, MappedModel):
            self._model = self._model.as_module()
        return self._model

    @model.setter
    def model(self, model: "Llama") -> None:
        self._model = model

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""
        return self._model.config

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer.

        Raises:
            RequestError: the model came without one.
        """
        if self._tokenizer is None:
            raise RequestError(
                f"{self.name}: text needs a tokenizer and the model came without one. "
                "Pass tokenizer=FILE (--tokenizer FILE), or give ids and read ids."
            )
        return self._tokenizer

    @property
    def format(self) -> "ChatFormat":
        """The chat format, made once: it remembers what it has encoded.

        Raises:
            RequestError: none is known for this model.
        """
        if self.style.dialect is None:
            tok = self.tokenizer
            raise RequestError(
                f"{self.name}: no chat format is known ({self.style.source}; a vocabulary of "
                f"{tok.vocab}); a model made for dialogs is expected. Use generate instead."
            )
        from puna.chat.format import ChatFormat

        if self._format is None or self._format.dialect != self.style.dialect:
            self._format = ChatFormat(self.tokenizer, self.style.dialect)
        return self._format

    def generate(
        self,
        prompts: str | Sequence[int] | Sequence[str | Sequence[int]],
        *,
        raw: bool = True,
        **options: Unpack[Options],
    ) -> Completion | list[Completion]:
        """Continue a text or ids, or a list of them; a list is computed as one batch.

        Args:
            prompts: text gets the BOS token in front; ids are taken as they are.
            raw: continue the text; False sends it as a user's message in the chat format.
        Raises:
            ContextError: a prompt does not fit, or not with its `max_tokens`.
        """
        is_single = isinstance(prompts, str) or _is_ids(prompts)
        if isinstance(prompts, bytes | Mapping) or not isinstance(prompts, Iterable):
            raise _no_prompt(prompts)
        listed: Any = [prompts] if is_single else prompts
        batch = [self.prompt_ids(prompt, raw=raw) for prompt in listed]
        call = _Call.read(options, self.sampling, len(batch))
        done = complete(
            self._model, self._tokenizer, batch, max_tokens=call.max_tokens, sampling=call.sampling,
            stop=call.stop_for(self), stop_ids=self.stop_ids, ignore_eos=call.ignore_eos,
            kv_cache=self.kv_cache,
        )  # fmt: skip
        return done[0] if is_single else done

    def prompt_ids(self, prompt: str | Sequence[int], *, raw: bool = True) -> list[int]:
        """Return the ids that the model reads for a prompt; text gets BOS exactly once."""
        if not isinstance(prompt, str):
            if not _is_ids(prompt):
                raise _no_prompt(prompt)
            return [int(token) for token in prompt]
        if raw:
            return self.tokenizer.encode(prompt, bos=True)
        return self.format.render([Message(role="user", content=prompt)]).ids

    def stream(
        self,
        prompt: str | Sequence[int] | Dialog,
        tools: Sequence[Any] | None = None,
        date: Date | None = None,
        **options: Unpack[Options],
    ) -> Answer:
        """Answer a dialog, or continue a text or ids, and yield the text while it is written.

        Tools of every kind are declared and not run: the answer's `message` holds the calls.
        """
        call = _Call.read(options, self.sampling, 1)
        reader: Reader
        if isinstance(prompt, str) or _is_ids(prompt):
            ids = self.prompt_ids(prompt)
            reader = TextStream(self.tokenizer, stops=call.stop, prompt=ids)
        else:
            from puna.tools.function import as_tool

            form, dialog = self.format, to_messages(cast("Dialog", prompt))
            shown = [as_tool(tool).declaration for tool in tools or ()]
            ids = form.render(dialog, shown, date).ids
            reader = ChatReader(form.parser(shown), stops=call.stop)
        tokens = stream_ids(
            self._model, ids, max_tokens=call.max_tokens, sampling=call.sampling[0],
            stop_ids=self.stop_ids, ignore_eos=call.ignore_eos, kv_cache=self.kv_cache,
        )  # fmt: skip
        return Answer(tokens, reader, prompt_tokens=len(ids))

    def chat(
        self,
        messages: Dialog,
        tools: Sequence[Any] | None = None,
        date: Date | None = None,
        *,
        max_steps: int = MAX_STEPS,
        tool_timeout: float | None = TIMEOUT_S,
        consent: Consent | None = None,
        **options: Unpack[Options],
    ) -> Message:
        """Answer a dialog; the message carries text, tool calls, finish reason and usage.

        Args:
            tools: functions and `puna.tool` objects, which are run until the model has its answer;
                and declarations (OpenAI's dictionaries, names of built-ins): a message that calls
                one of these comes back, with nothing of it run.
            date: today, for the formats that tell the model.
            max_steps: how often the model may speak; then its last message comes back as it is.
            tool_timeout: seconds of one call; None runs tools in this thread, without a limit.
            consent: says whether a call may run, for tools that ask; without it they are refused.
        """
        from puna.tools.function import as_tool
        from puna.tools.loop import Finished, run_tools

        messages, offered = to_messages(messages), [as_tool(tool) for tool in tools or ()]

        def answer(dialog: Dialog) -> Message:
            reply = self.stream(dialog, offered, date, **options)
            for _ in reply:
                pass
            return reply.message

        *_, last = run_tools(
            answer, messages, offered, max_steps=max_steps, timeout=tool_timeout, consent=consent
        )
        assert isinstance(last, Finished)
        return last.answer

    def logits(self, ids: "Sequence[int] | Tensor") -> "Tensor":
        """Return the scores of the token after each position, [T, V] in float32."""
        import torch

        tokens = self.prompt_ids(ids.tolist() if isinstance(ids, torch.Tensor) else ids)
        with torch.no_grad():
            given = torch.tensor([tokens], device=self.model.embed.weight.device)
            return self.model(given)[0]  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """The options of one call, checked, with the defaults filled in."""

    sampling: list[SamplingConfig]
    max_tokens: int | None
    stop: tuple[str, ...]
    ignore_eos: bool

    @classmethod
    def read(cls, options: Options, defaults: SamplingConfig, count: int) -> "_Call":
        given: dict[str, Any] = dict(options)
        try:
            refuse_unknown_keys(given, Options.__annotations__, where="generate")
        except PunaError as error:
            raise RequestError(str(error)) from None
        max_tokens, stop = given.pop("max_tokens", None), given.pop("stop", None) or ()
        ignore_eos = bool(given.pop("ignore_eos", False))
        seeds = given.pop("seed", defaults.seed)
        seeds = list(seeds) if isinstance(seeds, list | tuple) else [seeds] * count
        if len(seeds) != count:
            raise RequestError(
                f"generate: {len(seeds)} seeds were given for {count} prompts; "
                "give one for all, or one a prompt."
            )
        base = dataclasses.replace(defaults, **given)
        return cls(
            sampling=[dataclasses.replace(base, seed=seed) for seed in seeds],
            max_tokens=max_tokens,
            stop=tuple(stop) if isinstance(stop, list | tuple) else (stop,),
            ignore_eos=ignore_eos,
        )

    def stop_for(self, llm: LLM) -> tuple[str, ...]:
        """Return the stop strings; finding them needs a tokenizer."""
        if self.stop:
            _ = llm.tokenizer
        return self.stop


def _no_prompt(given: object) -> RequestError:
    return RequestError(
        f"generate: {type(given).__name__} was given; text or a list of ids is expected. "
        "Use chat or stream for messages."
    )


def _is_ids(prompt: object) -> TypeGuard[Sequence[int]]:
    """Say whether a prompt is a list of ids (an empty list is a batch without prompts)."""
    if (dims := getattr(prompt, "ndim", None)) is not None:  # a tensor or an array
        return bool(dims == 1)
    return isinstance(prompt, Sequence) and len(prompt) > 0 and isinstance(prompt[0], int)
