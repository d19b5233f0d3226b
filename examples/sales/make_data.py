#!/usr/bin/env python3
"""Makes daily_sales.csv: the sales of a small pharmacy chain, 5 drugs in 4 shops over 420 days.

Standard library only, and seeded: the same file comes out everywhere. Demand is a level for the drug and the shop, times a
slow trend, a week, a year, a promotion that lifts sales (and a small dip after it), times noise that the days share a little.
"""
import csv
import datetime
import math
import os
import random
import sys

FIRST_DAY = datetime.date(2024, 3, 1)
DAYS = 420

# level: units a day in an average shop; trend: growth a year; summer: swing of the year (minus: a winter drug); lift: by a promotion
DRUGS = {
    "P001": dict(level=46.0, trend=0.25, summer=-0.18, lift=0.75, price=12.90),
    "P002": dict(level=31.0, trend=-0.10, summer=0.25, lift=0.55, price=8.40),
    "P003": dict(level=18.0, trend=0.40, summer=0.05, lift=0.95, price=24.50),
    "P004": dict(level=64.0, trend=0.05, summer=-0.30, lift=0.40, price=5.20),
    "P005": dict(level=12.0, trend=0.15, summer=0.10, lift=0.60, price=39.00),
}
# size: against the average shop; week: Monday to Sunday
SHOPS = {
    "S001": dict(size=1.35, week=(1.10, 0.98, 0.95, 0.98, 1.15, 1.30, 0.55)),
    "S002": dict(size=0.80, week=(1.20, 1.10, 1.05, 1.05, 1.20, 0.95, 0.45)),
    "S003": dict(size=1.05, week=(0.90, 0.85, 0.88, 0.95, 1.15, 1.45, 0.85)),
    "S004": dict(size=0.70, week=(1.05, 1.00, 1.00, 1.00, 1.05, 1.20, 0.70)),
}


def promotions(rng):
    """The days of a drug's promotions, the same in all shops: some days long, every few weeks."""
    days, day = set(), rng.randint(5, 25)
    while day < DAYS:
        length = rng.choice((4, 5, 7))
        days.update(range(day, min(day + length, DAYS)))
        day += length + rng.randint(12, 34)
    return days


def series(rng, drug, shop, promoted):
    """Quantity, price and promotion of each day of one drug in one shop."""
    mood = 0.0
    for i in range(DAYS):
        day = FIRST_DAY + datetime.timedelta(days=i)
        mood = 0.6 * mood + rng.gauss(0.0, 0.05)
        demand = drug["level"] * shop["size"] * shop["week"][day.weekday()]
        demand *= 1.0 + drug["trend"] * i / 365.0
        demand *= 1.0 + drug["summer"] * math.cos(2.0 * math.pi * (day.timetuple().tm_yday - 196) / 365.0)
        if i in promoted:
            demand *= 1.0 + drug["lift"]
        elif i - 1 in promoted or i - 2 in promoted:
            demand *= 0.85
        quantity = max(0, round(demand * math.exp(mood) + rng.gauss(0.0, 0.5 * math.sqrt(demand))))
        price = drug["price"] * (0.8 if i in promoted else 1.0) * (1.03 if i >= 306 else 1.0)
        yield day, quantity, price, int(i in promoted)


def main():
    rng = random.Random(20240301)
    path = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "daily_sales.csv")
    rows = []
    for drug in DRUGS:
        promoted = promotions(rng)
        for shop in SHOPS:
            for day, quantity, price, promotion in series(rng, DRUGS[drug], SHOPS[shop], promoted):
                rows.append((day.isoformat(), drug, shop, quantity, "%.2f" % price, promotion))
    with open(path, "w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(("date", "drug", "shop", "quantity", "price", "promotion"))
        writer.writerows(sorted(rows))


if __name__ == "__main__":
    main()
