"""Token shards and batches: nothing lost, the same for any number of ranks, resumable anywhere."""

import weakref
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.data.loader import Loader, permute
from puna.data.pack import cut_document, pack_documents, pack_rows
from puna.data.shards import Piece, TokenStream, write_shards
from puna.errors import ConfigError, ContextError, FormatError, NotFoundError, StateError
from puna.ops.loss import IGNORED


class Letters:
    """A tokenizer for tests: a letter is its place in the alphabet."""

    vocab, bos_id, eos_id, pad_id = 32, 28, 29, 30

    def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> list[int]:
        ids = [ord(letter) - ord("a") for letter in text]
        return [self.bos_id] * bos + ids + [self.eos_id] * eos


def packed(tmp_path, texts=("abc", "defgh", "ij", "klmnop")):
    pack_documents(iter(texts), Letters(), tmp_path / "tokens")
    return TokenStream(tmp_path / "tokens")


def test_documents_follow_one_another_and_none_is_lost(tmp_path) -> None:
    stream = packed(tmp_path, ("abc", "de"))
    assert stream.ids(0, 100).tolist() == [28, 0, 1, 2, 29, 28, 3, 4, 29]
    assert stream.documents(0, 9).tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]


def test_a_stream_reads_across_its_files(tmp_path) -> None:
    pieces = [Piece(ids=range(start, start + 5)) for start in (0, 5, 10, 15)]
    write_shards(pieces, tmp_path / "t", vocab=32, shard_tokens=6)
    stream = TokenStream(tmp_path / "t")
    assert len(stream.facts["shards"]) == 2
    assert stream.ids(3, 17).tolist() == list(range(3, 17))


def test_a_large_vocabulary_takes_four_bytes_a_token(tmp_path) -> None:
    write_shards([Piece(ids=[70_000, 1])], tmp_path / "t", vocab=128_256)
    assert TokenStream(tmp_path / "t").ids(0, 2).tolist() == [70_000, 1]


def test_the_first_token_of_a_document_is_not_a_target(tmp_path) -> None:
    stream = packed(tmp_path, ("abc", "de"))
    batch = Loader(stream, sequence=9, batch=1, seed=0).batch(0)
    assert batch.ids[0].tolist() == [28, 0, 1, 2, 29, 28, 3, 4, 29]
    assert batch.targets[0].tolist() == [0, 1, 2, 29, IGNORED, 3, 4, 29, IGNORED]
    assert batch.documents[0].tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]


def test_every_window_is_read_once_an_epoch(tmp_path) -> None:
    stream = packed(tmp_path, ["abcdefghij"] * 10)
    loader = Loader(stream, sequence=6, batch=4, seed=3)
    seen = [tuple(row.tolist()) for n in range(5) for row in loader.batch(n).ids]
    windows = [tuple(stream.ids(6 * i, 6 * i + 6).tolist()) for i in range(loader.windows)]
    assert loader.windows == 20
    assert sorted(seen) == sorted(windows)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_any_number_of_ranks_reads_the_same_global_batches(tmp_path, ranks: int) -> None:
    loader = Loader(packed(tmp_path, ["abcdefghij"] * 10), sequence=6, batch=4, seed=3)
    for number in (0, 7):
        whole = loader.batch(number)
        parts = [loader.batch(number, rank=rank, ranks=ranks) for rank in range(ranks)]
        for rank, part in enumerate(parts):
            assert torch.equal(part.ids, whole.ids[rank::ranks])
            assert torch.equal(part.targets, whole.targets[rank::ranks])


def test_a_batch_depends_on_its_number_alone(tmp_path) -> None:
    stream = packed(tmp_path, ["abcdefghij"] * 10)
    first = Loader(stream, sequence=6, batch=4, seed=3)
    numbers = [first.batch(n).ids for n in range(12)]
    resumed = Loader(TokenStream(tmp_path / "tokens"), sequence=6, batch=4, seed=3)
    assert torch.equal(resumed.batch(9).ids, numbers[9])
    other = Loader(stream, sequence=6, batch=4, seed=4)
    assert any(not torch.equal(other.batch(n).ids, numbers[n]) for n in range(5))


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 400), key=st.text(max_size=5))
def test_the_order_of_windows_is_a_permutation(count: int, key: str) -> None:
    assert sorted(permute(i, count, key=key) for i in range(count)) == list(range(count))


