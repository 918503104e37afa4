"""The reference pages of the ABI in `docs/abi`: an index, every call, every error."""

import inspect
import json
from collections.abc import Sequence
from typing import Any

from syscalls import framing, jsonrpc
from syscalls import results as results_module
from syscalls.derive.samples import sample_json
from syscalls.derive.schema import Json, components
from syscalls.errors import ERRORS
from syscalls.job import FINAL_STATES, JobState
from syscalls.registry import CALLS, JOB_FAILURES, NOTIFICATIONS, WIRE_ERRORS
from syscalls.rights import HELP
from syscalls.syscall import Syscall
from syscalls.version import ABI_VERSION, QVM_VERSION

HEADER = "<!-- Generated from syscalls/ by `make regen`; change the types, not this page. -->\n\n"


def pages() -> dict[str, str]:
    """File name to text."""
    return {"README.md": index_page(), "calls.md": calls_page(), "errors.md": errors_page()}


def index_page() -> str:
    calls = [
        (
            f"[`{call.METHOD}`](calls.md#{_anchor(call.METHOD)})",
            _summary(call),
            f"`{call.NEEDS}`" if call.NEEDS else "",
            "yes" if call.AVAILABLE else "not yet",
        )
        for call in CALLS
    ]
    rights = [(f"`{right}`", f"{line[0].upper()}{line[1:]}.") for right, line in HELP.items()]
    return (
        HEADER
        + f"""# The qSyscall ABI, version {ABI_VERSION}

Programs are QVM graphs, version {QVM_VERSION}. The same facts for machines: JSON Schemas and an
OpenRPC document in `syscalls/schemas/`, and `rpc.discover` on any running daemon.

## On the wire

JSON-RPC 2.0, one message per line, over a Unix stream socket; UTF-8; many requests at a time on
one connection, answered by id in any order. A first exchange, by hand:

```
→ {{"jsonrpc":"2.0","id":1,"method":"q_negotiate_caps","params":{{"requested":["CAP_ALLOC"]}}}}
← {{"jsonrpc":"2.0","id":1,"result":{{"session_id":"sess_…","granted":["CAP_ALLOC"], …}}}}
```

- **Framing.** A message ends at its newline. One complete JSON object or array without a newline
  is taken too; it may open at most {framing.NESTING_MAX} brackets at a time. A bad line is
  answered with `PARSE_ERROR` and spoils only itself.
- **Bounds.** A message has at most {framing.MESSAGE_BYTES_MAX // 2**20} MiB (configurable); beyond,
  one `PARSE_ERROR`, and the connection closes. A batch has at most {jsonrpc.BATCH_MAX} elements.
- **Ids** are strings of at most {jsonrpc.REQUEST_ID_CHARS_MAX} characters, integers of 64 bits, or
  null. A request without an id is a notification: performed, never answered.
- **Parameters** go by name. Unknown ones are refused. Of duplicate keys the last counts.
- **Results** show every field, null where there is nothing. Clients ignore fields they do not
  know, so that fields can be added.
- **Who is calling** is what the host's kernel says about the socket's other end. A session id is a
  name, not a secret: it works only for the tenant that opened it.
- **Times** are RFC 3339 in UTC.
- **Traces.** A request may have a member `traceparent` beside `params`
  ([W3C Trace Context](https://www.w3.org/TR/trace-context-2/)). A malformed one counts as none; no
  answer depends on it, and a daemon that knows nothing of it ignores it.

## Calls

{_table(("call", "what it does", "needs", "in this build"), calls)}

The kernel sends {", ".join(f"`{name}`" for name in NOTIFICATIONS)} notifications to those who
asked for them with `q_subscribe`. Refusals: [errors](errors.md).

## Capabilities

Gates and measurements on qubits one owns need none.

{_table(("capability", "lets its holder"), rights)}

## Job states

{", ".join(f"`{state}`" for state in JobState)}; the last {len(FINAL_STATES)} are final.

## Packed results

{inspect.cleandoc(results_module.__doc__ or "")}
"""
    )


def calls_page() -> str:
    types: list[Any] = [*CALLS, *(call.REPLY for call in CALLS), *NOTIFICATIONS.values()]
    _, schemas = components(types, "{name}")
    sections = [_call_section(call, schemas) for call in CALLS]
    for name, event in NOTIFICATIONS.items():
        sections.append(
            f"## `{name}`\n\n{inspect.getdoc(event)}\n\nA notification: sent by the kernel, never "
            f"answered.\n\n{_fields(event.__name__, schemas)}\n"
        )
    tops = {call.__name__ for call in CALLS} | {call.REPLY.__name__ for call in CALLS}
    tops |= {event.__name__ for event in NOTIFICATIONS.values()}
    sections.append("# Types inside\n")
    for name, schema in schemas.items():
        if name not in tops:
            sections.append(f"## {name}\n\n{schema['description']}\n\n{_fields(name, schemas)}\n")
    return HEADER + "# Every call\n\n" + "\n".join(sections)


