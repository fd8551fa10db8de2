"""Boxes of objects beside pictures: the text files of YOLO, the XML files of Pascal VOC, and names of classes."""

from __future__ import annotations

import math
import os
import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from recordio.errors import SourceError
from recordio.writer.sources.files import is_file, read_file
from recordio.writer.sources.folders.text import plain_text

_MAX_XML = 16 << 20
_MAX_CLASSES = 16 << 20  # bytes of a file of names
CLASS_FILES = (
    "data.yaml",
    "data.yml",
    "dataset.yaml",
    "classes.txt",
    "obj.names",
    "predefined_classes.txt",
)
_PART = re.compile(r"""[^,'"]+|"[^"]*"|'[^']*'|[,'"]""")  # of a list: what lies between commas, in quotes or not
_COMMENT = re.compile(r"(?:^|\s)#.*")
_NUMBERED = re.compile(r"""['"]?(\d+)['"]?\s*:\s*(.*)""")

Boxes = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]


def yolo_lines(data: bytes) -> list[list[float]]:
    """The numbers of each line: the class, then the coordinates. Raises SourceError for anything else."""
    lines = []
    for number, line in enumerate(plain_text(data).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            lines.append([float(word) for word in words])
        except ValueError as error:
            raise SourceError(f"line {number} is no class and coordinates: {line[:60]!r}") from error
        if not all(map(math.isfinite, lines[-1])):
            raise SourceError(f"line {number} holds a number that is none: {line[:60]!r}")
        if not lines[-1][0].is_integer() or not 0 <= lines[-1][0] < 1 << 31:
            raise SourceError(f"line {number} begins with {words[0]!r}, not with the number of a class")
    return lines


def yolo_boxes(data: bytes) -> Boxes:
    """Boxes (N, 4), centre x and y, width, height as shares of the picture, and classes (N,). Raises SourceError."""
    lines = yolo_lines(data)
    for number, line in enumerate(lines, 1):
        if len(line) != 5:
            more = ", and the 6th may be a confidence" if len(line) == 6 else ""
            raise SourceError(f"object {number} has {len(line)} values; a class and a box are 5{more}")
    numbers = np.array(lines, np.float64).reshape(-1, 5)
    return numbers[:, 1:], numbers[:, 0].astype(np.int64)


def yolo_polygons(data: bytes) -> tuple[list[list[float]], npt.NDArray[np.int64]]:
    """The coordinates after the class of each line, and classes (N,): outlines or key points. Raises SourceError."""
    lines = yolo_lines(data)
    return [line[1:] for line in lines], np.array([line[0] for line in lines], np.float64).astype(np.int64)


def voc_annotation(data: bytes) -> dict[str, Any]:
    """A VOC file as dicts, lists and texts: repeated elements are lists, `object` always is. Raises SourceError."""
    plain = data[:_MAX_XML].replace(b"\0", b"")  # that of UTF-16, too
    if len(data) > _MAX_XML or b"<!DOCTYPE" in plain or b"<!ENTITY" in plain:
        raise SourceError("the XML is too large, or declares entities, which are not read")
    try:
        found = _element(ElementTree.fromstring(data))
    except (ElementTree.ParseError, RecursionError, ValueError) as error:
        raise SourceError(f"the XML cannot be read: {error}") from error
    out = found if isinstance(found, dict) else {}
    objects = out.get("object", [])
    return out | {"object": objects if isinstance(objects, list) else [objects]}


def _element(element: ElementTree.Element, depth: int = 0) -> Any:
    if depth > 32:
        raise SourceError("the XML is nested deeper than 32 elements")
    out: dict[str, Any] = {}
    for child in element:
        value = _element(child, depth + 1)
        if child.tag not in out:
            out[child.tag] = value
        elif isinstance(out[child.tag], list):
            out[child.tag].append(value)
        else:
            out[child.tag] = [out[child.tag], value]
    return out or (element.text or "").strip()


def voc_boxes(annotation: dict[str, Any], classes: dict[str, int]) -> Boxes:
    """Boxes (N, 4), xmin, ymin, xmax, ymax in pixels counted from 1, and classes (N,). Raises SourceError."""
    boxes, labels = [], []
    for number, found in enumerate(annotation["object"], 1):
        try:
            boxes.append([float(found["bndbox"][side]) for side in ("xmin", "ymin", "xmax", "ymax")])
            labels.append(classes[found["name"]])
        except (KeyError, TypeError, ValueError) as error:
            raise SourceError(f"object {number} has no name and box") from error
    return np.array(boxes, np.float64).reshape(-1, 4), np.array(labels, np.int64)


def voc_classes(annotation: dict[str, Any]) -> set[str]:
    """The names of the classes in an annotation; objects without a usable one are left to `voc_boxes`."""
    names = (found.get("name") for found in annotation["object"] if isinstance(found, dict))
    return {name for name in names if isinstance(name, str)}


def named_classes(folders: list[str]) -> tuple[list[str] | None, str]:
    """The names of YOLO's classes from a file in one of the folders, and the file's path; None and "" without one.

    Raises SourceError if there are such files and the names can be read from none.
    """
    unread = ""
    for folder in folders:
        for name in CLASS_FILES:
            path = os.path.join(folder, name)
            if is_file(path):
                text = plain_text(read_file(path, most=_MAX_CLASSES))
                names = _yaml_names(text) if name.endswith(("yaml", "yml")) else _line_names(text)
                if names:
                    return names, path
                unread = unread or path
    if unread:
        text = "the names of the classes cannot be read; write one a line to classes.txt"
        raise SourceError(text).at(file=unread)
    return None, ""


def _line_names(text: str) -> list[str]:
    """One a line. An empty line between names is a class without one: the numbers of the others stay."""
    return [line.strip() for line in text.rstrip().splitlines()]


def _yaml_names(text: str) -> list[str]:
    """The `names:` of a data.yaml: a list or a map from number to name, in lines or in brackets; else empty."""
    found = re.search(r"^names:[ \t]*(.*(?:\n(?:[ \t]+.*|-.*|[\]}].*|[ \t]*))*)", text, re.MULTILINE)
    if found is None:
        return []
    block = "\n".join(_COMMENT.sub("", line) for line in found[1].splitlines()).strip()
    if block[:1] in ("[", "{"):
        end = block.find("]" if block[0] == "[" else "}")
        items = _items(block[1:end].replace("\n", " ").strip().removesuffix(",")) if end > 0 else []
    else:
        items = [line.strip().removeprefix("-").strip() for line in block.splitlines() if line.strip()]
        if len(block.splitlines()) == 1 and not block.startswith(("-", "0", "'0", '"0')):
            return []  # the path of another file
    pairs = [_NUMBERED.fullmatch(item.strip()) for item in items]
    if items and all(pairs):
        numbered = {int(pair[1]): pair[2] for pair in pairs if pair}
        items = [numbered[number] for number in sorted(numbered)] if sorted(numbered) == list(range(len(items))) else []
    return [_unquoted(item) for item in items]


def _items(text: str) -> list[str]:
    """The items of a list without its brackets, quotes kept."""
    items: list[list[str]] = [[]]
    for part in _PART.findall(text):
        if part == ",":
            items.append([])
        else:
            items[-1].append(part)
    return ["".join(parts) for parts in items]


def _unquoted(item: str) -> str:
    item = item.strip()
    return item[1:-1] if len(item) > 1 and item[0] == item[-1] and item[0] in "'\"" else item
