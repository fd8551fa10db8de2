"""Small files of JSON that describe a source."""

from __future__ import annotations

from typing import Any

from recordio.errors import SourceError
from recordio.format import strict_json
from recordio.writer.sources.files import open_regular, refused


def read_json(path: str, most: int) -> Any:
    """What a file of at most so many bytes holds. Raises SourceError."""
    try:
        with open(open_regular(path), "rb") as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise SourceError(f"its JSON is larger than {most >> 20} MiB").at(file=path)
        return strict_json.parse(data.decode("utf-8"))
    except OSError as error:
        raise refused(error).at(file=path) from error
    except ValueError as error:
        raise SourceError(f"its JSON cannot be read: {error}").at(file=path) from error
