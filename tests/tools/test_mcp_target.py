"""Where an MCP server is: commands, addresses, and secrets that stay in the environment."""

import pytest

from puna.errors import RequestError
from puna.tools.mcp_target import Address, Program, parse_target


def test_a_command_is_split_like_a_shell_does() -> None:
    target = parse_target("mcp:python 'my server.py' --flag", {})
    assert target == Program(command=("python", "my server.py", "--flag"))
    assert target.label == "python"


def test_words_before_a_command_set_its_environment() -> None:
    target = parse_target("A=1 KEY=${MINE}x server --b=2", {"MINE": "s3cret"})
    assert isinstance(target, Program)
    assert target.environment == {"A": "1", "KEY": "s3cretx"}
    assert target.command == ("server", "--b=2")
    assert "s3cret" not in repr(target)


def test_words_after_an_address_are_headers() -> None:
    target = parse_target("https://zoo.example/mcp 'X-Key: $KEY'", {"KEY": "s3cret"})
    assert isinstance(target, Address)
    assert target.url == "https://zoo.example/mcp"
    assert target.headers == {"X-Key": "s3cret"}
    assert "s3cret" not in repr(target)


def test_a_token_goes_to_its_own_host_only() -> None:
    environment = {"PUNA_MCP_TOKEN_ZOO_EXAMPLE": "s3cret"}
    own = parse_target("https://zoo.example/mcp", environment)
    other = parse_target("https://other.example/mcp", environment)
    assert isinstance(own, Address) and own.headers == {"Authorization": "Bearer s3cret"}
    assert isinstance(other, Address) and not other.headers


def test_a_given_authorization_wins_over_the_token() -> None:
    environment = {"PUNA_MCP_TOKEN_ZOO_EXAMPLE": "s3cret"}
    target = parse_target("https://zoo.example/mcp 'authorization: Basic x'", environment)
    assert isinstance(target, Address) and target.headers == {"authorization": "Basic x"}


def test_a_header_may_go_unencrypted_to_this_machine_only() -> None:
    parse_target("http://127.0.0.1:8000/mcp 'X-Key: a'", {})
    parse_target("http://localhost/mcp 'X-Key: a'", {})
    parse_target("http://zoo.example/mcp", {})
    with pytest.raises(RequestError, match="unencrypted; use https"):
        parse_target("http://zoo.example/mcp 'X-Key: a'", {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no server given"),
        ("mcp:  ", "no server given"),
        ("A=1", "no server given"),
        ("python 'server", "cannot be split"),
        ("KEY=$NOT_SET server", "variable NOT_SET is not set"),
        ("https://", "no host"),
        ("https://[::1/mcp", "not valid"),
        ("https://zoo.example:port/mcp", "not valid"),
        ("https://me:word@zoo.example/mcp", "put them in a header"),
        ("https://zoo.example/mcp header", "no header"),
        ("https://zoo.example/mcp 'X-Key: é'", "no header"),
        ("https://zoo.example/mcp 'X-Key: a\nX-B: c'", "no header"),
    ],
)
def test_what_is_no_server_is_refused_with_its_reason(text: str, said: str) -> None:
    with pytest.raises(RequestError, match=said) as raised:
        parse_target(text, {})
    assert "word@" not in str(raised.value)
