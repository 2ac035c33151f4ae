"""The type checker that enforces shapes; a whole number passes for a float, as typing has it."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
