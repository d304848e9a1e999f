"""Derives api.d.ts from the REST API's OpenAPI document: `python -m include.console.derive_types`.

TypeScript uses api.d.ts to check how the console's modules use responses. Run this command again when a
response changes; a test compares the file with the API.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TYPES = Path(__file__).with_name("api.d.ts")
_HEAD = """// Written by `python -m include.console.derive_types`: requests and responses of the training API.
declare namespace Api {"""
_SCALARS = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}


def derive() -> str:
    """Return the content of api.d.ts: declarations of all request and response bodies of the API."""
    from include.api.app import create_app

    schemas = create_app().openapi()["components"]["schemas"]
    declarations = [_declare(name, schema) for name, schema in sorted(schemas.items())]
    return "\n".join([_HEAD, *declarations, "}", ""])


def _declare(name: str, schema: dict[str, Any]) -> str:
    if "properties" not in schema:
        return f"  type {name} = {_translate_type(schema)};\n"
    fields = [f"    {field}: {_translate_type(value)};" for field, value in schema["properties"].items()]
    return "\n".join([f"  interface {name} {{", *fields, "  }\n"])


def _translate_type(schema: dict[str, Any]) -> str:
    """Return the TypeScript type of a schema. Raises KeyError for a type that is not supported here."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " | ".join(_translate_type(each) for each in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " | ".join(json.dumps(each) for each in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"Array<{_translate_type(schema['items'])}>"
    if schema.get("type") == "object":
        values = schema.get("additionalProperties", True)
        return f"Record<string, {'any' if values is True else _translate_type(values)}>"
    return _SCALARS[schema["type"]] if "type" in schema else "unknown"


if __name__ == "__main__":
    TYPES.write_text(derive(), encoding="utf-8")
