"""Writes the files in tfrecord/ with TensorFlow, and beside them what TensorFlow reads from them.

    python make_tfrecord.py

Written with tensorflow-cpu 2.21.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tensorflow as tf
from plain_json import to_json

OUT = Path(__file__).parent / "tfrecord"
Feature = tf.train.Feature


def strings(*values: bytes) -> Feature:
    return Feature(bytes_list=tf.train.BytesList(value=values))


def ints(*values: int) -> Feature:
    return Feature(int64_list=tf.train.Int64List(value=values))


def floats(*values: float) -> Feature:
    return Feature(float_list=tf.train.FloatList(value=values))


def picture(k: int) -> bytes:
    pixels = np.full((4, 5 + k, 3), 40 * k, np.uint8)
    return bytes(tf.io.encode_png(pixels).numpy())


def example(k: int) -> tf.train.Example:
    features = {
        "image/encoded": strings(picture(k)),
        "image/class/label": ints(k),
        "image/class/text": strings(f"Hündin {k}".encode()),
        "bbox": floats(0.25, 0.5, 1 / 3, 1.0),
        "points": floats(*np.arange(k) / 7),
        "ids": ints(*range(-k, 60 * k, 5)),
        "extremes": ints(-(1 << 63), (1 << 63) - 1),
        "words": strings(*[b"word"] * k),
        "blob": strings(bytes([k, 0, 255])),
        "no values": floats(),
        "no kind": Feature(),
    }
    if k % 2:
        features["rating"] = floats(k / 10)
    return tf.train.Example(features=tf.train.Features(feature=features))


def values(feature: Feature) -> list[object] | None:
    kind = feature.WhichOneof("kind")
    return None if kind is None else list(getattr(feature, kind).value)


def steps(*features: Feature) -> tf.train.FeatureList:
    return tf.train.FeatureList(feature=features)


def sequence(k: int) -> tf.train.SequenceExample:
    return tf.train.SequenceExample(
        context=tf.train.Features(feature={"id": ints(k)}),
        feature_lists=tf.train.FeatureLists(
            feature_list={
                "frames": steps(*[strings(picture(j)) for j in range(k)]),
                "labels": steps(*[ints(j) for j in range(k)]),
                "vectors": steps(*[floats(j, j / 3) for j in range(k)]),
                "tokens": steps(*[ints(*range(j)) for j in range(k)]),
                "names": steps(*[strings(b"a", b"b") for _ in range(k)]),
            }
        ),
    )


def write(name: str, records: list[bytes], compression: str = "") -> None:
    with tf.io.TFRecordWriter(str(OUT / name), options=compression) as writer:
        for record in records:
            writer.write(record)


def read_features(name: str, compression: str = "") -> list[dict[str, object]]:
    found = [tf.train.Example.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(OUT / name), compression)]
    return [{key: values(value) for key, value in one.features.feature.items()} for one in found]


def read_lists(name: str) -> list[dict[str, object]]:
    found = [tf.train.SequenceExample.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(OUT / name))]
    return [
        {key: [values(step) for step in one.feature] for key, one in record.feature_lists.feature_list.items()}
        for record in found
    ]


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    plain, packed = "dogs-train.tfrecord-00000-of-00002", "dogs-train.tfrecord-00001-of-00002"
    write(plain, [example(k).SerializeToString() for k in range(4)])
    write(packed, [example(k).SerializeToString() for k in range(4, 7)], "GZIP")
    write("sequences.tfrecord", [sequence(k).SerializeToString() for k in range(4)])
    expected = {
        "train": read_features(plain) + read_features(packed, "GZIP"),
        "sequences": read_lists("sequences.tfrecord"),
    }
    (OUT / "expected.json").write_text(json.dumps(to_json(expected), indent=1) + "\n")
