"""The files of a run's record, read; light to import, as reports do."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no such file, or another content."""
    with suppress(OSError, ValueError, RecursionError):
        content = json.loads(path.read_text(encoding='utf-8'))
        if isinstance(content, dict):
            return content
    return {}


def read_history(work_dir: Path) -> list[dict[str, Any]]:
    """The entries of `history.jsonl`, none where there is no such file; damaged lines left out."""
    entries = []
    with suppress(OSError, UnicodeDecodeError):
        for line in (work_dir / 'history.jsonl').read_text(encoding='utf-8').splitlines():
            with suppress(ValueError, TypeError, KeyError, RecursionError):
                entry = json.loads(line)
                entry['step'], entry['epoch'] = int(entry['step']), int(entry['epoch'])
                if isinstance(entry['metrics'], dict):
                    entries.append(entry)
    return entries
