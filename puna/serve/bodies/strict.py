"""A body that says what it takes: types are not converted, and a key that is not known is refused.

Every class of this folder stands on `Body`. A key that would change the answer and is not
understood must not be ignored, so there is a list of those that change nothing.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class Body(BaseModel):
    """Strict JSON: a number is no text, and NaN is none."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Accounting(Body):
    """What clients send for OpenAI's own accounting; nothing here changes an answer."""

    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    service_tier: str | None = None
    metadata: dict[str, str] | None = None

    @property
    def owner(self) -> str | None:
        """Return who asks, for fairness between users that share a key."""
        return self.safety_identifier or self.user


Text = Annotated[str, Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Share = Annotated[float, Field(ge=0, le=1)]
Object = dict[str, Any]


class Sampling(Accounting):
    """How tokens are drawn: OpenAI's fields, and those that llama.cpp and vLLM have beside them."""

    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Field(ge=1)] | None = None
    min_p: Share | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=100)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    seed: Seed | None = None
    ignore_eos: bool | None = None
    priority: Annotated[int, Field(ge=-100, le=100)] | None = None
    stop: Text | Annotated[list[Text], Field(max_length=64)] | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings as a list, whatever form they came in."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


class StreamOptions(Body):
    """What a stream tells beside the answer."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None  # padding against eavesdroppers; puna adds none
