"""URL deduplication: of several captures of one address the newest is kept.

Addresses are compared after normalisation: lower-case host, no fragment, default port, tracking
parameter or trailing slash. The Llama 3 Herd of Models, section 3.1.1, keeps the most recent
version of each URL over the whole set.
"""

from collections.abc import Sequence
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}
_TRACKING = frozenset(
    {"dclid", "fbclid", "gbraid", "gclid", "igshid", "mc_cid", "mc_eid", "msclkid", "wbraid"}
)
_TRACKING_PREFIXES = ("utm_",)


def normalise_url(url: str) -> str:
    """Write an address in the one form in which addresses are compared.

    The scheme is left out: a page under http and under https is the same page. An address that
    cannot be parsed is returned as it came.
    """
    try:
        parts = urlsplit(url.strip().strip("<>"))
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return url
    if not host:
        return url
    if port and port != _DEFAULT_PORTS.get(parts.scheme):
        host = f"{host}:{port}"
    kept = [
        (key, value)
        for key, value in parse_qsl(parts.query, keep_blank_values=True)
        if key.lower() not in _TRACKING and not key.lower().startswith(_TRACKING_PREFIXES)
    ]
    return urlunsplit(("", host, parts.path.rstrip("/"), urlencode(kept), ""))


def newest(captures: Sequence[tuple[str, str, int, str]]) -> list[int]:
    """Return the indices to keep, ascending: of each address the newest, then longest, capture.

    Args:
        captures: (normalised address or "", ISO date or "", length, id); without an address a
            document is kept.
    """
    best: dict[str, int] = {}
    for index, (url, *rank) in enumerate(captures):
        held = best.setdefault(url, index)
        if url and rank > list(captures[held][1:]):
            best[url] = index
    return [i for i, (url, *_) in enumerate(captures) if not url or best[url] == i]
