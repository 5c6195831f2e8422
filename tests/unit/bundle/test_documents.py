"""Manifest and signature survive the way to JSON and back, and refuse what they would not write."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciclo_bundle import BundleCorrupt, Field, FileDigest, Manifest, Signature
from ciclo_bundle.digest import canonical_json, sha256
from ciclo_bundle.manifest import decode_manifest, encode_manifest
from ciclo_bundle.signature import decode_signature, encode_signature

from .conftest import SIGNATURE

names = st.from_regex(r"[a-z_][a-z0-9_]{0,11}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
digests = st.binary(max_size=4).map(sha256)
files = st.lists(
    st.builds(FileDigest, names, digests, st.integers(0, 2**40)), unique_by=lambda f: f.path
).map(lambda found: tuple(sorted(found, key=lambda f: f.path)))
manifests = st.builds(
    Manifest,
    model=texts,
    seed=st.integers(0, 2**63),
    created_event_time_us=st.integers(-(2**63), 2**63),
    newest_event_time_us=st.integers(-(2**63), 2**63),
    dataset_digest=digests,
    signature_digest=digests,
    code_digest=texts,
    lock_digest=texts,
    parents=st.lists(digests, max_size=3).map(tuple),
    version=texts,
    files=files,
)


@st.composite
def signatures(draw: st.DrawFn) -> Signature:
    columns = draw(st.lists(names, min_size=2, max_size=6, unique=True))
    datatypes = st.sampled_from(["string", "float32", "int64", "timestamp"])
    roles = st.sampled_from(["id", "entity", "request", "feature"])
    inputs = tuple(
        Field(name, draw(datatypes), draw(roles), draw(texts), draw(texts), draw(texts))
        for name in columns[1:]
    )
    return Signature(inputs, (Field(columns[0], "float32", "output", draw(texts)),))


@given(manifests)
def test_a_manifest_comes_back_as_it_was_written(manifest: Manifest) -> None:
    assert decode_manifest(encode_manifest(manifest)) == manifest


@given(signatures())
def test_a_signature_comes_back_as_it_was_written(signature: Signature) -> None:
    assert decode_signature(encode_signature(signature)) == signature


@given(st.binary(max_size=60))
def test_bytes_that_are_no_document_are_refused_as_corrupt(content: bytes) -> None:
    for decode in (decode_manifest, decode_signature):
        with pytest.raises(BundleCorrupt):
            decode(content)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "ciclo.bundle/v2"},
        {"seed": "7"},
        {"surprise": 1},
        {"files": [{"path": "a", "sha256": "md5:1", "size_bytes": 1}]},
        {"files": [{"path": p, "sha256": sha256(b""), "size_bytes": 0} for p in ("b", "a")]},
        {"files": [{"path": "a", "sha256": sha256(b""), "size_bytes": 0}] * 2},
        {"files": [{"path": "manifest.json", "sha256": sha256(b""), "size_bytes": 0}]},
    ],
)
def test_a_manifest_that_we_would_not_write_is_refused(change: dict[str, object]) -> None:
    manifest = Manifest("m", 7, 1, 1, sha256(b"d"), sha256(b"s"))
    document = {**json.loads(encode_manifest(manifest)), **change}

    with pytest.raises(BundleCorrupt):
        decode_manifest(canonical_json(document))


def test_a_meaning_is_prose_and_does_not_change_the_question() -> None:
    field = SIGNATURE.inputs[1]
    explained = replace(SIGNATURE, inputs=(SIGNATURE.inputs[0], replace(field, meaning="airport")))
    bare = replace(SIGNATURE, inputs=SIGNATURE.inputs[:2])

    assert explained.digest == bare.digest
    assert encode_signature(explained) != encode_signature(bare)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "x"},
        {"datatype": "int64"},
        {"role": "request"},
        {"view": "v"},
        {"view_digest": "2"},
    ],
)
def test_anything_else_of_a_field_changes_the_question(change: dict[str, str]) -> None:
    changed = replace(SIGNATURE, inputs=(replace(SIGNATURE.inputs[2], **change),))

    assert changed.digest != replace(SIGNATURE, inputs=SIGNATURE.inputs[2:3]).digest


def test_the_order_of_inputs_is_part_of_the_question() -> None:
    assert replace(SIGNATURE, inputs=SIGNATURE.inputs[::-1]).digest != SIGNATURE.digest


def test_a_signature_that_was_edited_by_hand_is_refused() -> None:
    edited = encode_signature(SIGNATURE).replace(b'"temp"', b'"tmp"')

    with pytest.raises(BundleCorrupt, match="digest"):
        decode_signature(edited)


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ([], [Field("y", "float32", "output")]),
        ([Field("x", "float32")], []),
        ([Field("x", "float32"), Field("x", "int64")], [Field("y", "float32", "output")]),
        ([Field("x", "float32")], [Field("y", "float32")]),
        ([Field("x", "float32", "output")], [Field("y", "float32", "output")]),
    ],
)
def test_a_signature_without_sense_cannot_be_made(inputs: list, outputs: list) -> None:
    with pytest.raises(ValueError, match="signature"):
        Signature(tuple(inputs), tuple(outputs))


@pytest.mark.parametrize(
    "wrong", [{"name": "a b"}, {"name": ""}, {"datatype": "float64"}, {"role": "label"}]
)
def test_a_field_says_what_is_wrong_with_it(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="field"):
        Field(**{"name": "x", "datatype": "string", **wrong})
