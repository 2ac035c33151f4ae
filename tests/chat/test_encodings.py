"""What is remembered between renderings: it saves time, and no result depends on it."""

import gc
import threading
import weakref

from hypothesis import given
from hypothesis import strategies as st

from puna.chat.encodings import Encodings, encodings_of
from puna.chat.format import ChatFormat
from puna.chat.messages import Message
from puna.tokenizer.ranks import RankTokenizer
from tests.chat.dialogs import BYTES, texts

SINGLE = [bytes([value]) for value in range(256)]


class Counting(RankTokenizer):
    """Counts what it is asked to encode."""

    def __init__(self) -> None:
        super().__init__(SINGLE)
        self.encoded: list[str] = []

    def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> list[int]:
        self.encoded.append(text)
        return super().encode(text, bos=bos, eos=eos)


def _dialog(count: int) -> list[Message]:
    return [
        Message(role=("user", "assistant")[number % 2], content=f"message {number}")
        for number in range(count)
    ]


def test_a_turn_more_encodes_the_turn_alone() -> None:
    tok = Counting()
    for dialect in ("meta", "hf", "{{ bos_token }}{% for m in messages %}{{ m.content }}<|eot_id|>"
                    "{% endfor %}"):  # fmt: skip
        ChatFormat(tok, dialect).render(_dialog(20))
        tok.encoded.clear()
        ids = ChatFormat(tok, dialect).render(_dialog(21)).ids
        assert [text.strip() for text in tok.encoded] in (["message 20"], [])
        assert ids == ChatFormat(BYTES, dialect).render(_dialog(21)).ids


def test_tokenizers_do_not_share_what_they_remember() -> None:
    pair = RankTokenizer([*SINGLE, b"me"])
    dialog = _dialog(2)
    assert ChatFormat(BYTES).render(dialog).ids != ChatFormat(pair).render(dialog).ids
    assert encodings_of(BYTES) is encodings_of(BYTES)
    assert encodings_of(BYTES) is not encodings_of(pair)


def test_a_prompt_may_be_changed_by_its_owner() -> None:
    first = ChatFormat(BYTES).render(_dialog(3))
    expected = list(first.ids)
    first.ids.clear()
    first.loss_mask[0] = 1
    again = ChatFormat(BYTES).render(_dialog(3))
    assert again.ids == expected
    assert again.loss_mask[0] == 0


@given(st.lists(texts, max_size=40))
def test_the_oldest_give_way(given_: list[str]) -> None:
    memory = Encodings(BYTES, max_tokens=200)
    for text in given_:
        assert list(memory.encode(text)) == BYTES.encode(text)
        assert memory.tokens <= 200


@given(st.lists(st.tuples(texts, st.booleans()), min_size=1, max_size=5))
def test_a_token_is_trained_where_any_of_its_bytes_is(parts: list[tuple[str, bool]]) -> None:
    tok = RankTokenizer([*SINGLE, b"<|", b"|>", b"\n\n", b"Hi", b"two", b"a|"])
    ids, mask = Encodings(tok).encode_parts(tuple(parts))
    flags = [trained for text, trained in parts for _ in text.encode()]
    at = 0
    for token, flag in zip(ids, mask, strict=True):
        end = at + len(tok.piece(token))
        assert flag == any(flags[at:end])
        at = end


def test_a_tokenizer_that_is_gone_takes_its_memory_along() -> None:
    tok = Counting()
    ChatFormat(tok).render(_dialog(2))
    memory = weakref.ref(encodings_of(tok))
    del tok
    gc.collect()
    assert memory() is None


def test_threads_render_the_same() -> None:
    chat = ChatFormat(
        BYTES, "{% for m in messages %}{{ m.role + m.content }}<|eot_id|>{% endfor %}"
    )
    dialogs = [_dialog(count) for count in range(1, 9)]
    expected = [chat.render(dialog).ids for dialog in dialogs]
    found: list[bool] = []

    def work() -> None:
        found.extend(
            chat.render(dialog).ids == ids
            for _ in range(20)
            for dialog, ids in zip(dialogs, expected, strict=True)
        )

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 * 20 * 8
    assert all(found)