def test_dialogs_are_never_cut_and_padding_is_no_target(tmp_path) -> None:
    dialogs = [([1, 2, 3, 4], [0, 0, 1, 1]), ([5, 6, 7], [0, 1, 1]), ([8, 9], [0, 1])]
    pack_rows(dialogs, Letters(), tmp_path / "t", sequence=6)
    stream = TokenStream(tmp_path / "t")
    assert stream.ids(0, 12).tolist() == [1, 2, 3, 4, 8, 9, 5, 6, 7, 30, 30, 30]
    batch = Loader(stream, sequence=6, batch=2, seed=0).batch(0)
    order = sorted(range(2), key=lambda row: int(batch.ids[row, 0]))
    assert batch.targets[order[0]].tolist() == [IGNORED, 3, 4, IGNORED, 9, IGNORED]
    assert batch.targets[order[1]].tolist() == [6, 7, IGNORED, IGNORED, IGNORED, IGNORED]
    assert batch.documents[order[1]].tolist() == [0, 0, 0, 1, 1, 1]


def test_a_dialog_longer_than_a_row_is_refused_with_both_counts(tmp_path) -> None:
    with pytest.raises(ContextError, match="7 tokens that belong together were given; a row holds"):
        pack_rows([([1] * 7, [1] * 7)], Letters(), tmp_path / "t", sequence=6)


def test_a_long_document_is_cut_without_losing_a_token() -> None:
    parts = list(cut_document(list(range(10)), sequence=4))
    assert [len(ids) for ids, _ in parts] == [4, 4, 2]
    assert [i for ids, _ in parts for i in ids] == list(range(10))


def test_nothing_to_pack_is_an_error_and_leaves_nothing(tmp_path) -> None:
    with pytest.raises(StateError, match="no documents"):
        pack_documents(iter(["", ""]), Letters(), tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_an_id_beyond_the_vocabulary_is_refused(tmp_path) -> None:
    with pytest.raises(FormatError, match="token id 32"):
        write_shards([Piece(ids=[1, 32])], tmp_path / "t", vocab=32)
    with pytest.raises(FormatError, match="token id -1"):
        write_shards([Piece(ids=[1, -1])], tmp_path / "t", vocab=32)


def test_a_shortened_file_is_refused(tmp_path) -> None:
    packed(tmp_path)
    path = tmp_path / "tokens" / "tokens-00000.bin"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(FormatError, match="the index promises"):
        TokenStream(tmp_path / "tokens")


def test_missing_shards_say_what_to_run(tmp_path) -> None:
    with pytest.raises(NotFoundError, match="puna pack"):
        TokenStream(tmp_path / "nothing")


def test_too_few_tokens_for_a_row_are_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match="one row needs 512"):
        Loader(packed(tmp_path), sequence=512, batch=1, seed=0)


def test_packing_lets_go_of_every_text_it_has_read(tmp_path) -> None:
    """Pitfall C9: memory does not grow with the texts; what is left is two bytes a token."""

    class Text(str):
        """A text that can be watched."""

    alive = weakref.WeakSet[Text]()
    held: list[int] = []

    def texts() -> Iterator[str]:
        for number in range(50):
            text = Text("abcdefgh" + chr(ord("a") + number % 20))
            alive.add(text)
            held.append(len(alive))
            yield text
            del text

    pack_documents(texts(), Letters(), tmp_path / "t")
    assert max(held) <= 2
    assert TokenStream(tmp_path / "t").tokens == 550
    assert np.fromfile(tmp_path / "t" / "documents.bin", dtype="<i8")[1] == 11


@pytest.mark.parametrize("index", ["", '{"tokens": 25', "[]", '{"tokens": 25}'])
def test_a_damaged_index_is_named(tmp_path, index: str) -> None:
    packed(tmp_path)
    (tmp_path / "tokens" / "index.json").write_text(index)
    with pytest.raises(FormatError, match=r"index\.json: the index of the shards is damaged"):
        TokenStream(tmp_path / "tokens")
