"""A sample value for any wire type, made from the type alone: for examples in pages and for tests.

The same type always gives the same sample. Nothing here knows any particular call.
"""

from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from syscalls.job import JobState

Wire = TypeVar("Wire")

# What a field of this name looks like, where its type alone would not tell.
LIKELY: dict[str, Any] = {
    "session_id": "sess_00112233445566778899aabbccddeeff",
    "job_id": "job_00112233445566778899aabbccddeeff",
    "replay_of": "job_ffeeddccbbaa99887766554433221100",
    "checkpoint_id": "ckpt_00112233445566778899aabbccddeeff",
    "channel_id": "chan_00112233445566778899aabbccddeeff",
    "capability_id": "cap_00112233445566778899aabbccddeeff",
    "fault_id": "fault_12",
    "tenant_id": "physics",
    "requested": ["CAP_ALLOC", "CAP_MAGIC"],
    "required": ["CAP_ALLOC", "CAP_MAGIC"],
    "missing": ["CAP_MAGIC"],
    "granted": ["CAP_ALLOC"],
    "denied": ["CAP_MAGIC"],
    "op_families": ["clifford/1"],
    "path": "$.program.nodes[3].vqs[0]",
    "rule": "linear.use_after_free",
    "message": "`q0` was freed by node n2.",
    "remedy": "Ask for it with transport `fd`.",
    "counts": {"00": 507, "11": 493},
    "events": {"m0": 1, "m1": 1},
    "hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "handles": ["q0", "q1"],
    "profile": "logical:Surface(d=7)",
    "vq_a": "q0",
    "vq_b": "q1",
    "shots": 1000,
    "data": "AQMA",
    "mapping": {"q0": [0, 1, 2]},
    "at": "2025-01-31T12:00:00.000Z",
}
GRAPH: dict[str, Any] = {
    "version": "0.1",
    "program": {
        "nodes": [
            {"id": "a", "op": "ALLOC_LQ", "args": {"n": 1, "profile": "ideal"}, "vqs": ["q0"]},
            {"id": "h", "op": "APPLY_H", "vqs": ["q0"]},
            {"id": "m", "op": "MEASURE_Z", "vqs": ["q0"], "produces": ["m0"]},
            {"id": "f", "op": "FREE_LQ", "vqs": ["q0"]},
        ]
    },
    "resources": {"vqs": ["q0"], "events": ["m0"]},
}


def sample(wire_type: Any, *, full: bool = True) -> Any:
    """A value of this type as JSON builtins; `full` also fills what may be left out."""
    return _sample(inspect.type_info(wire_type), full, "")


def _sample(info: inspect.Type, full: bool, name: str) -> Any:
    likely = LIKELY.get(name)
    match info:
        case inspect.Metadata():
            examples = (info.extra_json_schema or {}).get("examples")
            return examples[0] if examples else _sample(info.type, full, name)
        case inspect.StructType():
            return {
                field.encode_name: _sample(field.type, full, field.encode_name)
                for field in info.fields
                if full or field.required
            }
        case inspect.UnionType():
            plain = [kind for kind in info.types if not isinstance(kind, inspect.NoneType)]
            return _sample(plain[0], full, name) if full else None
        case inspect.RawType():
            return GRAPH
        case inspect.EnumType():
            return JobState.COMPLETED if info.cls is JobState else next(iter(info.cls)).value
        case inspect.LiteralType():
            return info.values[0]
        case inspect.BoolType():
            return full
        case inspect.StrType():
            return likely if isinstance(likely, str) else name or "text"
        case inspect.IntType():
            return likely if isinstance(likely, int) else max(info.ge or 0, 1)
        case inspect.FloatType():
            return 0.5 if info.gt is None else max(0.5, 2 * info.gt)
        case inspect.ListType():
            return likely if isinstance(likely, list) else [_sample(info.item_type, full, "")]
        case inspect.DictType():
            if isinstance(likely, dict):
                return likely
            key = _sample(info.key_type, full, "name")
            return {key: _sample(info.value_type, full, "")}
        case inspect.AnyType():
            return 1
    raise TypeError(f"no sample for {info!r}: teach syscalls.derive.samples this type")


def sample_value(wire_type: type[Wire], *, full: bool = True) -> Wire:
    """The sample as a value of its type."""
    return msgspec.json.decode(msgspec.json.encode(sample(wire_type, full=full)), type=wire_type)


def sample_json(wire_type: Any, *, full: bool = True) -> str:
    """The sample as indented JSON text."""
    return msgspec.json.format(msgspec.json.encode(sample(wire_type, full=full)), indent=2).decode()
