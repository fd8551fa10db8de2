"""A signed dataset: every byte is what its owner has signed, or `verify` with the key says where it is not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import recordio
from recordio import CorruptError, SchemaError, ShardDataset, StorageError
from recordio.format.seal import sealed
from recordio.format.signature import FILE_NAME, Signature, Statement, signed_bytes
from recordio.reader.signing_keys import PrivateKey, PublicKey
from recordio.tools.main import main
from tests.recordio.remote.buckets import Bucket
from tests.recordio.remote.faulty_server import faulty_server
from tests.recordio.remote.stored_dataset import small_dataset

ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
COUNT = 60


class Keys(NamedTuple):
    """PEM files."""

    private: Path
    public: Path
    other: Path


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    found = Keys(folder / "private.pem", folder / "public.pem", folder / "other.pem")
    for private, public in ((found.private, found.public), (folder / "unused.pem", found.other)):
        key = ed25519.Ed25519PrivateKey.generate()
        private.write_bytes(private_pem(key))
        form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        public.write_bytes(key.public_key().public_bytes(*form))
    return found


def private_pem(key: Any, encryption: Any = None) -> bytes:
    none = serialization.NoEncryption()
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption or none
    data: bytes = key.private_bytes(*form)
    return data


def write(folder: Path, seed: int = 0, **options: Any) -> Path:
    rng = np.random.default_rng(seed)
    schema = {"x": recordio.Array("uint8", (40,)), "text": recordio.Text()}
    with recordio.DatasetWriter(folder, schema, shard_bytes=1 << 11, block_bytes=1 << 9, **options) as writer:
        for n in range(COUNT):
            writer.write({"x": rng.integers(0, 256, 40, np.uint8), "text": f"sample {n}"})
    return folder


@pytest.fixture
def signed(tmp_path: Path, keys: Keys) -> Path:
    folder = write(tmp_path / "data")
    recordio.sign(folder, keys.private)
    return folder


def faults(folder: Path, key: Path, level: Any = "full") -> list[str]:
    return [str(problem) for problem in recordio.verify(folder, level, key=key).problems]


def test_what_was_signed_is_proven(signed: Path, keys: Keys) -> None:
    for level in ("full", "quick"):
        report = recordio.verify(signed, level, key=keys.public)  # type: ignore[arg-type]
        assert report.ok
        assert report.signed is not None
        assert report.signed.key == PublicKey(keys.public).fingerprint == PrivateKey(keys.private).fingerprint
        assert report.samples == COUNT
    plain = recordio.verify(signed)
    assert plain.ok
    assert (plain.signed, plain.blocks, plain.nbytes) == (None, report.blocks, report.nbytes)
    assert len(ShardDataset(signed)) == COUNT


def test_every_flipped_bit_of_every_file_is_found(signed: Path, keys: Keys) -> None:
    rng = np.random.default_rng(1)
    for path in sorted(signed.iterdir()):
        data = path.read_bytes()
        places = range(len(data)) if path.suffix == ".json" else rng.choice(len(data), 200, replace=False).tolist()
        for place in places:
            changed = bytearray(data)
            changed[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(changed)
            try:
                assert faults(signed, keys.public) != [], (path.name, place)
            except recordio.RecordIOError:
                assert path.name == "manifest.json"
        path.write_bytes(data)
    assert faults(signed, keys.public) == []


def test_forged_bytes_with_right_checksums_are_found(tmp_path: Path, keys: Keys, signed: Path) -> None:
    forged = write(tmp_path / "forged", seed=1)
    manifests = [(folder / "manifest.json").read_bytes() for folder in (signed, forged)]
    for path in forged.iterdir():
        shutil.copy(path, signed / path.name)
    assert recordio.verify(signed).ok
    (fault,) = faults(signed, keys.public)
    assert "the manifest is not the one that was signed" in fault
    assert faults(signed, keys.public, "quick") == [fault]
    assert manifests[0] != manifests[1]


def test_a_shard_whose_checksums_all_fit_is_found(signed: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """XXH3 does not stop a forger: here it says that everything fits."""
    path = signed / "shard-00001.rio"
    data = bytearray(path.read_bytes())
    data[int(ShardDataset(signed).store.shard(1).index.page_offsets[0, 0])] ^= 1
    path.write_bytes(data)
    monkeypatch.setattr("recordio.reader.page_checks.PageChecks._problems", lambda *_: iter(()))
    (fault,) = faults(signed, keys.public)
    assert "shard-00001.rio" in fault
    assert "altered on purpose" in fault
    assert recordio.verify(signed).ok  # as far as checksums tell


def test_a_statement_of_other_shards_than_its_manifest_has_is_refused(signed: Path, keys: Keys) -> None:
    """Only who has the key can sign one; it says nothing of the shard that it leaves out."""
    statement = Statement.decode(Signature.decode((signed / FILE_NAME).read_bytes()).statement)
    shards = {name: digest for name, digest in statement.shards.items() if name != "shard-00001.rio"}
    text = replace(statement, shards=shards).text()
    signature = PrivateKey(keys.private, None).sign(signed_bytes(text))
    (signed / FILE_NAME).write_bytes(Signature(text, signature).encode())
    (fault,) = faults(signed, keys.public)
    assert "the shards of the manifest are not those that were signed" in fault


@pytest.mark.parametrize(
    "change",
    [{"dataset_id": 1}, {"signed_at": None}, {"manifest": "00"}, {"shards": []}, {"shards": {"a": "x" * 64}}, None],
)
def test_a_statement_that_says_nothing_of_use_is_refused(signed: Path, change: dict[str, Any] | None) -> None:
    body = json.loads(Signature.decode((signed / FILE_NAME).read_bytes()).statement)
    with pytest.raises(CorruptError, match="the signed statement does not"):
        Statement.decode(json.dumps([] if change is None else body | change))


def test_a_dataset_that_is_replaced_while_it_is_signed_is_not(
    tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "data")
    other = (write(tmp_path / "other", seed=1) / "manifest.json").read_bytes()
    monkeypatch.setattr("recordio.proof.sign.source_manifest", lambda end: other)
    with pytest.raises(recordio.DatasetError, match="replaced while it was signed"):
        recordio.sign(folder, keys.private)
    assert not (folder / FILE_NAME).exists()


def test_damage_is_still_located(signed: Path, keys: Keys) -> None:
    path = signed / "shard-00000.rio"
    index = ShardDataset(signed).store.shard(0).index
    data = bytearray(path.read_bytes())
    data[int(index.page_offsets[2, 0])] ^= 1
    path.write_bytes(data)
    (problem,) = recordio.verify(signed, key=keys.public).problems
    assert (problem.place.file, problem.place.block, problem.place.field) == ("shard-00000.rio", 2, "x")


def test_shards_that_are_missing_added_or_swapped(signed: Path, keys: Keys) -> None:
    first, second = signed / "shard-00000.rio", signed / "shard-00001.rio"
    kept = first.read_bytes()
    first.unlink()
    assert any("shard-00000.rio" in fault for fault in faults(signed, keys.public))
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)
    assert {name for name in ("shard-00000", "shard-00001") if name in str(faults(signed, keys.public))} == {
        "shard-00000",
        "shard-00001",
    }
    second.write_bytes(first.read_bytes())
    first.write_bytes(kept)
    recordio.append(signed, write(signed.parent / "more", seed=2))
    assert "the manifest is not the one that was signed" in str(faults(signed, keys.public))
    recordio.sign(signed, keys.private)
    assert faults(signed, keys.public) == []


def test_an_older_dataset_put_back_is_told_by_its_time_alone(signed: Path, keys: Keys, tmp_path: Path) -> None:
    old = shutil.copytree(signed, tmp_path / "old")
    at = recordio.verify(old, "quick", key=keys.public).signed
    write(signed, seed=3, mode="overwrite")
    recordio.sign(signed, keys.private)
    assert faults(signed, keys.public) == []
    shutil.rmtree(signed)
    shutil.copytree(old, signed)
    report = recordio.verify(signed, key=keys.public)
    assert report.ok
    assert report.signed == at  # it was signed, and is whole: only when it was signed says that it is old


def test_another_key_no_signature_and_one_of_another_statement(signed: Path, keys: Keys) -> None:
    assert "is not one of the key" in str(faults(signed, keys.other))
    path = signed / FILE_NAME
    good = Signature.decode(path.read_bytes())
    statement = Statement.decode(good.statement)
    later = Statement(statement.dataset_id, "2099-01-01T00:00:00Z", statement.manifest, statement.shards)
    path.write_bytes(Signature(later.text(), good.signature).encode())
    assert "its statement was altered" in str(faults(signed, keys.public))
    path.unlink()
    assert "the dataset is not signed" in str(faults(signed, keys.public))


def test_a_damaged_dataset_is_not_signed(tmp_path: Path, keys: Keys) -> None:
    folder = write(tmp_path / "data")
    path = folder / "shard-00001.rio"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    with pytest.raises(CorruptError, match="shard-00001"):
        recordio.sign(folder, keys.private)
    assert not (folder / FILE_NAME).exists()


@pytest.mark.parametrize("what", ["replaced", "written to"])
def test_a_dataset_that_changes_meanwhile_is_not_signed(
    what: str, tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "data")
    verify = recordio.verify

    def then_changed(*args: Any, **options: Any) -> Any:
        report = verify(*args, **options)
        if what == "replaced":
            write(folder, seed=9, mode="overwrite")
        else:
            path = folder / "shard-00001.rio"
            data = bytearray(path.read_bytes())
            data[int(ShardDataset(folder).store.shard(1).index.page_offsets[0, 0])] ^= 1
            path.write_bytes(data)
        return report

    monkeypatch.setattr("recordio.proof.sign.verify", then_changed)
    with pytest.raises(recordio.DatasetError, match="changed while it was signed"):
        recordio.sign(folder, keys.private)
    assert not (folder / FILE_NAME).exists()


def test_a_damaged_dataset_with_a_wrong_signature_is_read_all_the_same(signed: Path, keys: Keys) -> None:
    path = signed / "shard-00000.rio"
    data = bytearray(path.read_bytes())
    data[int(ShardDataset(signed).store.shard(0).index.page_offsets[2, 0])] ^= 1
    path.write_bytes(data)
    first, second = recordio.verify(signed, key=keys.other).problems
    assert first.place.file == FILE_NAME
    assert second.place.block == 2


def test_no_message_shows_a_key(signed: Path, keys: Keys) -> None:
    text: Any = keys.private.read_text()
    for key in (text, text[10:].encode()):
        with pytest.raises(SchemaError) as found:
            recordio.sign(signed, key)
        assert text.splitlines()[1][:20] not in str(found.value)
    for wrong in (None, 3, 3.5, [], "a\0b"):
        with pytest.raises(SchemaError, match="a key is the path of its file"):
            recordio.sign(signed, wrong)  # type: ignore[arg-type]


def test_keys_that_are_none(signed: Path, keys: Keys, tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="not a private key of Ed25519"):
        recordio.sign(signed, keys.public)
    with pytest.raises(SchemaError, match="not a public key of Ed25519"):
        recordio.verify(signed, key=keys.private)
    with pytest.raises(recordio.StorageError, match="the key cannot be read"):
        recordio.verify(signed, key=tmp_path / "none.pem")
    ec = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ec")
    with pytest.raises(SchemaError, match="not a private key of Ed25519, but"):
        recordio.sign(signed, private_pem(ec.generate_private_key(ec.SECP256R1())))
    encrypted = private_pem(ed25519.Ed25519PrivateKey.generate(), serialization.BestAvailableEncryption(b"word"))
    with pytest.raises(SchemaError, match="the key is encrypted: give its password"):
        recordio.sign(signed, encrypted)
    recordio.sign(signed, encrypted, password=b"word")
    with pytest.raises(SchemaError, match="the key is not encrypted"):
        recordio.sign(signed, keys.private, password=b"word")
    with pytest.raises(SchemaError, match="a signature is of every byte"):
        recordio.verify(signed, key=keys.public, sample=3)


def test_keys_of_ssh(signed: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    form = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    recordio.sign(signed, key.private_bytes(*form))
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    assert recordio.verify(signed, key=public).ok


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed: apt-get install openssl")
def test_keys_of_openssl(signed: Path, tmp_path: Path) -> None:
    run = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", "private.pem"]
    subprocess.run(run, cwd=tmp_path, check=True, capture_output=True)
    run = ["openssl", "pkey", "-in", "private.pem", "-pubout", "-out", "public.pem"]
    subprocess.run(run, cwd=tmp_path, check=True, capture_output=True)
    recordio.sign(signed, tmp_path / "private.pem")
    assert faults(signed, tmp_path / "public.pem") == []


def test_the_command_line(tmp_path: Path, keys: Keys, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "data")
    assert main(["verify", str(folder), "--key", str(keys.public)]) == 1
    assert "the dataset is not signed" in capsys.readouterr().out
    assert main(["sign", str(folder), "--key", str(keys.private)]) == 0
    assert "signed the manifest and " in capsys.readouterr().out
    assert main(["verify", str(folder), "--key", str(keys.public)]) == 0
    out = capsys.readouterr().out
    assert "every byte is what was signed at 20" in out
    assert PublicKey(keys.public).fingerprint in out
    assert main(["verify", str(folder), "--key", str(keys.public), "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)["datasets"]
    assert set(facts["signed"]) == {"key", "at"}
    assert main(["verify", str(folder), "--key", str(keys.private)]) == 2
    assert "error: not a public key" in capsys.readouterr().err
    assert main(["sign", str(folder), "--key", str(keys.private), "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)["signed"]
    assert sorted(facts["shards"]) == sorted(path.name for path in folder.glob("*.rio"))


def test_in_a_bucket_and_by_a_copy(signed: Path, keys: Keys, bucket: Bucket, tmp_path: Path) -> None:
    url = bucket.url(f"signed/{tmp_path.name}")
    recordio.copy(signed, url, storage=bucket.storage)
    assert recordio.verify(url, key=keys.public, storage=bucket.storage).ok
    recordio.copy(url, tmp_path / "back", storage=bucket.storage)
    assert sorted(os.listdir(tmp_path / "back")) == sorted(os.listdir(signed))
    assert faults(tmp_path / "back", keys.public) == []
    other = ed25519.Ed25519PrivateKey.generate()
    statement = recordio.sign(url, private_pem(other), storage=bucket.storage)
    assert len(statement.shards) == len(list(signed.glob("*.rio")))
    assert not recordio.verify(url, key=keys.public, storage=bucket.storage).ok


@pytest.mark.parametrize("name", ["format", "version", "statement", "signature"])
@pytest.mark.parametrize("value", [None, 0, "", [], {}, "ff", -1, "\ud800", "{}", '{"shards": []}', 2**70])
def test_a_sealed_signature_of_anything_is_a_fault(signed: Path, keys: Keys, name: str, value: Any) -> None:
    body = json.loads((signed / FILE_NAME).read_bytes()) | {name: value}
    del body["checksum"]
    (signed / FILE_NAME).write_bytes(sealed((json.dumps(body)[:-1] + ",\n").encode()))
    assert faults(signed, keys.public, "quick") != []


def test_a_store_that_cannot_be_written_is_noticed_before_anything_is_read(tmp_path: Path, keys: Keys) -> None:
    stored = small_dataset(tmp_path / "data")
    with faulty_server(stored.below("data")) as server, pytest.raises(StorageError, match="cannot write to"):
        recordio.sign(server.dataset, keys.private, storage={"retry_seconds": 1.0})
    assert not any(request.name.endswith(".rio") for request in server.requests)
