"""Batches hold every call once, in order, of one kind, within their limit."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ciclo.tensors import unpack_tensor
from ciclo_gateway.domain.packing import Answer, Version, pack
from ciclo_gateway.wire import events, inference

VERSIONS = [Version("flights", 1, "sha256:a", "sha256:s"), Version("flights", 2)]


def answer(number: int, rows: int, *, is_ok: bool = True) -> Answer:
    values = np.arange(rows, dtype=np.float32) + number
    texts = np.array([f"F{number}-{row}" for row in range(rows)], dtype=object)
    return Answer(
        prediction_id=f"id-{number}",
        client_id=f"client-{number}",
        key="",
        event_time_us=number - 50,
        receive_time_us=number,
        duration_us=1,
        status=0 if is_ok else 3,
        inputs=(inference.pack("flight", texts), inference.pack("x", values)) if rows else (),
        outputs=(inference.pack("late", values * 2),) if rows and is_ok else (),
        omission="" if rows else "REQUEST_TOO_LARGE",
    )


captured = st.lists(
    st.tuples(
        st.sampled_from(VERSIONS),
        st.sampled_from(["champion", "challenger"]),
        st.tuples(st.integers(0, 3), st.booleans()),
    ),
    max_size=30,
).map(
    lambda found: [
        (version, variant, answer(number, rows, is_ok=is_ok))
        for number, (version, variant, (rows, is_ok)) in enumerate(found)
    ]
)


@given(captured, st.integers(100, 2_000))
def test_every_call_is_in_one_batch_in_order(
    found: list[tuple[Version, str, Answer]], limit: int
) -> None:
    batches = pack(found, limit)
    assert batches == pack(found, limit)
    packed = [(b.kind[0], b.kind[1], a) for b in batches for a in b.answers]
    assert sorted(packed, key=lambda p: p[2].receive_time_us) == found
    for batch in batches:
        times = [a.receive_time_us for a in batch.answers]
        assert times == sorted(times)
        assert batch.size_bytes <= limit or len(batch.answers) == 1


@given(captured)
def test_a_batch_becomes_a_message_whose_columns_fit_together(
    found: list[tuple[Version, str, Answer]],
) -> None:
    for batch in pack(found):
        version, variant, *_ = batch.kind
        message = events.predictions_served("batch", version, variant, batch.answers)
        counts = list(message.row_counts)
        assert len(message.prediction_ids) == len(message.omissions) == len(counts)
        assert [bool(o) for o in message.omissions] == [not rows for rows in counts]
        for tensor in message.inputs:
            assert len(unpack_tensor(tensor)) == sum(counts)
        answered = [r for r, status in zip(counts, message.status_codes, strict=True) if not status]
        for tensor in message.outputs:
            assert len(unpack_tensor(tensor)) == sum(answered)
        record = events.record_of(message, 7)
        assert record.prediction_ids == tuple(a.prediction_id for a in batch.answers)
        assert all(inference.unpack(t).shape[0] == sum(counts) for t in record.inputs)
