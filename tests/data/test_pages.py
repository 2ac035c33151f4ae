"""The seed pages: rendered safely, the same every time, and free of this machine."""

import sys
from pathlib import Path

import pytest

from puna.data.code import code_documents, read_source
from puna.data.document import Document
from puna.data.pages import clean_page, module_group, page_documents, standard_modules, topics

NAMES = ["json", "textwrap", "os", "doctest", "topic:with", "no_such_module", "antigravity"]


def render(names: list[str], workers: int) -> tuple[list[Document], dict[str, str]]:
    failures: dict[str, str] = {}
    return list(page_documents(names, failures, workers=workers)), failures


@pytest.fixture(scope="module")
def rendered() -> tuple[list[Document], dict[str, str]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PUNA_SECRET", "hunter2-hunter2")
        return render(NAMES, 1)


def test_pages_come_in_order_and_failures_are_named(
    rendered: tuple[list[Document], dict[str, str]],
) -> None:
    documents, failures = rendered
    assert [d.id for d in documents] == [
        f"pydoc/{name}" for name in NAMES if name != "no_such_module"
    ]
    assert failures == {"no_such_module": "ModuleNotFoundError"}


def test_a_page_reads_as_text(rendered: tuple[list[Document], dict[str, str]]) -> None:
    text = next(d.text for d in rendered[0] if d.id == "pydoc/json")
    assert "JSON (JavaScript Object Notation)" in text
    assert "    >>> import json\n" in text  # code keeps its indentation
    assert "&nbsp;" not in text and "\xa0" not in text and "<td" not in text


def test_pages_say_nothing_of_this_machine(
    rendered: tuple[list[Document], dict[str, str]],
) -> None:
    for document in rendered[0]:
        assert "hunter2" not in document.text
        assert " at 0x" not in document.text
        for path in (sys.base_prefix, str(Path.home()), str(Path.cwd())):
            assert len(path) <= 4 or path not in document.text


def test_pages_do_not_depend_on_their_neighbours_or_on_the_workers(
    rendered: tuple[list[Document], dict[str, str]],
) -> None:
    again, _ = render(["doctest", "json"], 2)
    by_id = {d.id: d for d in rendered[0]}
    assert again == [by_id["pydoc/doctest"], by_id["pydoc/json"]]


def test_values_of_the_build_and_addresses_are_removed() -> None:
    page = (
        "version = '3.11.7 (main, Dec 5) [GCC 12]'\n"
        "f(x=&lt;object object at 0x7f00aa&gt;)\n"
        "api = <PyDLL 'None', handle 7f3a5a6162e0>\n"
        "environ = environ({'HOME': '/x'})\n"
        f"prefix = '{sys.base_prefix}/lib'\n"
        "kept\n"
    )
    assert clean_page(page) == "f(x=<object object>)\napi = <PyDLL 'None'>\nkept\n"


def test_modules_that_act_on_import_are_left_out() -> None:
    names = standard_modules()
    assert names == sorted(names)
    assert {"json", "json.decoder", "os", "asyncio.events"} <= set(names)
    tops = {name.split(".")[0] for name in names}
    assert tops.isdisjoint({"antigravity", "this", "test", "idlelib"})
    assert not any("__main__" in name or ".tests" in name for name in names)
    assert "topic:with" in topics()


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("json.decoder", "json"),
        ("_pydecimal", "decimal"),
        ("_collections_abc", "collections_abc"),
        ("__future__", "__future__"),
    ],
)
def test_a_module_s_group_is_its_package(name: str, group: str) -> None:
    assert module_group(name) == group


def test_a_page_and_the_source_of_its_package_share_a_group() -> None:
    groups = {d.id: d.group for d in code_documents()}
    assert groups["source/json.decoder"] == groups["source/json.__init__"] == "json"
    assert not any(".tests." in name or name.startswith("source/test.") for name in groups)


def test_sources_are_read_in_the_encoding_they_declare(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_bytes("# -*- coding: latin-1 -*-\nx = 'é'  \n\n".encode("latin-1"))
    assert read_source(path) == "# -*- coding: latin-1 -*-\nx = 'é'\n"
    path.write_bytes(b"# coding: utf-8\nx = '\xff'\n")
    assert read_source(path) is None
