"""The environment that chat templates run in: jinja's sandbox, with a meter on everything.

Only the filters, methods and functions named here exist, each of them known to cost no more than
what is paid for it beforehand. The template's syntax tree is given a payment wherever generated
code would do work by itself: at loops, outputs, comparisons and concatenations.

Source: transformers, chat templates (names and settings of the environment, no code).
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jinja2
import jinja2.ext
import jinja2.filters
import jinja2.nodes as nodes
import jinja2.parser
import jinja2.runtime
import jinja2.sandbox

from puna.chat.metering import Meter, TooMuchError
from puna.chat.payments import ITERATED, LOOKED, STEP, WEIGHED, Payments

# Filters that hand items on as they are; all others read their input to its last character.
_SHALLOW = (
    *("attr", "count", "d", "default", "first", "items", "last", "length", "list", "map"),
    *("reject", "rejectattr", "reverse", "safe", "select", "selectattr"),
)
_DEEP = (
    *("abs", "capitalize", "dictsort", "e", "escape", "float", "indent", "int", "join", "lower"),
    *("max", "min", "replace", "round", "sort", "string", "sum", "title", "tojson", "trim"),
    *("unique", "upper"),
)
_METHODS = {
    str: (
        *("capitalize", "count", "endswith", "find", "index", "isalnum", "isalpha", "isascii"),
        *("isdecimal", "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "join"),
        *("lower", "lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind"),
        *("rindex", "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip"),
        *("swapcase", "title", "upper"),
    ),
    dict: ("copy", "get", "items", "keys", "values"),
    list: ("copy", "count", "index"),
    tuple: ("count", "index"),
    jinja2.runtime.LoopContext: ("changed", "cycle"),
}
_GLOBALS = ("dict", "namespace", "range")
_OPERATORS = frozenset(("+", "*", "**", "%"))
_SEARCHES = re.compile("r(find|index|partition|split)|[lr]?strip")  # may read a text many times
_FORBIDDEN = (nodes.Block, nodes.Extends, nodes.FromImport, nodes.Import, nodes.Include)


class BoundedEnvironment(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """A sandbox whose templates pay for what they do; `meter` belongs to the rendering that runs.

    One environment renders one dialog at a time.
    """

    intercepted_binops = _OPERATORS

    def __init__(
        self, *, filters: dict[str, Callable[..., Any]], functions: dict[str, Callable[..., Any]]
    ) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # nothing may be computed before the meter runs
            extensions=[jinja2.ext.loopcontrols, _GenerationBlocks],
        )
        self.meter = meter = Meter()
        known = {**self.filters, **filters}
        payments: dict[str, Callable[[Any], Any]] = {
            STEP: meter.pay_text,
            ITERATED: lambda value: meter.look(meter.listed(value)),
            LOOKED: meter.look,
            WEIGHED: meter.weigh,
        }
        self.filters = {name: self._filter(name, known[name]) for name in (*_SHALLOW, *_DEEP)}
        self.filters |= {name: _payment(pay) for name, pay in payments.items()}
        tests: dict[str, Any] = {**self.tests}
        self.tests = {name: self._test(test) for name, test in tests.items()}
        self.globals = {name: self.globals[name] for name in _GLOBALS} | functions
        self._functions = set(map(id, self.globals.values()))

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for node in tree.find_all(_FORBIDDEN):
            raise jinja2.TemplateSyntaxError(
                f"{type(node).__name__.lower()} has no place in a chat template", node.lineno
            )
        for loop in tree.find_all(nodes.For):
            if loop.recursive:
                raise jinja2.TemplateSyntaxError(
                    "recursive loops have no place in a chat template", loop.lineno
                )
        paid: nodes.Template = Payments().visit(tree)
        paid.set_environment(self)
        return paid

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Call a macro, one of the functions, or a method that is known to be harmless."""
        meter = __self.meter
        for value in (*args, *kwargs.values()):
            if isinstance(value, dict | jinja2.runtime.Macro):
                meter.look(value)
            else:
                meter.weigh(value)
        if not isinstance(__obj, jinja2.runtime.Macro) and id(__obj) not in __self._functions:
            owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
            if not any(isinstance(owner, kind) and name in _METHODS[kind] for kind in _METHODS):
                __self.refuse(__obj, name)
            if isinstance(owner, str):
                _pay_for_method(meter, owner, name, args)
            elif isinstance(owner, list | tuple):
                meter.weigh(owner)
        result = super().call(__context, __obj, *args, **kwargs)
        return meter.look(meter.listed(result) if not callable(result) else result)

    def refuse(self, value: Any, name: str) -> None:
        """Stop at a call of what templates are not given."""
        if isinstance(value, jinja2.Undefined):
            str(value.name)  # an unsafe or absent attribute says so itself
            value()
        raise TooMuchError(f"{name or type(value).__name__} is not offered to templates")

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute an operation whose result can be far larger than what it is made of."""
        meter = self.meter
        if operator == "+":
            if isinstance(left, str) and isinstance(right, str):
                meter.pay_text(len(left) + len(right))
                return left + right
            meter.look(left)
            meter.look(right)
        elif operator == "*":
            for value, times in ((left, right), (right, left)):
                if isinstance(value, str | list | tuple) and isinstance(times, int):
                    meter.pay(len(value) * max(times, 0))
            meter.look(left)
            meter.look(right)
        elif operator == "**" and not all(
            isinstance(value, float) or (isinstance(value, int) and abs(value) < 64)
            for value in (left, right)
        ):
            raise TooMuchError(f"{left!r:.40} ** {right!r:.40}")
        elif operator == "%" and isinstance(left, str):
            if re.search(r"%[^sdr%]", left):
                raise TooMuchError("a % format beyond %s, %d and %r")
            before = meter.left
            meter.weigh(right)
            meter.pay(left.count("%") * (before - meter.left))
        result = super().call_binop(context, operator, left, right)
        # A tuple can be hashed, which reads all of it.
        return meter.weigh(result) if isinstance(result, tuple) else meter.look(result)

    def _filter(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        meter, passed = self.meter, getattr(function, "jinja_pass_arg", None)
        kind = None if passed is None else passed.name
        is_deep = name in _DEEP

        @jinja2.pass_context
        def metered(context: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
            value = meter.listed(value)
            before = meter.left
            meter.weigh(value) if is_deep else meter.look(value)
            for given in (*args, *kwargs.values()):
                meter.weigh(given)
            _pay_for_filter(meter, name, value, before - meter.left, args, kwargs)
            first = {"context": context, "eval_context": context.eval_ctx, "environment": self}
            extra = () if kind is None else (first[kind],)
            return meter.look(meter.listed(function(*extra, value, *args, **kwargs)))

        return metered

    def _test(self, function: Callable[..., Any]) -> Callable[..., Any]:
        meter, passed = self.meter, getattr(function, "jinja_pass_arg", None)

        def metered(*values: Any) -> Any:
            for value in values if passed is None else values[1:]:
                meter.look(value) if isinstance(value, dict) or callable(value) else (
                    meter.weigh(value) if len(values) > 1 else meter.look(value)
                )
            return function(*values)

        metered.jinja_pass_arg = passed  # type: ignore[attr-defined]
        return metered


def _payment(pay: Callable[[Any], Any]) -> Callable[..., Any]:
    @jinja2.pass_context  # what depends on the context is never computed beforehand
    def paid(context: Any, value: Any) -> Any:
        return pay(value)

    return paid


def _pay_for_method(meter: Meter, text: str, name: str, args: Sequence[Any]) -> None:
    """Pay for a method of a text: what it reads, and what it makes where that can be more."""
    given = [value for value in args if isinstance(value, str)]
    meter.pay_text(len(text))
    if name == "replace" and len(given) >= 2:
        meter.pay_text(len(text) + text.count(given[0]) * len(given[1]))
    elif name == "join" and args and not isinstance(args[0], dict):
        meter.pay_text(len(text) * _length(args[0]))
    elif name in ("split", "rsplit", "splitlines"):
        meter.pay(len(text))
    if given and _SEARCHES.fullmatch(name):
        meter.pay(len(text) * sum(map(len, given)) // 256)


def _pay_for_filter(
    meter: Meter, name: str, value: Any, cost: int, args: Sequence[Any], kwargs: dict[str, Any]
) -> None:
    """Pay beforehand for what a filter makes larger, or reads more than once."""
    given = (*args, *kwargs.values())
    texts = [item for item in given if isinstance(item, str)]
    if any(type(item) is int and abs(item) > 1000 for item in given):
        raise TooMuchError(f"the filter {name} with a number over 1000")
    if not isinstance(value, str):
        meter.pay(_length(value) * sum(len(text) // 8 for text in texts))  # names of attributes
    match name:
        case "list" | "sort" | "unique" | "min" | "max" | "reverse" if isinstance(value, str):
            meter.pay(len(value))
        case "join":
            meter.pay(_length(value) * sum(map(len, texts)))
            if kwargs.get("attribute") is not None or len(args) > 1:
                raise TooMuchError("join with an attribute; map(attribute=...) may stand before it")
        case "replace" if len(texts) >= 2:
            text = value if isinstance(value, str) else str(value)
            meter.pay_text(len(text) + text.count(texts[0]) * len(texts[1]))
        case "indent":
            lines = str(value).count("\n") + 1
            width = max([4, *map(len, texts), *(n for n in given if isinstance(n, int))])
            meter.pay_text(lines * width)
        case "trim" if texts:
            meter.pay(len(str(value)) * sum(map(len, texts)) // 256)
        case "tojson":
            indent = kwargs.get("indent", args[1] if len(args) > 1 else None)
            if indent is not None:
                meter.weigh_indented(value, indent)
            if any(len(text) > 16 for text in texts):
                raise TooMuchError("tojson with long separators")
            meter.pay(2 * cost)
        case "sum" if any(isinstance(item, list | tuple) for item in given):
            raise TooMuchError("sum of lists")
        case "sort" | "dictsort" | "unique":
            meter.pay(cost * max(1, _length(value).bit_length()))


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | list | tuple | dict | range) else 1


class _GenerationBlocks(jinja2.ext.Extension):
    """`{% generation %}` marks the assistant's part for other renderers; its body is rendered."""

    tags = {"generation"}  # noqa: RUF012  (declared so by jinja2)

    def parse(self, parser: jinja2.parser.Parser) -> list[nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))
