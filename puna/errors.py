"""The errors that puna raises on purpose: what was given, what was expected, what to do.

Every other room raises these at its boundaries (configs, files, requests, run folders). Each class
also inherits the standard library's class for that kind of failure, so that callers who do not know
puna can still catch them. The command line prints such an error as one line.
"""


class PunaError(Exception):
    """Any failure that puna foresees and explains in one sentence."""


class ConfigError(PunaError, ValueError):
    """A configuration holds an unknown, missing or contradictory value."""


class FormatError(PunaError, ValueError):
    """A file is corrupt, truncated, or not what it claims to be."""


class NotFoundError(PunaError, FileNotFoundError):
    """A file, a folder or a tensor that is needed does not exist."""


class ContextError(PunaError, ValueError):
    """A prompt, or a prompt and its answer, does not fit the model's context."""


class RequestError(PunaError, ValueError):
    """An argument of a call is wrong."""


class StateError(PunaError, RuntimeError):
    """A run folder, a stage or an object is not in the state that the call needs."""


class ExtraError(PunaError, ImportError):
    """A part of puna needs a library that is not installed."""
