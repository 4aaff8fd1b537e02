"""Reads what Weights & Biases writes offline: a log of LevelDB's format with protocol buffers in it."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_BLOCK = 32768


class Logged(NamedTuple):
    """What one file holds."""

    run: Any
    history: list[dict[str, Any]]
    summary: dict[str, Any]
    config: dict[str, Any]


def read_wandb(path: Path) -> Logged:
    """All records of a `.wandb` file."""
    from wandb.proto import wandb_internal_pb2

    run, history, summary, config = None, [], {}, {}
    for data in _records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
            config |= _items(record.run.config.update)
        elif kind == "config":
            config |= _items(record.config.update)
        elif kind == "history":
            history.append(_items(record.history.item))
        elif kind == "summary":
            summary |= _items(record.summary.update)
    return Logged(run, history, summary, config)


def _items(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def _records(data: bytes) -> Iterator[bytes]:
    position, held = 7, b""  # behind the file's own header
    while position + 7 <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < 7:
            position += left
            continue
        length, kind = struct.unpack_from("<HB", data, position + 4)
        held += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield held
            held = b""
