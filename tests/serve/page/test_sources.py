"""What holds for the files of the page without a browser."""

import re

from tests.serve.page.standin import KINDS, PAGE

FILES = sorted(path for path in PAGE.rglob("*") if path.is_file())
SCRIPTS = [path for path in FILES if path.suffix == ".js"]


def test_nothing_parses_a_string_as_markup_or_code() -> None:
    ways = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|setHTML|srcdoc"
        r"|\beval\(|new Function"
    )
    found = [path.name for path in SCRIPTS if re.search(ways, path.read_text())]
    assert not found


def test_nothing_is_loaded_from_elsewhere() -> None:
    for path in FILES:
        text = path.read_text()
        addresses = re.findall(r"https?://[\w.-]+", re.sub(r"http://www\.w3\.org/\S+", "", text))
        assert not addresses, path.name
        assert not re.search(r"""@import|url\(|\bsrc="(?:/|http)""", text), path.name


def test_markup_holds_no_script_and_no_style_of_its_own() -> None:
    """The content security policy of the server allows neither."""
    text = (PAGE / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script>", text)
    assert not [path for path in SCRIPTS if re.search(r"setAttribute\(\"style\"", path.read_text())]


def test_every_file_says_its_idea_and_stays_small() -> None:
    for path in FILES:
        text = path.read_text()
        assert text.count("\n") <= 400, path.name
        if path.suffix in (".js", ".css"):
            assert re.match(r"(//|/\*) [A-Z].*[.:,;]", text), path.name


def test_every_file_is_used_and_has_a_kind() -> None:
    text = "".join(path.read_text() for path in FILES)
    for path in FILES:
        assert path.suffix in KINDS, path.name
        assert path.name == "index.html" or path.name in text, path.name


def test_every_import_leads_to_a_name_that_is_exported() -> None:
    for path in SCRIPTS:
        for names, target in re.findall(r'import \{([^}]*)\} from "([^"]+)"', path.read_text()):
            source = (path.parent / target).read_text()
            for name in names.split(","):
                pattern = rf"export (?:async )?(?:function\*?|const|class) {name.strip()}\b"
                assert re.search(pattern, source), f"{path.name}: {name} of {target}"
