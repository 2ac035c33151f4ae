"""Configs: a wrong key or value is an error in one sentence, a right one comes back unchanged."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna.config import dump_toml, from_table, load_toml, override, read_toml, to_table
from puna.errors import ConfigError, NotFoundError, PunaError


@dataclass(frozen=True, slots=True, kw_only=True)
class Optim:
    peak_lr: float = 1e-3
    warmup_steps: int = 10
    kind: Literal["adamw", "muon"] = "adamw"

    def __post_init__(self) -> None:
        if self.warmup_steps < 0:
            raise ConfigError(f"warmup_steps={self.warmup_steps} must not be negative.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    name: str
    optim: Optim = field(default_factory=Optim)
    phases: tuple[Optim, ...] = ()
    pair: tuple[int, float] = (1, 2.0)
    extra: Optim | None = None
    limit: int | str | None = None
    pages: Path | None = None
    mix: Mapping[str, float] = field(default_factory=dict)
    deep: bool = False
    level: Literal[1, 2] = 1


def built(**table: Any) -> Recipe:
    return from_table(Recipe, {"name": "r", **table}, where="r.toml")


def test_a_misspelt_key_names_the_nearest_one_and_its_table() -> None:
    expected = (
        r"r\.toml \[optim\]: unknown key 'warmup_step'\. Did you mean 'warmup_steps'\? "
        r"Known keys: kind, peak_lr, warmup_steps\."
    )
    with pytest.raises(ConfigError, match=expected):
        built(optim={"warmup_step": 3})


def test_a_key_like_no_other_gets_no_hint() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'zzzz'\. Known keys"):
        built(zzzz=1)


def test_a_missing_key_without_a_default_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^r\.toml: 'name' is missing"):
        from_table(Recipe, {}, where="r.toml")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("name", 3, "name = 3; expected a text in quotes"),
        ("deep", 1, "deep = 1; expected true or false"),
        ("level", True, "level = True; expected one of 1, 2"),
        ("level", 3, "level = 3; expected one of 1, 2"),
        ("pair", [1], r"pair = \[1\]; expected a list of 2 values"),
        ("pair", 5, "pair = 5; expected a list"),
        ("pair", ["x", 1], "pair.0 = 'x'; expected a whole number"),
        ("optim", 4, "optim = 4; expected a table"),
        ("extra", "", "extra = ''; expected a table"),
        ("mix", {"code": "much"}, "mix.code = 'much'; expected a number"),
        ("mix", [1], r"mix = \[1\]; expected a table"),
        ("limit", 1.5, "limit = 1.5; expected a text"),
        ("pages", 7, "pages = 7; expected a path"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(key: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^r\.toml: {message}"):
        built(**{key: value})


@pytest.mark.parametrize("value", ["3e-4", True, [1.0], float("nan")])
def test_a_rate_must_be_a_number(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"optim\.peak_lr = .*; expected a number"):
        built(optim={"peak_lr": value})


def test_a_whole_number_serves_where_a_number_is_expected_but_not_the_reverse() -> None:
    rate = built(optim={"peak_lr": 1}).optim.peak_lr
    assert (rate, type(rate)) == (1.0, float)
    with pytest.raises(ConfigError, match="a whole number"):
        built(optim={"warmup_steps": 10.0})


def test_a_check_of_the_class_says_which_table_failed() -> None:
    with pytest.raises(ConfigError, match=r"^r\.toml \[optim\]: warmup_steps=-1 must not"):
        built(optim={"warmup_steps": -1})


def test_lists_of_tables_become_tuples_of_dataclasses() -> None:
    recipe = built(phases=[{"warmup_steps": 1}, {"kind": "muon"}])
    assert recipe.phases == (Optim(warmup_steps=1), Optim(kind="muon"))
    with pytest.raises(ConfigError, match=r"r\.toml \[phases\.1\]: unknown key 'kin'"):
        built(phases=[{}, {"kin": "muon"}])


def test_one_of_several_types_is_enough() -> None:
    assert built(limit=3).limit == 3
    assert built(limit="auto").limit == "auto"
    assert built(limit=None).limit is None
    assert built(extra={}).extra == Optim()


def test_a_path_may_come_as_text_or_as_a_path() -> None:
    assert built(pages="a/b").pages == built(pages=Path("a/b")).pages == Path("a/b")


def test_a_config_with_a_type_that_no_table_holds_is_a_fault_of_the_program() -> None:
    @dataclass(frozen=True)
    class Odd:
        callback: type[int]

    with pytest.raises(TypeError, match="cannot hold a field"):
        from_table(Odd, {"callback": 1}, where="odd")


def test_an_option_that_is_off_is_refused_where_its_default_would_come_back() -> None:
    @dataclass(frozen=True)
    class Sampling:
        top_p: float | None = 0.9

    assert to_table(Sampling(top_p=0.5)) == {"top_p": 0.5}
    with pytest.raises(ConfigError, match=r"Sampling\.top_p: it is off \(None\)"):
        to_table(Sampling(top_p=None))


names = st.text(st.characters(codec="utf-8"), max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
optims = st.builds(
    Optim,
    peak_lr=numbers,
    warmup_steps=st.integers(0, 2**40),
    kind=st.sampled_from(["adamw", "muon"]),
)


@given(
    st.builds(
        Recipe,
        name=names,
        optim=optims,
        phases=st.lists(optims, max_size=3).map(tuple),
        pair=st.tuples(st.integers(-9, 9), numbers),
        extra=st.none() | optims,
        limit=st.none() | st.integers(-9, 9) | names,
        pages=st.none() | st.just(Path("a b/ü")),
        mix=st.dictionaries(names, numbers, max_size=3),
        deep=st.booleans(),
        level=st.sampled_from([1, 2]),
    )
)
def test_a_config_written_as_toml_comes_back_equal(recipe: Recipe) -> None:
    table = tomllib.loads(dump_toml(to_table(recipe)))
    assert from_table(Recipe, table, where="r.toml") == recipe


def test_a_recipe_file_is_read_and_overridden(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text('name = "r"\n[optim]\npeak_lr = 1e-4\nwarmup_steps = 5\n')
    changed = load_toml(Recipe, file, ["optim.peak_lr=3e-4", "deep = true", "limit=auto"])
    assert changed.optim == Optim(peak_lr=3e-4, warmup_steps=5)
    assert (changed.deep, changed.limit) == (True, "auto")


def test_an_override_error_names_the_recipe_and_the_key(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text('name = "r"\n')
    with pytest.raises(ConfigError, match=r"r\.toml \[optim\]: .* Did you mean 'peak_lr'"):
        load_toml(Recipe, file, ["optim.peak_lrr=3e-4"])


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("3e-4", 3e-4),
        ("12", 12),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ("{ x = 1 }", {"x": 1}),
        ('"12"', "12"),
        ("muon", "muon"),
        ("a=b", "a=b"),
        ("", ""),
        ("1\nother = 2", "1\nother = 2"),
    ],
)
def test_an_override_is_read_as_toml_and_else_as_text(raw: str, value: Any) -> None:
    assert override({}, [f"key={raw}"]) == {"key": value}


@pytest.mark.parametrize("text", ["peak_lr", "=3", ""])
def test_an_override_without_key_or_value_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected key=value"):
        override({}, [text])


def test_an_override_below_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="'name' is a value, not a table"):
        override({"name": "r"}, ["name.first=3"])


def test_overrides_leave_the_table_that_was_given_alone() -> None:
    table = {"optim": {"deep": {"x": 1}}}
    assert override(table, ["optim.deep.x=2", "optim.y=3"])["optim"] == {"deep": {"x": 2}, "y": 3}
    assert table == {"optim": {"deep": {"x": 1}}}


def test_a_recipe_that_is_not_there_or_not_toml_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such recipe"):
        read_toml(tmp_path / "none.toml")
    file = tmp_path / "bad.toml"
    for content in (b"a = [1,", b"a = 'caf\xe9'", b"a = 1\na = 2\n"):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=r"bad\.toml: this is not valid TOML"):
            read_toml(file)


def test_every_error_is_also_the_error_of_the_standard_library() -> None:
    assert issubclass(ConfigError, PunaError)
    assert issubclass(ConfigError, ValueError)
    assert issubclass(NotFoundError, FileNotFoundError)
    assert str(NotFoundError("a: gone.")) == "a: gone."
