import pytest

from puna.tokenizer.specials import EDITIONS, special_names

# (edition, slot) -> name, from the files that Meta and Hugging Face published.
PUBLISHED = {
    ("llama-3", 2): "<|reserved_special_token_0|>",
    ("llama-3", 4): "<|reserved_special_token_2|>",
    ("llama-3", 8): "<|reserved_special_token_4|>",
    ("llama-3", 10): "<|reserved_special_token_5|>",
    ("llama-3", 255): "<|reserved_special_token_250|>",
    ("llama-3.1", 4): "<|finetune_right_pad_id|>",
    ("llama-3.1", 5): "<|step_id|>",
    ("llama-3.1", 11): "<|reserved_special_token_2|>",
    ("llama-3.1", 255): "<|reserved_special_token_246|>",
    ("llama-3.1-hf", 5): "<|reserved_special_token_2|>",
    ("llama-3.1-hf", 11): "<|reserved_special_token_3|>",
    ("llama-3.1-hf", 255): "<|reserved_special_token_247|>",
    ("llama-3.2", 11): "<|image|>",
    ("llama-3.2", 12): "<|reserved_special_token_2|>",
    ("llama-3.2", 255): "<|reserved_special_token_245|>",
}


@pytest.mark.parametrize(("edition", "slot"), PUBLISHED)
def test_names_are_those_published(edition: str, slot: int) -> None:
    assert special_names(edition)[slot] == PUBLISHED[edition, slot]


@pytest.mark.parametrize("edition", EDITIONS)
def test_every_edition_has_256_names_and_the_same_frame(edition: str) -> None:
    names = special_names(edition)
    assert len(names) == len(set(names)) == 256
    frame = [names[slot] for slot in (0, 1, 6, 7, 9)]
    words = ["begin_of_text", "end_of_text", "start_header_id", "end_header_id", "eot_id"]
    assert frame == [f"<|{word}|>" for word in words]
