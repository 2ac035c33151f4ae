"""What holds for every test: shapes in signatures are checked, and a slow machine is no failure."""

from hypothesis import settings
from jaxtyping import install_import_hook

import tests.shapes

# Signatures say shapes (docs/notation.md); here, and only here, they are enforced.
SHAPED = ("puna.model", "puna.ops", "puna.checkpoint.layout", "puna.checkpoint.gguf_blocks")
install_import_hook(SHAPED, f"{tests.shapes.__name__}.checked")

settings.register_profile("house", deadline=None)
settings.load_profile("house")
