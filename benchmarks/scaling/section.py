"""What a section gives: tables by name, each a list of rows with the same keys."""

from __future__ import annotations

from measuring import Row

Tables = dict[str, list[Row]]
