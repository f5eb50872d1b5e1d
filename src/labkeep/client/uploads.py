"""What may be uploaded, as request bodies."""

from __future__ import annotations

import mimetypes
import os
from pathlib import Path
from typing import TypeAlias

from labkeep.client.transport import Upload, file_upload

Content: TypeAlias = "bytes | str | os.PathLike[str]"
"""Bytes, or the path of a local file."""


def upload_of(content: Content) -> bytes | Upload:
    """A request body. A file is read while it is sent, never as a whole."""
    if isinstance(content, bytes | bytearray | memoryview):
        return bytes(content)
    return file_upload(Path(content))


def media_type_of(path: str) -> str:
    """The media type that a file's name suggests."""
    return mimetypes.guess_type(path, strict=False)[0] or "application/octet-stream"
