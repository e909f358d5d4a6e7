"""Property names, types and requirements of a resource type, read from the installed provider package.

The package's source is read as text and never imported: importing costs seconds and hundreds of megabytes
(pulumi_cloudflare is one flat package), while the generated source has one fixed shape. What was read is kept as JSON,
one file a type, keyed by the package's version, so a plugin's start reads a few kilobytes.
"""

import ast
import importlib.util
import json
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from local import paths
from local.providers.errors import SchemaError

# Raised when the stored form changes; older files are then left alone and no longer read.
FORMAT = 1

TypeForm = str | dict[str, Any]
"""`string`, `boolean`, `integer`, `number`, `any`, `asset`, `archive`, or one of {list: form}, {map: form},
{object: name}, {enum: values}, {union: forms}."""

_SCALARS: dict[str, TypeForm] = {
    "str": "string",
    "bool": "boolean",
    "int": "integer",
    "float": "number",
    "Any": "any",
    "Archive": "archive",
    "Asset": "asset",
}
_GETTER = re.compile(
    r'@pulumi\.getter(?:\(name="(\w+)"\))?\s+(?:@_utilities\.deprecated\(""".*?"""\)\s+)?def (\w+)\(self\)', re.DOTALL
)
_WORD_BORDER = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True)
class PropertySchema:
    """One property: the form of its values, and whether it must be given."""

    form: TypeForm
    required: bool


