"""CIFAR in its four versions, and hostile pickles."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from recordio import Image, Scalar, SourceError
from recordio.writer.sources import SourceOptions, detect, open_source, splits
from recordio.writer.sources.arrays.pickled import byte_array, load_pickle

GENERATOR = np.random.Generator(np.random.PCG64(1))
NAMES10 = ["airplane", "automobile"]


def pixels(count: int) -> npt.NDArray[np.uint8]:
    return GENERATOR.integers(0, 256, (count, 3072), np.uint8)


def _str2(text: bytes) -> bytes:
    """A string as Python 2 wrote it."""
    return b"U" + bytes([len(text)]) + text if len(text) < 256 else b"T" + struct.pack("<i", len(text)) + text


def _list2(items: list[bytes]) -> bytes:
    return b"](" + b"".join(items) + b"e"


def _array2(array: npt.NDArray[np.uint8]) -> bytes:
    """A uint8 array as NumPy wrote it under Python 2."""
    shape = b"".join(b"J" + struct.pack("<i", n) for n in array.shape)
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    rebuild = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    return rebuild + b"(K\x01" + b"(" + shape + b"t" + dtype + b"\x89" + _str2(array.tobytes()) + b"tb"


def pickle2(**values: Any) -> bytes:
    """A dict as Python 2's cPickle wrote it, protocol 2, as in the published files."""
    out = b"\x80\x02}("
    for name, value in values.items():
        out += _str2(name.encode())
        if isinstance(value, np.ndarray):
            out += _array2(value)
        elif isinstance(value, list):
            out += _list2([_str2(v.encode()) if isinstance(v, str) else b"K" + bytes([v]) for v in value])
        else:
            out += _str2(value)
    return out + b"u."


def files10(python: bool) -> dict[str, tuple[bytes, npt.NDArray[np.uint8], list[list[int]]]]:
    out = {}
    for name, count in (("data_batch_1", 2), ("data_batch_2", 3), ("test_batch", 2)):
        x, y = pixels(count), GENERATOR.integers(0, 10, count).tolist()
        binary = b"".join(bytes([label]) + row.tobytes() for label, row in zip(y, x, strict=True))
        data = pickle2(batch_label=b"a batch", labels=y, data=x, filenames=["a.png"] * count) if python else binary
        out[name if python else f"{name}.bin"] = (data, x, [[label] for label in y])
    return out


def files100(python: bool) -> dict[str, tuple[bytes, npt.NDArray[np.uint8], list[list[int]]]]:
    out = {}
    for name, count in (("train", 3), ("test", 2)):
        x, fine, coarse = pixels(count), list(range(count)), [0, 1, 0][:count]
        # The pickle has fine labels first, the binary version coarse ones.
        both = zip(coarse, fine, x, strict=True)
        binary = b"".join(bytes([c, f]) + row.tobytes() for c, f, row in both)
        data = pickle2(fine_labels=fine, coarse_labels=coarse, data=x) if python else binary
        out[name if python else f"{name}.bin"] = (data, x, [list(pair) for pair in zip(fine, coarse, strict=True)])
    return out


