"""Manifests, read and written as kubectl does, so that one file means the same to `kubectl`, `finetune run` and `validate`.

kubectl turns YAML 1.1 into JSON with rules of its own: `5e-5` is a number (PyYAML reads text), `y`, `no` and `on` are
booleans, `012` is octal, a date is text, `3.0` is a whole number. Knows nothing of what a manifest may say.
"""

from __future__ import annotations

import base64
import json
import math
import re
import sys
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from finetune_operator.cli.command_errors import CommandError, ExitCode

Manifest = dict[str, Any]
Scalar = bool | int | float | str | None

_WORDS: dict[str, bool | float | None] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_BASES = (
    (re.compile(r"[-+]?0[xX][0-9a-fA-F]+"), 16),
    (re.compile(r"[-+]?0[bB][01]+"), 2),
    (re.compile(r"[-+]?0[oO]?[0-7]+"), 8),
    (re.compile(r"[-+]?(0|[1-9][0-9]*)"), 10),
)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INT64 = range(-(2**63), 2**63)
_TAG = "tag:yaml.org,2002:"


def read(path: str) -> tuple[Manifest, ...]:
    """Return the manifests in a file, or on standard input for `-`. Raise CommandError where they can't be read."""
    if path == "-":
        return load(sys.stdin.read(), "standard input")
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{path}: not UTF-8 text (byte {error.start})", ExitCode.FAILED) from error
    return load(text, path)


def load(text: str, source: str = "manifest") -> tuple[Manifest, ...]:
    """Return the manifests in YAML or JSON text without empty documents. Raise CommandError with the place of an error."""
    try:
        documents = [document for document in yaml.load_all(text, Loader=_Loader) if document is not None]
    except yaml.MarkedYAMLError as error:
        raise CommandError(_where(source, error), ExitCode.FAILED) from error
    except yaml.YAMLError as error:
        raise CommandError(f"{source}: {error}", ExitCode.FAILED) from error
    return tuple(manifest for document in documents for manifest in _objects(document, source))


def _objects(document: Any, source: str) -> Iterator[Manifest]:
    """Yield the object that a document is, or the objects of a list, as `kubectl get -o yaml` writes them."""
    if not isinstance(document, dict):
        raise CommandError(f"{source}: not a Kubernetes object: {json.dumps(document)[:80]}", ExitCode.FAILED)
    kind, items = document.get("kind"), document.get("items")
    if isinstance(kind, str) and kind.endswith("List") and isinstance(items, list):
        for item in items:
            yield from _objects(item, source)
    else:
        yield document


def dump(manifests: Iterable[Manifest]) -> str:
    """Return YAML that kubectl reads as it is meant: text that kubectl would take for a number, a boolean or null is quoted."""
    text: str = yaml.dump_all(manifests, Dumper=_ManifestDumper, sort_keys=False, explicit_start=True, width=140)
    return text


def dump_inline(value: Any) -> str:
    """Return the YAML of a value on one line, to be put behind a key or a hyphen."""
    every = json.dumps(value, ensure_ascii=False)
    text: str = yaml.dump(
        value,
        Dumper=_InlineDumper,
        sort_keys=False,
        default_flow_style=True,
        width=sys.maxsize,
        allow_unicode=every.isprintable(),
    )
    return text.removesuffix("...\n").rstrip("\n")


