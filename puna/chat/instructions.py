"""How functions are described to a model, in the three styles that Llama 3 models were taught.

Each style has a sentence that introduces the functions, a form in which they are written down, and
a rule for the answer. The released weights were taught by exactly these sentences, which are quoted
for that reason; `puna.chat.styles` writes the calls that they ask for.

Source: Meta, prompt formats of Llama 3.1, "JSON based tool calling" and "`<function>` based tool
calling"; of Llama 3.2, "Zero shot function calling" in the system and in the user message.
"""

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

JsonObject = Mapping[str, Any]

_JSON = """\
Answer the user's question by making use of the following functions if needed.
If none of the function can be used, please say so.
Here is a list of functions in JSON format:
{functions}

Return function calls in JSON format."""

_FUNCTION_TAG = """\
You have access to the following functions:

{functions}

Think very carefully before calling functions.
If you choose to call a function ONLY reply in the following format with no prefix or suffix:

<function=example_function_name>{{"example_name": "example_value"}}</function>

Reminder:
- If looking for real time information use relevant functions before falling back to brave_search
- Function calls MUST follow the specified format, start with <function= and end with </function>
- Required parameters MUST be specified
- Only call one function at a time
- Put the entire function call reply on one line"""

_PYTHON_LIST = """\
You are an expert in composing functions. You are given a question and a set of possible functions.
Based on the question, you will need to make one or more function/tool calls to achieve the purpose.
If none of the function can be used, point it out. If the given question lacks the parameters \
required by the function,
also point it out. You should only return the function call in tools call sections.

If you decide to invoke any of the function(s), you MUST put it in the format of \
[func_name1(params_name1=params_value1, params_name2=params_value2...), func_name2(params)]
You SHOULD NOT include any other text in the response.

Here is a list of functions in JSON format that you can invoke.

{functions}"""

_PYTHON_LIST_QUESTION = """\
Questions: {question}
Here is a list of functions in JSON format that you can invoke:
{functions}

Should you decide to return the function call(s),Put it in the format of \
[func1(params_name=params_value, params_name2=params_value2...), func2(params)]

NO other text MUST be included."""

# JSON Schema's types under the names that the function tag's example gives them.
_PYTHON_TYPES = {
    "integer": "int",
    "number": "float",
    "string": "str",
    "boolean": "bool",
    "array": "list",
    "object": "dict",
}

# What stands between the braces of a function's properties in a list of functions.
_PARAMETERS = re.compile(r'(?<=\n {12}"properties": \{\n).*?(?=\n {12}\})', re.S)


def describe(functions: Sequence[JsonObject], *, style: str, meta_compat: bool = False) -> str:
    """Return the instruction that shows functions to the model.

    Args:
        functions: OpenAI's dictionaries, JSON all through.
        style: "json", "function_tag" or "python_list".
        meta_compat: in the style "json", write the parameters as Meta's example does: a list of
            objects with one key each, every type "object". False writes JSON Schema as it is.
    """
    return _describe(json.dumps(functions), style, meta_compat)


def ask_with_functions(
    question: str, functions: Sequence[JsonObject], *, meta_compat: bool = False
) -> tuple[int, str]:
    """Return a question with functions in the style of Python lists, and where in it it begins.

    Args:
        meta_compat: indent the functions as Meta's example of a question does, not evenly.
    """
    listed = _list(json.dumps(functions), meta_compat)
    text = _PYTHON_LIST_QUESTION.format(question=question, functions=listed)
    return _PYTHON_LIST_QUESTION.index("{question}"), text


# Writing JSON with line breaks is slow, and a dialog has the same functions in every turn.
@functools.lru_cache(maxsize=64)
def _describe(functions: str, style: str, meta_compat: bool) -> str:
    declared = json.loads(functions)
    match style:
        case "function_tag":
            return _FUNCTION_TAG.format(functions="\n\n".join(map(_tag_entry, declared)))
        case "python_list":
            return _PYTHON_LIST.format(functions=_list(functions, False))
        case _:
            write: Callable[[Any], str] = _meta_entry if meta_compat else _indented
            return _JSON.format(functions="\n".join(map(write, declared)))


@functools.lru_cache(maxsize=64)
def _list(functions: str, as_in_question: bool) -> str:
    text = _indented([_list_entry(tool["function"]) for tool in json.loads(functions)])
    return _PARAMETERS.sub(_as_in_question, text) if as_in_question else text


def _as_in_question(parameters: re.Match[str]) -> str:
    """Indent parameters as the example of a question does: only its first and last line evenly."""
    lines, newline, last = parameters.group().rpartition("\n")
    return lines.replace("\n    ", "\n") + newline + last


def _indented(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=4)


def _tag_entry(tool: JsonObject) -> str:
    """One function in the style of the function tag: a sentence, and all on one line of JSON."""
    function = tool["function"]
    schema = _schema(function)
    required = schema.get("required", ())
    parameters = {
        name: dict(sorted(_tag_parameter(given, is_required=name in required).items()))
        for name, given in sorted(_properties(schema).items())
    }
    description = function.get("description", "")
    entry = {"name": function["name"], "description": description, "parameters": parameters}
    text = json.dumps(entry, ensure_ascii=False)
    return f"Use the function '{function['name']}' to '{description}':\n{text}"


def _tag_parameter(given: JsonObject, *, is_required: bool) -> JsonObject:
    kept = {key: value for key, value in given.items() if key != "type"}
    kind = given.get("type")
    if isinstance(kind, str):
        kept["param_type"] = _PYTHON_TYPES.get(kind, kind)
    return {"description": "", **kept, "required": is_required}


def _list_entry(function: JsonObject) -> JsonObject:
    """One function in the style of Python lists: the object of parameters is called a dict."""
    schema = _schema(function)
    first = ("type", "description", "default")
    properties = {
        name: {key: given[key] for key in (*first, *given) if key in given}
        for name, given in _properties(schema).items()
    }
    parameters = {
        "type": "dict",
        "required": list(schema.get("required", ())),
        "properties": properties,
        **{key: schema[key] for key in schema if key not in ("type", "required", "properties")},
    }
    description = function.get("description", "")
    return {"name": function["name"], "description": description, "parameters": parameters}


def _meta_entry(tool: JsonObject) -> str:
    """One function as Meta's example of the style "json" writes it."""
    function = tool["function"]
    schema = _schema(function)
    properties = [
        {name: {"type": "object", "description": given.get("description", "")}}
        for name, given in _properties(schema).items()
    ]
    required = list(schema.get("required", ()))
    entry = {
        "type": "function",
        "function": {
            "name": function["name"],
            "description": function.get("description", ""),
            "parameters": {"type": "object", "properties": properties, "required": []},
        },
    }
    # The example writes every list over several lines but this one.
    head, _, tail = _indented(entry).rpartition("[]")
    return head + json.dumps(required, ensure_ascii=False) + tail


def _schema(function: JsonObject) -> JsonObject:
    schema = function.get("parameters")
    return schema if isinstance(schema, Mapping) else {}


def _properties(schema: JsonObject) -> JsonObject:
    found = schema.get("properties")
    if not isinstance(found, Mapping):
        return {}
    return {name: given if isinstance(given, Mapping) else {} for name, given in found.items()}
