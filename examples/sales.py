"""Analyse a CSV of sales, month by month, and write a report: an ordinary program.

    python3 sales.py sales.csv report.json

It knows nothing of Longshore, and needs nothing but Python. Each month is printed as soon as it has
been worked out, with an interval for the mean order: the 5th to 95th percentile of the means of
random samples of its orders (a bootstrap), which is what takes the time.
"""

from __future__ import annotations

import csv
import json
import random
import sys
from collections import Counter, defaultdict
from pathlib import Path

SAMPLES = 1500


def main(source: str, target: str) -> None:
    months: dict[str, list[float]] = defaultdict(list)
    regions: Counter[str] = Counter()
    products: Counter[str] = Counter()
    with Path(source).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            value = int(row["quantity"]) * float(row["unit_price"])
            months[row["date"][:7]].append(value)
            regions[row["region"]] += round(value * 100)
            products[row["product"]] += round(value * 100)

    dice = random.Random(7)  # the same report every time
    highest = max(sum(orders) for orders in months.values())
    for month, orders in sorted(months.items()):
        low, high = interval(orders, dice)
        bar = "#" * round(24 * sum(orders) / highest)
        mean = sum(orders) / len(orders)
        figures = (
            f"{len(orders):4} orders  {sum(orders):10,.0f}  mean {mean:4.0f} ({low:.0f}-{high:.0f})"
        )
        print(f"{month}  {figures:52} {bar}", flush=True)

    report = {
        "orders": sum(map(len, months.values())),
        "revenue_cents": sum(regions.values()),
        "regions": dict(regions.most_common()),
        "best_product": products.most_common(1)[0][0],
        "best_month": max(months, key=lambda month: sum(months[month])),
    }
    Path(target).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"best month {report['best_month']}, best product {report['best_product']}", flush=True)


def interval(orders: list[float], dice: random.Random) -> tuple[float, float]:
    """The 5th and the 95th percentile of the means of samples with replacement."""
    size = len(orders)
    means = sorted(sum(dice.choices(orders, k=size)) / size for _ in range(SAMPLES))
    return means[SAMPLES // 20], means[-SAMPLES // 20]


if __name__ == "__main__":
    main(*sys.argv[1:])
