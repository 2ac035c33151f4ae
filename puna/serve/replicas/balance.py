"""Which replica answers a request: the one that knows most of its text, unless it is much busier.

A replica's cache holds the pages of what it has read, so the next turn of a dialog costs least
where the turns before it were answered. The balance remembers the keys of texts that it has sent to
each replica (`puna.serve.replicas.prefixes` makes them) and how many requests each is answering. No
replica gets more than its share with some headroom, so a text that everybody sends cannot bury one.

Plain data in, a name out: nothing here knows of HTTP or of the engine that runs the replicas.

Source: Mirrokni, Thorup and Zadimoghaddam 2016, Consistent Hashing with Bounded Loads,
arXiv:1608.01350, for the bound.
"""

import math
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from puna.errors import ConfigError, StateError


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceConfig:
    """What decides."""

    known_keys: int = 65_536  # remembered of each replica: 4 million characters, about a full cache
    kept_homes: int = 4_096  # of things that live on one replica: stored responses, files
    headroom: float = 1.25  # a replica may run so many times the mean of all
    slack: int = 4  # requests that one replica may always run, however idle the others are
    least_share: float = 0.25  # of a request's keys; a shorter known prefix decides nothing

    def __post_init__(self) -> None:
        for name in ("known_keys", "kept_homes", "slack"):
            if getattr(self, name) < 1:
                raise ConfigError(f"balance: {name}={getattr(self, name)} must be at least 1.")
        if self.headroom < 1:
            raise ConfigError(f"balance: headroom={self.headroom} must be at least 1.")
        if not 0 <= self.least_share <= 1:
            raise ConfigError(f"balance: least_share={self.least_share} must be from 0 to 1.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is known of a request before a replica has it."""

    keys: tuple[bytes, ...] = ()  # of its text: each stands for the text up to its end
    home: bytes | None = None  # what it needs, which lives on one replica alone
    makes: bytes | None = None  # what it leaves there for later requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Where a request goes."""

    replica: str
    known: int  # of its keys, from the first: what the replica has read already


@dataclass(slots=True)
class _Replica:
    running: int = 0
    keys: OrderedDict[bytes, None] = field(default_factory=OrderedDict)  # the oldest first


class Balance:
    """What each replica knows, and how much it has to do."""

    def __init__(self, config: BalanceConfig | None = None) -> None:
        self.config = config or BalanceConfig()
        self._replicas: dict[str, _Replica] = {}
        self._homes: OrderedDict[bytes, str] = OrderedDict()

    @property
    def replicas(self) -> tuple[str, ...]:
        """The replicas that may be chosen."""
        return tuple(self._replicas)

    def running(self, replica: str) -> int:
        """Return how many requests a replica is answering."""
        return self._replicas[replica].running

    def remembered(self, replica: str) -> int:
        """Return how many keys of a replica are remembered."""
        return len(self._replicas[replica].keys)

    def meet(self, replicas: Collection[str]) -> None:
        """Take these as all that live; what the others knew is forgotten."""
        for name in set(self._replicas) - set(replicas):
            self.lose(name)
        for name in sorted(replicas):
            self._replicas.setdefault(name, _Replica())

    def lose(self, replica: str) -> None:
        """Forget a replica: it has died, and its cache with it."""
        self._replicas.pop(replica, None)
        for key in [key for key, name in self._homes.items() if name == replica]:
            del self._homes[key]

    def choose(self, wanted: Wanted) -> Choice:
        """Choose a replica for a request, and remember that it will know the request's text.

        Raises:
            StateError: no replica lives.
        """
        if not self._replicas:
            raise StateError("balance: no replica lives; at least one is expected. Wait for one.")
        name = self._homes.get(wanted.home) if wanted.home is not None else None
        if name is None:
            name = self._best(wanted.keys)
        choice = Choice(replica=name, known=self.known(name, wanted.keys))
        self._remember(name, wanted)
        return choice

    def began(self, replica: str) -> None:
        """Count one more request that a replica is answering."""
        if replica in self._replicas:
            self._replicas[replica].running += 1

    def ended(self, replica: str) -> None:
        """Count one less; a request may end after its replica."""
        if replica in self._replicas:
            self._replicas[replica].running = max(0, self._replicas[replica].running - 1)

    def known(self, replica: str, keys: Sequence[bytes]) -> int:
        """Return how many of the keys, from the first, a replica knows."""
        kept = self._replicas[replica].keys
        return next((i for i, key in enumerate(keys) if key not in kept), len(keys))

    def limit(self) -> int:
        """Return how many requests one replica may run, counting the one that comes."""
        total = sum(replica.running for replica in self._replicas.values()) + 1
        fair = math.ceil(self.config.headroom * total / len(self._replicas))
        return max(self.config.slack, fair)

    def _best(self, keys: Sequence[bytes]) -> str:
        """Return the replica that knows most among those below the limit; then the idlest.

        One is always below: the least busy runs no more than the mean.
        """
        limit, least = self.limit(), max(1, math.ceil(self.config.least_share * len(keys)))

        def rank(name: str) -> tuple[int, int, int, str]:
            replica = self._replicas[name]
            known = self.known(name, keys)
            return (-known if known >= least else 0, replica.running, len(replica.keys), name)

        return min((n for n, r in self._replicas.items() if r.running < limit), key=rank)

    def _remember(self, name: str, wanted: Wanted) -> None:
        kept = self._replicas[name].keys
        # From the last: what a text begins with is forgotten after what it continues with.
        for key in reversed(wanted.keys):
            kept[key] = None
            kept.move_to_end(key)
        while len(kept) > self.config.known_keys:
            kept.popitem(last=False)
        for home in (wanted.home, wanted.makes):
            if home is not None:
                self._homes[home] = name
                self._homes.move_to_end(home)
        while len(self._homes) > self.config.kept_homes:
            self._homes.popitem(last=False)
