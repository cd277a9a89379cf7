"""Tools that a conversation offers, and the calls of them: in one form, whichever of the usual ones the data has.

Most chat templates want arguments as objects; OpenAI's format has them as JSON text, and so has a table of different ones.
"""

from __future__ import annotations

import json
from typing import Any

from finetune_trainer.contract.records import Reason
from finetune_trainer.data.data_errors import half_a_character, half_character, names, shown
from finetune_trainer.shared.failures import ExpectedError

CALLS, FUNCTION, FUNCTION_CALL = "tool_calls", "function", "function_call"
FORM = 'tool_calls: [{"type": "function", "function": {"name": ..., "arguments": {...}}}]'
Call = dict[str, Any]


def bad(message: str) -> ExpectedError:
    """Return the error for a row that is wrong."""
    return ExpectedError(Reason.DATA_INVALID, message)


def parsed(text: str, where: str, verb: str = "holds") -> Any:
    """Return the value of JSON text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise bad(
            f"{where} {verb} {shown(text)}, which is no JSON: {error.msg}. In Python json.dumps writes it, str does not."
        ) from error
    except RecursionError as error:
        raise bad(f"{where} holds lists and objects within each other, too deep to read.") from error


def offered(value: Any, where: str) -> list[Call]:
    """Return the tools of a conversation, each as `{"type": "function", "function": {...}}`; none where the value is empty."""
    tools = []
    for number, tool in enumerate(_objects(value, where, "tools are a list of objects"), start=1):
        if FUNCTION not in tool and "name" not in tool and "type" not in tool:
            raise bad(
                f"{where}, tool {number} has the keys {names(list(tool))}; a tool has type and function, which has name, "
                "description and parameters."
            )
        tools.append(tool if FUNCTION in tool or "name" not in tool else {"type": FUNCTION, FUNCTION: tool})
    return tools


def calls(value: Any, where: str) -> list[Call]:
    """Return the calls of a message, each as `{"type": "function", "function": {"name": ..., "arguments": ...}}`.

    Arguments are an object, or JSON text of one, which stays text: a template gets what it takes (`with_arguments`).
    """
    items = _objects(value, f"{where}: its key {CALLS}", f"write {FORM}")
    return [_call(call, f"{where}, call {number}") for number, call in enumerate(items, start=1)]


def with_arguments(call: Call, *, as_text: bool) -> Call:
    """Return a call whose arguments are JSON text, or an object."""
    function = call[FUNCTION]
    arguments = function["arguments"]
    if as_text and not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    elif not as_text and isinstance(arguments, str):
        arguments = json.loads(arguments)
    return {**call, FUNCTION: {**function, "arguments": arguments}}


def _call(call: Call, where: str) -> Call:
    function = call.get(FUNCTION, call)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise bad(f"{where} is {shown(call)}, which has no function with a name: write {FORM}.")
    function = {
        **_with_values(function),
        "arguments": _arguments(function.get("arguments"), f"{where} ({function['name']})"),
    }
    return {**_with_values(call), FUNCTION: function} if FUNCTION in call else {"type": FUNCTION, FUNCTION: function}


def _with_values(call: Call) -> Call:
    return {key: value for key, value in call.items() if value is not None}


def _arguments(value: Any, where: str) -> Any:
    if value is None or (isinstance(value, str) and not value.strip()):
        return {}  # a function without arguments
    arguments = parsed(value, f"{where}: its arguments", "hold") if isinstance(value, str) else value
    if not isinstance(arguments, dict):
        raise bad(
            f"{where}: its arguments are {shown(value)}, no object with a value for each name. Write them as an object, or as "
            "JSON text of one, or leave such rows out."
        )
    if (half := half_character(arguments)) is not None:
        raise half_a_character(where, half)
    return value


def _objects(value: Any, where: str, advice: str) -> list[Call]:
    """Return a list of objects, from one or from JSON text of it or of its items."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return []
    objects = parsed(value, where) if isinstance(value, str) else value
    if objects is None:
        return []
    if isinstance(objects, list):
        objects = [parsed(item, where) if isinstance(item, str) else item for item in objects]
    if not isinstance(objects, list) or not all(isinstance(item, dict) for item in objects):
        raise bad(f"{where} holds {shown(value)}; {advice}, or JSON text of that.")
    if (half := half_character(objects)) is not None:
        raise half_a_character(where, half)
    return objects
