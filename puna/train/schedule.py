"""The learning rate as a pure function of the step."""

import math
from dataclasses import dataclass
from typing import Literal

from puna.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleConfig:
    """Linear warm-up, then a decay to a share of the peak.

    Source: The Llama 3 Herd of Models, section 3.4.1: warm-up and cosine to 1 % of the peak;
    section 3.4.3: linear to zero while annealing.
    """

    warmup_steps: int = 8000  # 405B
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    final_share: float = 0.01  # 8e-5 to 8e-7 for 405B

    def __post_init__(self) -> None:
        if self.warmup_steps < 0 or not 0 <= self.final_share <= 1:
            raise ConfigError(
                f"schedule: warmup_steps={self.warmup_steps} and final_share={self.final_share}; "
                "steps from 0 and a share between 0 and 1 are expected."
            )


def learning_rate_share(config: ScheduleConfig, step: int, steps: int) -> float:
    """Return the share of the peak learning rate for optimizer step `step` = 0 .. steps-1.

    Warm-up reaches the peak at its last step; the decay reaches `final_share` at `steps`.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.decay == "constant":
        return 1.0
    done = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    curve = 1 - done if config.decay == "linear" else (1 + math.cos(math.pi * done)) / 2
    return config.final_share + (1 - config.final_share) * curve
