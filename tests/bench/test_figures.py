"""What a line of the table says of its samples."""

from __future__ import annotations

import pytest

from tests.bench.figures import Figure


@pytest.mark.parametrize(("count", "worst"), [(1, 1), (40, 40), (99, 99), (100, 99), (1000, 990)])
def test_the_worst_is_the_99th_percentile_or_the_slowest_of_fewer(count: int, worst: int) -> None:
    samples = [float(each) for each in range(count, 0, -1)]
    assert Figure(name="start", unit="ms", samples=samples).worst == worst
