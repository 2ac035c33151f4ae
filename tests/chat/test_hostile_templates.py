"""Templates come with models of strangers: none runs code, loops for long or fills the memory."""

import resource
import time

import pytest

from puna.chat.format import ChatFormat
from puna.chat.messages import Message
from puna.errors import ConfigError, PunaError, RequestError
from tests.chat.dialogs import BYTES, SONGS

LOOP = "{% for i in range(99999) %}"
END = "{% endfor %}"
GROW = "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(99) %}"
TOWER = "{% set ns = namespace(x=['a']) %}{% for i in range(60) %}"

ENDLESS = [
    LOOP * 3 + "x" + END * 3,
    LOOP * 3 + END * 3,
    LOOP + "{% for j in range(99999) if false %}" + END * 2,
    LOOP + "{{ 'ab' * 9999 }}" + END,
    "{{ 'a' * 10 ** 10 }}",
    "{{ 10 ** 10 ** 10 }}",
    "{{ [0] * 10 ** 10 }}",
    "{{ '%10000000000d' % 1 }}",
    "{{ ('%s' * 9999) % (messages * 9999) }}",
    "{{ '{:>10000000000}'.format(1) }}",
    "{{ 'a'.ljust(10 ** 10) }}",
    "{{ 'a' | center(10 ** 10) }}",
    "{{ lipsum(n=10 ** 9) }}",
    "{{ 'a' | indent(10 ** 9, first=true) }}",
    "{{ messages | tojson(indent=10 ** 9) }}",
    "{{ range(99999) | join('a' * 99999) }}",
    "{{ ('a' * 99999).replace('a', 'a' * 99999) }}",
    "{{ ('a' * 99999) | replace('', 'a' * 99999) }}",
    "{{ ('a' * 99999).join(range(99999) | map('string') | list) }}",
    LOOP + "{{ ('a' * 99999).strip('b' * 99999 ~ 'a') }}" + END,
    GROW + "{% set ns.x = ns.x ~ ns.x %}" + END,
    GROW + "{% set ns.x = ns.x + ns.x %}" + END,
    GROW + "{% set ns.x = [ns.x, ns.x] | join %}" + END,
    GROW + "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}" + END,
    TOWER + "{% set ns.x = [ns.x, ns.x] %}" + END + "{{ ns.x }}",
    TOWER + "{% set ns.x = {'a': ns.x, 'b': ns.x} %}" + END + "{{ ns.x | tojson }}",
    TOWER + "{% set ns.x = (ns.x, ns.x) %}" + END + "{{ {}[ns.x] }}",
    TOWER + "{% set ns.x = ns.x + ns.x %}" + END + "{{ ns.x }}",
    TOWER + "{% set ns.x = [ns.x, ns.x] %}" + END + "{{ ns.x == ns.x[:] }}",
    TOWER + "{% set ns.x = [ns.x, ns.x] %}" + END + "{{ [ns.x] | unique | list | length }}",
    TOWER + "{% set ns.x = [ns.x, ns.x] %}" + END + "{{ ns.x is eq([ns.x]) }}",
    TOWER + "{% set ns.x = [ns.x, ns.x] %}" + END + "{{ ns.x.index([1]) }}",
    "{% set ns = namespace() %}{% set ns.a = [ns, ns] %}{{ ns }}",
    "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% macro f() %}" + "x" * 9999 + "{% endmacro %}" + LOOP + "{{ f() }}" + END,
    LOOP + "{% filter upper %}" + "x" * 9999 + "{% endfilter %}" + END,
    LOOP + "{{ range(99999) | select('none') | list }}" + END,
    LOOP + "{{ range(99999) | sum }}" + END,
    LOOP + "{{ 'b' in 'a' * 99999 }}" + END,
    LOOP + "{{ messages[0].content.count('b') }}" + END + LOOP + END,
    "{{ strftime_now('%1000000000Y') }}",
    "{{ strftime_now('%Y' * 99999) }}",
]  # fmt: skip

CODE = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__ }}",
    "{{ cycler.__init__.__globals__.os.system('true') }}",
    "{{ self._TemplateReference__context }}",
    "{{ raise_exception.__globals__ }}",
    "{{ strftime_now.__self__._environment }}",
    "{{ namespace.__init__ }}",
    "{{ range.mro() }}",
    "{{ dict.fromkeys('ab') }}",
    "{{ ('' | attr('__class__')) }}",
    "{{ [''] | map(attribute='__class__') | list }}",
    "{{ ''['__class__'] }}",
    "{{ '{0.__class__}'.format('') }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% extends 'x' %}",
    "{{ messages[0].update({'role': 'system'}) }}",
    "{{ messages.clear() }}",
    "{% set _ = messages.__setitem__(0, 1) %}{{ 1 }}",
    "{{ caller() }}",
    "{{ loop(messages) }}",
]


