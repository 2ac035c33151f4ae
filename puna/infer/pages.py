"""Who owns which page of the KV cache: counted references, and reuse by content.

A page holds the keys and values of `page_tokens` tokens. Several sequences may hold one page; it is
written only by a sequence that holds it alone. A page whose tokens are all known is kept under the
hash of everything up to its end, so that whoever reads the same text finds it, also after its
owners have left: then it waits among the free pages, and the one that was left longest ago is
forgotten first. The pool knows numbers only; the tensors are `puna.infer.paged`'s.
"""

import hashlib
from array import array
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence

from puna.errors import StateError


def first_key(salt: str) -> bytes:
    """Return the key that the chain of a text begins with."""
    return hashlib.sha256(salt.encode()).digest()


def next_key(before: bytes, ids: Sequence[int]) -> bytes:
    """Return the key of a page: of its tokens and of everything before it."""
    return hashlib.sha256(before + array("q", ids).tobytes()).digest()


class PagePool:
    """The pages of one cache."""

    def __init__(self, pages: int, page_tokens: int) -> None:
        self.pages, self.page_tokens = pages, page_tokens
        self._holders = [0] * pages
        self._blank = deque(range(pages))  # nobody holds them and nothing is known of them
        self._left: OrderedDict[int, None] = OrderedDict()  # kept, held by nobody, oldest first
        self._of_key: dict[bytes, int] = {}
        self._key_of: dict[int, bytes] = {}
        self.forgotten = 0  # pages that were kept and had to go

    @property
    def free(self) -> int:
        """Pages that may be taken."""
        return len(self._blank) + len(self._left)

    @property
    def kept(self) -> int:
        """Pages that can be found by their content."""
        return len(self._of_key)

    def holders(self, page: int) -> int:
        """Return how many sequences hold a page."""
        return self._holders[page]

    def take(self) -> int:
        """Return a page for one sequence to write.

        Raises:
            StateError: no page is free.
        """
        if self._blank:
            page = self._blank.popleft()
        elif self._left:
            page, _ = self._left.popitem(last=False)
            del self._of_key[self._key_of.pop(page)]
            self.forgotten += 1
        else:
            raise StateError(
                f"page pool: all {self.pages} pages are held; one that is free is expected. "
                "Preempt a sequence first."
            )
        self._holders[page] = 1
        return page

    def hold(self, page: int) -> None:
        """Count one more holder of a page that is held or kept."""
        assert self._holders[page] or page in self._left, "a blank page has nothing to share"
        self._left.pop(page, None)
        self._holders[page] += 1

    def release(self, pages: Iterable[int]) -> None:
        """Count one holder less of each; the last page is forgotten before those it continues."""
        for page in reversed(list(pages)):
            assert self._holders[page] > 0, "a page is released once by each holder"
            self._holders[page] -= 1
            if self._holders[page]:
                continue
            if page in self._key_of:
                self._left[page] = None
            else:
                self._blank.append(page)

    def find(self, key: bytes) -> int | None:
        """Return the page with this content, if there is one."""
        return self._of_key.get(key)

    def keep(self, page: int, key: bytes) -> None:
        """Let a full page be found; the first page with some content is the one that is found."""
        assert self._holders[page] > 0, "only a page that somebody holds has content"
        if key not in self._of_key and page not in self._key_of:
            self._of_key[key] = page
            self._key_of[page] = key

    def forget(self) -> None:
        """Let no page be found any more: the weights have changed."""
        self._blank.extend(self._left)
        self._left.clear()
        self._of_key.clear()
        self._key_of.clear()