FORMS: dict[str, tuple[Any, bool, dict[str, bytes]]] = {
    "cifar-10-batches-bin": (files10, False, {"batches.meta.txt": b"airplane\nautomobile\n\n"}),
    "cifar-10-batches-py": (files10, True, {"batches.meta": pickle2(num_vis=b"3072", label_names=NAMES10)}),
    "cifar-100-binary": (
        files100, False, {"fine_label_names.txt": b"apple\nbear\n", "coarse_label_names.txt": b"fruit\nmammal\n"},
    ),
    "cifar-100-python": (
        files100, True,
        {"meta": pickle2(fine_label_names=["apple", "bear"], coarse_label_names=["fruit", "mammal"])},
    ),
}  # fmt: skip


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "archive"])
@pytest.mark.parametrize("form", FORMS)
def test_every_cifar_version_gives_the_same_samples(tmp_path: Path, form: str, packed: bool) -> None:
    make, python, names = FORMS[form]
    files = make(python)
    (tmp_path / form).mkdir()
    for name, data in ({name: data for name, (data, _, _) in files.items()} | names).items():
        (tmp_path / form / name).write_bytes(data)
    path = tmp_path / form
    if packed:
        path = tmp_path / f"{form}.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            archive.add(tmp_path / form, form)
    ten = "10-" in form
    assert detect(path) == ("cifar10" if ten else "cifar100")
    assert list(splits(path)) == ["train", "test"]
    spec = splits(path)["train"]
    source = pickle.loads(pickle.dumps(open_source(spec.path, spec.kind, spec.options)))
    train = [found for name, found in sorted(files.items()) if "test" not in name]
    rows = np.concatenate([x for _, x, _ in train]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    labels = [label for _, _, y in train for label in y]
    fields = ["label"] if ten else ["fine_label", "coarse_label"]
    assert dict(source.schema) == {"image": Image(shape=(32, 32, 3))} | {name: Scalar("int64") for name in fields}
    samples = [sample for _, sample in source.read(range(len(source)))]
    assert np.array_equal([sample["image"] for sample in samples], rows)
    assert [[sample[name] for name in fields] for sample in samples] == labels
    classes = {"classes": NAMES10} if ten else {"classes": ["apple", "bear"], "coarse_classes": ["fruit", "mammal"]}
    assert source.metadata == classes


def test_cifar_subfolder_is_found(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-bin").mkdir()
    (tmp_path / "cifar-10-batches-bin/test_batch.bin").write_bytes(bytes(3073))
    assert list(splits(tmp_path)) == ["test"]
    assert len(open_source(tmp_path)) == 1


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("data_batch_1.bin", bytes(3072), "not a whole number of records of 3073 bytes"),
        ("data_batch_1.bin", b"", "no images"),
        ("data_batch_1", pickle2(labels=[1]), "lacks data"),
        ("data_batch_1", pickle2(labels=[1, 2], data=np.zeros((1, 3072), "u1")), "for 2 labels"),
        ("data_batch_1", pickle2(labels=[1], data=np.zeros((1, 100), "u1")), "shape"),
        ("data_batch_1", pickle2(labels=[1], data=b"x"), "no array"),
        ("data_batch_1", pickle2(labels=["a"], data=np.zeros((1, 3072), "u1")), "not integers"),
        ("data_batch_1", b"", "cannot be read"),
        ("data_batch_1", b"\x80\x02]." + b"", "a list, not a dict"),
    ],
)
def test_invalid_cifar_batch_is_refused_by_name(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError, match=message):
        open_source(tmp_path, "cifar10", SourceOptions(part="train"))


@pytest.mark.parametrize("name", ["data_batch_2.bin", "batches.meta.txt"])
def test_a_file_whose_link_leads_nowhere_is_an_error(tmp_path: Path, name: str) -> None:
    for file, (data, _, _) in files10(False).items():
        (tmp_path / file).write_bytes(data)
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).symlink_to("gone")
    with pytest.raises(SourceError, match=f"No such file or directory - .*{name}"):
        open_source(tmp_path, "cifar10", SourceOptions("train"))


def test_truncated_archive_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
        member.size = 30730
        archive.addfile(member, io.BytesIO(pixels(11).tobytes()[:30730]))
    path = tmp_path / "c.tar.gz"
    for data in (buffer.getvalue()[:9000], b"junk", b""):
        path.write_bytes(data)
        with pytest.raises(SourceError):
            open_source(path, "cifar10", SourceOptions(part="train"))


