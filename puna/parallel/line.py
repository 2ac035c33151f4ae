"""The leader's line to the other ranks: what to compute next, and whether everybody is still there.

A message is a few numbers. A thread of each follower takes messages at once, so that a leader never
waits for a rank that computes; a thread of the leader speaks when there is nothing to say, so that
silence means an end. Whoever finds another rank gone says so in one sentence, which `hear` and
`say` raise from then on, and calls `on_loss`: a rank that waits inside a collective of a GPU cannot
be told in any other way.
"""

import queue
import re
import threading
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist

from puna.errors import StateError
from puna.parallel.links import Links

_NOTHING, _END = 0, -1  # in the place of a message's length
_BEATS = 6  # words in the time after which silence counts


def _ignore(_: str) -> None:
    """Do nothing more than raise."""


def _first_words(error: BaseException) -> str:
    """Return what an error of gloo says, without where in gloo it was said."""
    text = re.sub(r"^\[[^]]*\]\s*", "", str(error).strip()) or type(error).__name__
    return text.splitlines()[0].partition(". ")[0][:200]


class _Line:
    def __init__(self, links: Links, on_loss: Callable[[str], None]) -> None:
        self._links, self._on_loss = links, on_loss
        self._lost: StateError | None = None
        self._loss = threading.Lock()

    @property
    def lost(self) -> StateError | None:
        """What was lost, if anything was."""
        return self._lost

    def check(self) -> None:
        """Raise what was lost, if anything was."""
        if self._lost is not None:
            raise StateError(str(self._lost))

    def _note_loss(self, who: str, error: BaseException) -> StateError:
        """Remember the first loss and tell it once; return it."""
        with self._loss:
            is_first = self._lost is None
            if self._lost is None:
                why = _first_words(error)
                self._lost = StateError(
                    f"rank {self._links.mesh.rank}: {who} is gone or does not answer ({why}); all "
                    f"{self._links.mesh.size} ranks compute together, so this one ends. Start "
                    "every rank again."
                )
        if is_first:
            self._on_loss(str(self._lost))
        return self._lost


class Leader(_Line):
    """Rank 0's end of the line."""

    def __init__(self, links: Links, on_loss: Callable[[str], None] = _ignore) -> None:
        super().__init__(links, on_loss)
        self._speaking = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="puna-beat", daemon=True)
        self._thread.start()

    def say(self, numbers: Sequence[int]) -> None:
        """Send a message to every follower.

        Raises:
            StateError: one of them is gone.
        """
        self._send(len(numbers), numbers)

    def lose(self, error: BaseException) -> StateError:
        """Return the sentence for an error within a step, with the rank that is gone by name."""
        try:
            self._send(_NOTHING)
        except StateError as named:
            return named
        return self._note_loss("a step failed, and some rank", error)

    def close(self) -> None:
        """Let every follower end."""
        self._over.set()
        self._thread.join()
        if self._lost is None:
            self._send(_END)

    def _beat(self) -> None:
        while not self._over.wait(self._links.silence_s / _BEATS):
            try:
                self._send(_NOTHING)
            except StateError:
                return

    def _send(self, head: int, numbers: Sequence[int] = ()) -> None:
        self.check()
        messages = [torch.tensor([head])]
        if numbers:
            messages.append(torch.tensor(numbers))
        group = self._links.control
        with self._speaking:
            for rank in range(1, self._links.mesh.size):
                try:
                    for message in messages:
                        dist.send(message, rank, group=group)
                except (RuntimeError, ValueError) as error:
                    raise self._note_loss(f"rank {rank}", error) from None


class Follower(_Line):
    """Another rank's end of the line."""

    def __init__(self, links: Links, on_loss: Callable[[str], None] = _ignore) -> None:
        super().__init__(links, on_loss)
        self._messages: queue.SimpleQueue[list[int] | None] = queue.SimpleQueue()
        thread = threading.Thread(target=self._listen, name="puna-listen", daemon=True)
        thread.start()

    def hear(self) -> list[int] | None:
        """Return the next message, or None where the leader has ended the work.

        Raises:
            StateError: the leader is gone.
        """
        message = self._messages.get()
        self.check()
        return message

    def lose(self, error: BaseException) -> StateError:
        """Return the sentence for an error within a step."""
        return self._note_loss("a step failed, and some rank", error)

    def _listen(self) -> None:
        head, group = torch.empty(1, dtype=torch.int64), self._links.control
        try:
            while True:
                dist.recv(head, 0, group=group)
                if int(head) == _END:
                    break
                if int(head) != _NOTHING:
                    message = torch.empty(int(head), dtype=torch.int64)
                    dist.recv(message, 0, group=group)
                    self._messages.put(message.tolist())
        except (RuntimeError, ValueError) as error:
            self._note_loss("rank 0", error)
        self._messages.put(None)
