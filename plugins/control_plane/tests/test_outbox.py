"""What an outbox promises, against a model of a worker that may forget and repeat itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from longshore_server.model import Queued
from longshore_server.outbox import Outbox


def queued(seq, size=1):
    return Queued(executor_id="e", seq=seq, container_id=str(seq), adds=True, payload=bytes(size))


def test_a_reply_is_capped_and_has_at_least_one_command():
    box = Outbox(1)
    box.extend([queued(1, 50), queued(2, 50), queued(3, 500)])
    assert [len(one) for one in box.batch(120)] == [50, 50]
    box.acknowledge(2)
    assert [len(one) for one in box.batch(120)] == [500]


def test_what_was_not_delivered_cannot_be_acknowledged():
    box = Outbox(1)
    box.extend([queued(1), queued(2)])
    assert box.acknowledge(2) == []
    assert len(box.batch()) == 2
    assert [one.seq for one in box.acknowledge(2)] == [1, 2]


@given(st.lists(st.sampled_from(["add", "poll", "ack"]) | st.integers(0, 6), max_size=30))
def test_nothing_is_lost_before_it_is_acknowledged(moves):
    box, added, acked, delivered = Outbox(1), 0, 0, 0
    for move in moves:
        match move:
            case "add":
                added += 1
                box.extend([queued(added, added)])
            case "poll":
                sizes = [len(one) for one in box.batch()]
                assert sizes == list(range(acked + 1, added + 1))
                delivered = added
            case "ack":
                box.acknowledge(delivered)
                acked = delivered
            case number:
                box.acknowledge(number)
                if number <= delivered:
                    acked = max(acked, number)
