"""A recipe: everything that decides how one model is raised, as one tree of dataclasses.

`recipes/cria.toml` is the default that ships with the package. A recipe file names what differs
from the defaults of the dataclasses; `--set key=value` changes single keys on the command line.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from puna.config import load_toml
from puna.data.curate import CurateConfig
from puna.errors import ConfigError, NotFoundError
from puna.life.judge import EvalConfig
from puna.model.config import ModelConfig
from puna.posttrain.dialogs import DialogConfig
from puna.train.phase import PhaseConfig

RECIPES = Path(__file__).parent.parent / "recipes"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerConfig:
    """What the tokenizer learns from."""

    vocab: int = 4096  # ids, the 256 special tokens of Llama 3.1 among them
    sample_bytes: int = 8_000_000  # of training text


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeConfig:
    """Shape of the model that is raised; its vocabulary is the tokenizer's."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    mlp_width: int
    rope_theta: float = 500_000.0
    norm_eps: float = 1e-5
    tied: bool = True
    embed_std: float = 0.02  # of the fresh embedding; a separate head keeps 0.02

    def model_config(self, *, vocab: int, context: int) -> ModelConfig:
        """Return the shape with its vocabulary and its first context."""
        return ModelConfig(
            width=self.width,
            layers=self.layers,
            heads=self.heads,
            kv_heads=self.kv_heads,
            mlp_width=self.mlp_width,
            vocab=vocab,
            context=context,
            rope_theta=self.rope_theta,
            norm_eps=self.norm_eps,
            tied=self.tied,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallConfig:
    """Documents that end in questions about facts far above (puna.data.recall)."""

    share: float = 0.06  # of the pretraining tokens; short ones
    extension_share: float = 0.5  # of the rows of an extension; as long as the row
    extension_tokens: int = 1_000_000  # packed for each extension, both kinds together
    sft_share: float = 0.3  # of the fine-tuning tokens
    sft_length: int = 128  # tokens of the longest of them; longer ones teach little at first
    longer_share: float = 0.4  # of the phases after that, in which they are as long as a row
    needles: int = 4  # facts a text at most; of few, one is guessed: so copying begins
    rounds: int = 6  # how often each is asked at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One model's life."""

    name: str
    shape: ShapeConfig
    pretrain: PhaseConfig
    extend: tuple[PhaseConfig, ...] = ()  # increments of the context, shortest first
    sft: PhaseConfig | None = None
    sft_longer: tuple[PhaseConfig, ...] = ()  # then dialogs and questions about facts further up
    seed: int = 0
    minutes: float = 0.0  # wall-clock for everything; 0 where every phase names its steps
    reserve_minutes: float = 1.25  # of them for evaluation and report
    dtype: str = "auto"  # of products while training
    rope_factor: float = 8.0  # of the extension. Source: The Llama 3 Herd of Models, section 3.4.2
    curate: CurateConfig = field(default_factory=CurateConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    recall: RecallConfig = field(default_factory=RecallConfig)
    dialogs: DialogConfig = field(default_factory=DialogConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)

    def __post_init__(self) -> None:
        lengths = [self.pretrain.sequence, *(phase.sequence for phase in self.extend)]
        if lengths != sorted(set(lengths)):
            raise ConfigError(
                f"recipe: the context grows as {lengths}; each increment must be longer than the "
                "one before."
            )
        for name, phase in self.tuning().items():
            if phase.sequence > lengths[-1]:
                raise ConfigError(
                    f"recipe: {name}.sequence={phase.sequence} is longer than the context "
                    f"{lengths[-1]} that the model has by then."
                )
        if self.sft_longer and self.sft is None:
            raise ConfigError("recipe: sft_longer goes on with sft, which is missing. Give both.")
        unplanned = [name for name, phase in self.phases() if not phase.steps]
        if unplanned and self.minutes <= 0:
            raise ConfigError(
                f"recipe: {unplanned[0]}.steps is 0 and minutes is 0; give one of them."
            )
        if unplanned and self.minutes <= self.reserve_minutes:
            raise ConfigError(
                f"recipe: minutes={self.minutes:g} and reserve_minutes={self.reserve_minutes:g}, "
                "which are kept for evaluation and report; more minutes than those are expected. "
                "Raise `minutes`."
            )

    def phases(self) -> list[tuple[str, PhaseConfig]]:
        """Return every phase of training with its name, in order."""
        named = [("pretrain", self.pretrain)]
        named += [(f"extend-{phase.sequence}", phase) for phase in self.extend]
        return named + list(self.tuning().items())

    def tuning(self) -> dict[str, PhaseConfig]:
        """Return the phases of the stage `sft`, in order."""
        named = {f"sft-{phase.sequence}": phase for phase in self.sft_longer}
        return named if self.sft is None else {"sft": self.sft, **named}


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Load a recipe by the path of its file or the name of one that ships with puna.

    Raises:
        NotFoundError: there is no such file and no such name.
        ConfigError: a key or a value is wrong.
    """
    path = Path(name)
    if not path.is_file():
        path = RECIPES / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml")))
        raise NotFoundError(
            f"recipe {name!r}: no such file, and no recipe of that name ships with puna. Give the "
            f"path of a TOML file or one of: {known}."
        )
    return load_toml(Recipe, path, overrides)