def _where(source: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark
    position = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
    return f"{position}: {error.problem}" + (f" ({error.context})" if error.context else "")


def plain_scalar(text: str) -> Scalar:
    """Return what an unquoted word means to kubectl."""
    if text in _WORDS:
        return _WORDS[text]
    digits = text.replace("_", "") if text[0] in "+-0123456789" else text
    for pattern, base in _BASES:
        if pattern.fullmatch(digits):
            number = int(re.sub(r"^([-+]?)0[xXbBoO]", r"\1", digits), base)
            return number if number in _INT64 else _as_json(float(number))
    if _FLOAT.fullmatch(digits) and math.isfinite(value := float(digits)):
        return _as_json(value)
    return text


def _as_json(value: float) -> int | float:
    """Return a number as JSON has it: a whole number reaches the API server as an integer."""
    return int(value) if value.is_integer() and int(value) in _INT64 else value


class _Loader(yaml.SafeLoader):
    """A loader with kubectl's idea of scalars, with strings as keys, and no key twice."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> Any:
        """Return the tag of a node that carries none."""
        if kind is not yaml.ScalarNode:
            return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]
        if value == "<<" and implicit[0]:
            return f"{_TAG}merge"
        return f"{_TAG}plain" if implicit[0] else f"{_TAG}str"

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == f"{_TAG}merge":
                continue
            key = self._key(key_node)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f'key "{key}" is given twice', key_node.start_mark)
            seen.add(key)
        self.flatten_mapping(node)
        # Keys merged in by `<<` come first, so that the mapping's own keys win.
        return {self._key(key): self.construct_object(value, deep=True) for key, value in node.value}

    def _key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key must be a word", node.start_mark)
        key = self.construct_object(node)
        return key if isinstance(key, str) else json.dumps(key)

    def construct_plain(self, node: yaml.ScalarNode) -> Scalar:
        """Construct an unquoted word."""
        return _finite(plain_scalar(node.value), node)

    def construct_text(self, node: yaml.ScalarNode) -> str:
        r"""Construct a word in quotes; JSON may write a character as two escapes (`\ud83d\ude00`), which mean nothing alone."""
        try:
            return str(node.value).encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            message = f"{node.value!a} holds half a character, which is no text in UTF-8"
            raise yaml.constructor.ConstructorError(None, None, message, node.start_mark) from None

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """Construct a word tagged `!!int` or `!!float`."""
        value = _finite(plain_scalar(node.value), node)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise yaml.constructor.ConstructorError(None, None, f'"{node.value}" is no number', node.start_mark)
        return value

    def construct_map(self, node: yaml.MappingNode) -> Iterator[dict[Hashable, Any]]:
        """Construct a mapping in two steps, so that an alias may point at a mapping that is still being read."""
        data: dict[Hashable, Any] = {}
        yield data
        data.update(self.construct_mapping(node))


def _finite(value: Scalar, node: yaml.ScalarNode) -> Scalar:
    if isinstance(value, float) and not math.isfinite(value):
        raise yaml.constructor.ConstructorError(None, None, f"JSON has no {node.value}", node.start_mark)
    return value


class _ManifestDumper(yaml.SafeDumper):
    """A dumper with kubectl's idea of what must be in quotes."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        style = None if isinstance(plain_scalar(text), str) else "'"
        node: yaml.ScalarNode = self.represent_scalar(f"{_TAG}str", text, style=style)
        return node


class _InlineDumper(_ManifestDumper):
    """A dumper that needs one line for each value."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        if text.isprintable():
            return super().represent_text(text)
        node: yaml.ScalarNode = self.represent_scalar(f"{_TAG}str", text, style='"')
        return node


def _binary(loader: _Loader, node: yaml.ScalarNode) -> str:
    return base64.b64decode(node.value).decode("utf-8", "replace")


def _text(loader: _Loader, node: yaml.ScalarNode) -> str:
    return str(node.value)


_ManifestDumper.add_representer(str, _ManifestDumper.represent_text)
_InlineDumper.add_representer(str, _InlineDumper.represent_text)
_Loader.add_constructor(f"{_TAG}plain", _Loader.construct_plain)
_Loader.add_constructor(f"{_TAG}str", _Loader.construct_text)
_Loader.add_constructor(f"{_TAG}int", _Loader.construct_number)
_Loader.add_constructor(f"{_TAG}float", _Loader.construct_number)
_Loader.add_constructor(f"{_TAG}bool", _Loader.construct_plain)
_Loader.add_constructor(f"{_TAG}null", _Loader.construct_plain)
_Loader.add_constructor(f"{_TAG}map", _Loader.construct_map)
_Loader.add_constructor(f"{_TAG}binary", _binary)
_Loader.add_constructor(f"{_TAG}timestamp", _text)