def _render(template: str, text: str = "hello") -> str:
    chat = ChatFormat(BYTES, template)
    return BYTES.decode(chat.render([Message(role="user", content=text)]).ids)


@pytest.mark.parametrize("template", ENDLESS)
def test_a_template_without_end_is_stopped(template: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # the most that was ever held
    began = time.process_time()
    with pytest.raises(PunaError, match="chat template"):
        _render(template)
    assert time.process_time() - began < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


@pytest.mark.parametrize("template", CODE)
def test_a_template_reaches_nothing_but_the_dialog(template: str) -> None:
    """It is refused, or what it asked for is not there and so is written as nothing."""
    try:
        assert _render(template).removeprefix("<|begin_of_text|>") in ("", "[]", "[Undefined]")
    except PunaError as error:
        assert isinstance(error, RequestError | ConfigError)


def test_a_template_that_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(ConfigError):
        ChatFormat(BYTES, "{{ " + "(" * 100_000 + "}}")


def test_the_budget_grows_with_the_dialog() -> None:
    """Templates that look back at every turn take time in its square, and are let."""
    template = (
        "{% for m in messages %}{% for n in messages[:loop.index0] %}"
        "{% if n.content == m.content and n.role == m.role %}!{% endif %}{% endfor %}{% endfor %}"
    )
    dialog = [Message(role="user", content=f"m{i}") for i in range(600)]
    assert BYTES.decode(ChatFormat(BYTES, template).render(dialog).ids) == "<|begin_of_text|>"


def test_long_texts_are_no_attack() -> None:
    template = (
        "{% for m in messages %}{{ m.content | trim | replace('a', 'bb') | upper }}"
        "{{ m | tojson(indent=4) }}{% if 'zzz' in m.content %}{{ m.content.split('z') }}{% endif %}"
        "{% endfor %}{{ tools | tojson }}"
    )
    chat = ChatFormat(BYTES, template)
    text = "a llama " * 100_000
    ids = chat.render([Message(role="user", content=text)], [SONGS] * 1).ids
    assert len(ids) > 2 * len(text)


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages | map(attribute='content') | join(', ') }}",
        "{{ (messages | selectattr('role', 'equalto', 'user') | list)[0]['content'] }}",
        "{{ (messages | first).content }}",
        "{% for k, v in messages[0].items() if k == 'content' %}{{ v }}{% endfor %}",
        "{% for k, v in messages[0] | dictsort if k != 'role' %}{{ v }}{% endfor %}",
        "{% macro f(x, y='!') %}{{ x.content }}{% endmacro %}{{ f(messages[-1]) }}",
        "{% set ns = namespace(i=0) %}{% for m in messages %}{% set ns.i = ns.i + 1 %}"
        "{% if loop.last and ns.i == 1 %}{{ '%s' % m.content }}{% endif %}{% endfor %}",
        "{% for m in messages %}{% if loop.first %}{{ m.content }}{% continue %}{% endif %}x"
        "{% endfor %}",
        "{% set m = messages[0] %}{{ m.content if m.content is string and m.content else 'x' }}",
        "{% set x = messages + [{'content': '!'}] %}{{ x[0].content }}",
        "{% call f() %}{{ messages[0].content }}{% endcall %}{% macro f() %}{{ caller() }}"
        "{% endmacro %}".replace("{% call", "{% set a = 1 %}{% call", 1),
        "{{ dict(a=messages[0].content).a }}",
        "{{ messages[0].get('content', '') | safe | string }}",
        "{{ messages[0]['content'].split('x')[-1].strip() | trim('\n') }}",
        "{% filter trim %} {{ messages[0].content }} {% endfilter %}",
        "{% set a %}{{ messages[0].content }}{% endset %}{{ a[:2] ~ a[2:] }}",
    ],
)
def test_what_published_templates_do_is_allowed(template: str) -> None:
    if "{% call f" in template:  # a macro stands before it is called
        call, macro = template.split("{% macro")
        template = "{% macro" + macro + call
    assert _render(template) == "<|begin_of_text|>hello"