def errors_page() -> str:
    rows = [
        (str(error.CODE), f"[`{error.NAME}`](#{_anchor(error.NAME)})", _summary(error))
        for error in ERRORS
    ]
    _, schemas = components(list(ERRORS), "{name}")
    sections = []
    for error in ERRORS:
        fields = [name for name in schemas[error.__name__]["properties"] if name != "type"]
        carried = ", ".join(f"`{name}`" for name in fields) or "nothing but its type"
        sections.append(
            f"### `{error.NAME}`\n\nCode {error.CODE}. {inspect.getdoc(error)}\n\n"
            f"Data carries {carried}. Asking the same again "
            f"{'may help' if error.RETRYABLE else 'does not help'}.\n\n{_given_by(error)}\n"
        )
    return (
        HEADER
        + f"""# Every error

An error's code and name never change. On the wire:

```json
{{"jsonrpc": "2.0", "id": 1, "error": {{
  "code": -32001, "message": "Insufficient capabilities: missing CAP_MAGIC.",
  "data": {{"type": "INSUFFICIENT_CAPS", "required": ["CAP_MAGIC"], "missing": ["CAP_MAGIC"]}}}}}}
```

Where several reasons apply, the first of this table is given. A job that fails reports one of
{", ".join(f"`{error.NAME}`" for error in JOB_FAILURES)} in its status. Paths in `INVALID_PARAMS`
start at the parameters, those in `INVALID_REQUEST` at the message, those in findings at the graph.

{_table(("code", "name", "meaning"), rows)}

"""
        + "\n".join(sections)
    )


def _call_section(call: type[Syscall], schemas: Json) -> str:
    errors = ", ".join(
        f"[`{error.NAME}`](errors.md#{_anchor(error.NAME)})" for error in call.ERRORS
    )
    needs = f" Needs `{call.NEEDS}`." if call.NEEDS else ""
    missing = "" if call.AVAILABLE else "\n\n**Not in this build**: answers `NOT_AVAILABLE`."
    return f"""## `{call.METHOD}`

{inspect.getdoc(call)}{needs}{missing}

**Parameters**

{_fields(call.__name__, schemas)}

**Result**: {inspect.getdoc(call.REPLY)}

{_fields(call.REPLY.__name__, schemas, "unless set", "always set")}

**Errors**: {errors}

<details><summary>Example</summary>

```json
{sample_json(call)}
```

</details>
"""


def _fields(name: str, schemas: Json, head: str = "default", without: str = "required") -> str:
    schema = schemas[name]
    if "enum" in schema:
        return "One of " + ", ".join(f"`{value}`" for value in schema["enum"]) + "."
    if not schema["properties"]:
        return "None."
    rows = [
        (
            f"`{field}`",
            _type(property_),
            without if field in schema["required"] else _default(property_),
            property_.get("description", ""),
        )
        for field, property_ in schema["properties"].items()
    ]
    return _table(("field", "type", head, ""), rows)


def _type(schema: Json) -> str:
    """A schema's type in a few words."""
    if "$ref" in schema:
        return f"[{schema['$ref']}](#{_anchor(schema['$ref'])})"
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    match schema.get("type"):
        case "array":
            return f"array of {_type(schema['items'])}{_bounds(schema, 'Items')}"
        case "object" if "additionalProperties" in schema:
            return f"object of {_type(schema['additionalProperties'])}"
        case "string":
            return f"string{_bounds(schema, 'Length')}"
        case "integer" | "number" if "minimum" in schema:
            return f"{schema['type']}, {schema['minimum']} to {schema['maximum']}"
        case None:
            return "any"
        case plain:
            return str(plain)


def _bounds(schema: Json, what: str) -> str:
    least, most = schema.get(f"min{what}"), schema.get(f"max{what}")
    if most is None:
        return ""
    return f" ({f'{least} to' if least else 'at most'} {most})"


def _default(schema: Json) -> str:
    return f"`{json.dumps(schema['default'])}`" if "default" in schema else "left out"


def _given_by(error: Any) -> str:
    if error in WIRE_ERRORS:
        return "Given before a call is known."
    givers = [call.METHOD for call in CALLS if error in call.ERRORS]
    if len(givers) == len(CALLS):
        return "Any call may give it."
    named = ", ".join(f"`{name}`" for name in givers)
    return f"Given by {named}." if named else "Not given by calls; jobs fail with it."


def _summary(wire_type: type[Any]) -> str:
    return " ".join((inspect.getdoc(wire_type) or "").partition("\n\n")[0].split())


def _anchor(heading: str) -> str:
    """How the common Markdown renderers name a heading."""
    return heading.lower().replace(".", "").replace("`", "")


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(
        "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in line) + " |"
        for line in lines
    )
