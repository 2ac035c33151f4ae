"""A longer context for a trained model: the same weights, RoPE's low frequencies slowed.

The context grows in increments, each trained until the model has settled at its length; the scaling
is put in before the first of them and stays as it is (puna.life runs the increments).
Source: The Llama 3 Herd of Models, section 3.4.2: six increments from 8K to 128K positions.
"""

from dataclasses import replace

from puna.errors import ConfigError
from puna.model.config import RopeScaling
from puna.model.llama import Llama


def lengthen(model: Llama, *, context: int, scaling: RopeScaling) -> Llama:
    """Return a model that reads `context` positions, with the weights of `model`, copied.

    Raises:
        ConfigError: the context does not grow.
    """
    if context <= model.config.context:
        raise ConfigError(
            f"lengthen: a context of {context} was given; the model already reads "
            f"{model.config.context}. Give a longer one."
        )
    longer = Llama(replace(model.config, context=context, rope_scaling=scaling))
    longer.load_state_dict(model.state_dict())
    return longer