HOSTILE = {
    "os.system": b"\x80\x02cos\nsystem\nU\x04true\x85R.",
    "builtins.eval": b"\x80\x02c__builtin__\neval\nU\x011\x85R.",
    "numpy itself": b"\x80\x02cnumpy\nload\nU\x01x\x85R.",
    "a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.tofile\x93.",
    "the import of a module": b"\x80\x02cantigravity\nx\n.",
    "an object": b"\x80\x02cnumpy\nndarray\n)\x81.",
    "an instance of old": b"(ios\nsystem\n.",
    "an extension": b"\x80\x02\x82\x01.",
    "a persistent id": b"Px\n.",
    "a memo that fills memory": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "a length that is not there": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x.",
    "a change to a stand-in": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nN}U\x01xK\x01s\x86b.",
    "an array of nothing known": b"\x80\x02}U\x01xcnumpy\nndarray\n)Rs.",
    "a key of tuples within each other": b"\x80\x02}N" + b"\x85" * 200_000 + b"Ns.",
    "a key of shared halves": b"\x80\x02}" + b"Nq\0h\0\x86" + b"q\0h\0\x86" * 100 + b"Ns.",
    "a global named by tuples within each other": b"\x80\x04N" + b"\x85" * 200_000 + b"\x8c\x01a\x93.",
    "a text that is made into bytes again and again": b"\x80\x04]\x8c\x07_codecs\x8c\x06encode\x93q\0X\0\1\0\0"
    + b"x" * 256
    + b"q\1"
    + b"h\0h\1\x85R" * 99
    + b"0.",
    "a shape of endless numbers": b"\x80\x02}U\x01xcnumpy\nndarray\n)R(K\x01("
    b"\x8a\xff"
    + bytes(254)
    + b"\x7f"
    + b"\x8a\xff"
    + bytes(254)
    + b"\x7f"
    + b"K\x01" * 20
    + b"tcnumpy\ndtype\nU\x02u1\x85R\x89U\x01xtbs.",
    "a key that is no Unicode": b"\x80\x04}X\x03\0\0\0\xed\xa0\x80Ns.",
    "no end": b"\x80\x02}",
    "junk": b"hello",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickle_is_refused_without_running_code(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    watched = ("os.system", "subprocess.Popen", "exec", "compile", "import", "open")
    active = True
    sys.addaudithook(lambda event, _: events.append(event) if active and event in watched else None)
    modules = set(sys.modules)
    try:
        with pytest.raises(SourceError):
            byte_array(load_pickle(HOSTILE[name]).get(b"x"))
    finally:
        active = False
    assert events == []
    assert set(sys.modules) == modules


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("os.system", "asks for os.system, which is not allowed"),
        ("an object", "holds the opcode NEWOBJ, which is not allowed"),
        ("an extension", "holds the opcode EXT1, which is not allowed"),
        ("a persistent id", "holds the opcode PERSID, which is not allowed"),
        ("a memo that fills memory", "numbers its values up to 2147483647"),
        ("a key of tuples within each other", "keys are no texts"),
        ("a key of shared halves", "keys are no texts"),
        ("a global named by tuples within each other", "a global without a name"),
        ("a text that is made into bytes again and again", "makes more bytes than it has"),
        ("a key that is no Unicode", "surrogates not allowed"),
    ],
)
def test_error_names_the_global_of_a_hostile_pickle(name: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        load_pickle(HOSTILE[name])


def test_pickle_of_more_opcodes_than_any_batch_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recordio.writer.sources.arrays.pickled._MAX_OPCODES", 1000)
    with pytest.raises(SourceError, match="more than 1,000 opcodes"):
        load_pickle(b"\x80\x02" + b"N0" * 500 + b"}.")


def test_honest_pickle_of_any_protocol_is_read() -> None:
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for protocol in (2, 3, 4):
        for value in (array, np.asfortranarray(array)):
            found = load_pickle(pickle.dumps({"x": value, "n": [1, 2.5, None, True, (1,), {"k": b"v"}]}, protocol))
            assert (byte_array(found[b"x"]) == array).all()
            assert found[b"n"][:4] == [1, 2.5, None, True]


@pytest.mark.parametrize("array", [np.arange(3), np.zeros(2, ">u2"), np.array([len], object)])
def test_pickled_array_of_other_dtypes_is_refused(array: npt.NDArray[Any]) -> None:
    with pytest.raises(SourceError):
        byte_array(load_pickle(pickle.dumps({"x": array}, 2))[b"x"])