@dataclass(frozen=True)
class TypeSchema:
    """Inputs of a resource type, names of its outputs, and the object types that its inputs use."""

    token: str
    inputs: dict[str, PropertySchema]
    outputs: frozenset[str]
    objects: dict[str, dict[str, PropertySchema]]

    def to_json(self) -> dict[str, Any]:
        """Return the stored form."""
        return {
            "token": self.token,
            "inputs": {name: [p.form, p.required] for name, p in self.inputs.items()},
            "outputs": sorted(self.outputs),
            "objects": {
                object_name: {name: [p.form, p.required] for name, p in members.items()}
                for object_name, members in self.objects.items()
            },
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "TypeSchema":
        """Return the schema of a stored form."""
        return cls(
            token=stored["token"],
            inputs={name: PropertySchema(*pair) for name, pair in stored["inputs"].items()},
            outputs=frozenset(stored["outputs"]),
            objects={
                object_name: {name: PropertySchema(*pair) for name, pair in members.items()}
                for object_name, members in stored["objects"].items()
            },
        )


@cache
def package_folder(package: str) -> Path:
    """Return the folder of the provider package `pulumi_<package>`. Raises SchemaError when it is not installed."""
    found = importlib.util.find_spec(f"pulumi_{package}")
    if found is None or not found.submodule_search_locations:
        raise SchemaError(f"python package pulumi_{package} is not installed: install requirements.txt")
    return Path(next(iter(found.submodule_search_locations)))


@cache
def package_version(package: str) -> str:
    """Return the version of the installed provider package, which is also the version of its plugin."""
    stored = json.loads((package_folder(package) / "pulumi-plugin.json").read_text())
    return str(stored["version"])


@cache
def load(token: str) -> TypeSchema:
    """Return the schema of a type token such as `aws:sqs/queue:Queue` or `pulumi:providers:aws`, from the cache or the
    package's source.

    Raises SchemaError when the package has no such type.
    """
    package = token.rpartition(":")[2] if token.startswith("pulumi:providers:") else token.partition(":")[0]
    folder = paths.cache() / "schemas" / f"{package}-{package_version(package)}-{FORMAT}"
    file = folder / (re.sub(r"\W+", "-", token) + ".json")
    if file.exists():
        return TypeSchema.from_json(json.loads(file.read_text()))
    schema = read_source(package_folder(package), token)
    folder.mkdir(parents=True, exist_ok=True)
    # Several plugins may read the same type at once; each writes a file of its own and the last rename wins.
    handle, temporary = tempfile.mkstemp(dir=folder)
    with os.fdopen(handle, "w") as stream:
        json.dump(schema.to_json(), stream)
    Path(temporary).replace(file)
    return schema


def read_source(folder: Path, token: str) -> TypeSchema:
    """Read a type's schema out of the source of the package in `folder`. Raises SchemaError when it is not there."""
    module, class_name = _module_of(folder, token)
    source = _resource_source(module, class_name)
    arguments = re.search(r"get_resource_args_opts\((\w+)", source)
    if arguments is None:
        raise SchemaError(f"{token}: class {class_name} in {module} names no class of arguments")
    reader = _Reader(module)
    inputs = reader.members(source, arguments[1])
    if inputs is None:
        raise SchemaError(f"{token}: class {arguments[1]} is missing in {module}")
    resource = source[source.index(f"\nclass {class_name}(") :]
    outputs = frozenset(wire or python for wire, python in _GETTER.findall(resource))
    return TypeSchema(token, inputs, outputs, reader.objects)


def _module_of(folder: Path, token: str) -> tuple[Path, str]:
    if token.startswith("pulumi:providers:"):
        return folder, "Provider"
    # The package lists every token with its module and class for the SDK's own look-ups.
    index = (folder / "__init__.py").read_text()
    at = index.find(f'"{token}": "')
    if at < 0:
        raise SchemaError(f"{token} is no resource type of {folder.name} {_version_text(folder)}: check its spelling")
    class_name = index[at:].split('"', 4)[3]
    module = index[:at].rpartition('"fqn": "')[2].partition('"')[0]
    return folder.joinpath(*module.split(".")[1:]), class_name


def _version_text(folder: Path) -> str:
    return str(json.loads((folder / "pulumi-plugin.json").read_text())["version"])


def _resource_source(module: Path, class_name: str) -> str:
    guess = module / (_WORD_BORDER.sub("_", class_name).lower() + ".py")
    for file in [guess, *sorted(module.glob("*.py"))]:
        if file.exists():
            source = file.read_text()
            if re.search(rf"^class {class_name}\(pulumi\.\w+\):", source, re.MULTILINE):
                return source
    raise SchemaError(f"class {class_name} is in no file of {module}: the package's layout has changed")


class _Reader:
    """Reads argument classes of one module, and collects the object types met on the way."""

    def __init__(self, module: Path) -> None:
        self._module = module
        self.objects: dict[str, dict[str, PropertySchema]] = {}
        self._texts: dict[str, str] = {}

    def members(self, source: str, class_name: str) -> dict[str, PropertySchema] | None:
        start = source.find(f"\nclass {class_name}:\n")
        if start < 0:
            return None
        body = source[start + 1 :]
        body = body[: _end_of_class(body)]
        wire_names = {python: wire or python for wire, python in _GETTER.findall(body)}
        return {
            wire_names.get(python, python): PropertySchema(self._form(annotation), required)
            for python, annotation, required in _signature(body)
        }

    def _form(self, node: ast.expr) -> TypeForm:
        if isinstance(node, ast.Subscript):
            return self._subscript(node)
        if isinstance(node, ast.Attribute):
            return _SCALARS.get(node.attr, "any")
        if isinstance(node, ast.Name):
            return _SCALARS.get(node.id, "any")
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return self._named(node.value)
        return "any"

    def _subscript(self, node: ast.Subscript) -> TypeForm:
        head = node.value.attr if isinstance(node.value, ast.Attribute) else ast.unparse(node.value)
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if head in ("Input", "Optional", "InputType"):
            return self._form(parts[0])
        if head == "Sequence":
            return {"list": self._form(parts[0])}
        if head == "Mapping":
            return {"map": self._form(parts[1])}
        if head == "Union":
            return _union([self._form(part) for part in parts])
        return "any"

    def _named(self, name: str) -> TypeForm:
        # `Args` are objects of this module, everything else is an enumeration; a name of another module keeps its
        # values unchecked, which no type in use has.
        if name.endswith("ArgsDict"):
            name = name.removesuffix("Dict")
        if name in self.objects:
            return {"object": name}
        if name.endswith("Args"):
            self.objects[name] = {}
            members = self.members(self._text("_inputs.py"), name)
            if members is None:
                del self.objects[name]
                return "any"
            self.objects[name] = members
            return {"object": name}
        values = _enumeration(self._text("_enums.py"), name)
        return {"enum": values} if values else "any"

    def _text(self, file_name: str) -> str:
        if file_name not in self._texts:
            file = self._module / file_name
            self._texts[file_name] = file.read_text() if file.exists() else ""
        return self._texts[file_name]


def _end_of_class(body: str) -> int:
    ends = [at for at in (body.find("\nclass ", 1), body.find("\n@pulumi.input_type", 1)) if at > 0]
    return min(ends, default=len(body))


def _signature(body: str) -> Iterator[tuple[str, ast.expr, bool]]:
    start = body.find("def __init__(")
    if start < 0:
        return
    end = body.index("):\n", start)
    function = ast.parse(body[start:end] + "): ...").body[0]
    if not isinstance(function, ast.FunctionDef):
        return
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        if argument.annotation is not None:
            yield argument.arg, argument.annotation, default is None


def _union(forms: list[TypeForm]) -> TypeForm:
    distinct = [form for index, form in enumerate(forms) if form not in forms[:index]]
    if "any" in distinct:
        return "any"
    return distinct[0] if len(distinct) == 1 else {"union": distinct}


def _enumeration(source: str, name: str) -> list[Any]:
    start = source.find(f"\nclass {name}(")
    if start < 0:
        return []
    body = source[start + 1 :]
    body = body[: _end_of_class(body)]
    return [ast.literal_eval(value) for value in re.findall(r"^    \w+ = (.+)$", body, re.MULTILINE)]
