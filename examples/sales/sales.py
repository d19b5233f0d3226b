"""Daily sales: the series, the windows a model sees, and three small models. Shared by train.py and predict.py.

A window is WINDOW days before the day to forecast. Quantities stand as ratios to the window's mean, so one model fits any
level of sales. Beside the quantity of day i stands what is known of day i + 1 beforehand (promotion, price, weekday), so
the last row tells about the day to forecast.
"""
import csv
import datetime

import numpy as np
import torch
from torch import nn

WINDOW = 28
FEATURES = 6


# ---- data ----

def load_series(path, product, store):
    """(days, quantity, promotion, price) of a product and a store ("all": of every one): quantities are summed over the rows of a
    day, promotions and prices are means."""
    total = {}
    with open(path, newline="", encoding="utf-8") as f:
        for row in csv.DictReader(f):
            if product not in ("all", row["drug"]) or store not in ("all", row["shop"]):
                continue
            day = total.setdefault(row["date"], [0.0, 0.0, 0.0, 0])
            day[0] += float(row["quantity"])
            day[1] += float(row["promotion"])
            day[2] += float(row["price"])
            day[3] += 1
    if not total:
        raise SystemExit(f"{path} has no rows of product {product} and store {store}")
    days = [datetime.date.fromisoformat(d) for d in sorted(total)]
    sums = np.array([total[d] for d in sorted(total)])
    return days, sums[:, 0], sums[:, 1] / sums[:, 3], sums[:, 2] / sums[:, 3]


def window(days, quantity, promotion, price, i):
    """What a model sees to forecast day i (which need not have a quantity yet), and the scale of the quantities."""
    past = quantity[i - WINDOW:i]
    scale = max(past.mean(), 1.0)
    nxt = slice(i - WINDOW + 1, i + 1)
    angle = np.array([2 * np.pi * d.weekday() / 7 for d in days[nxt]])
    sunday = np.array([d.weekday() == 6 for d in days[nxt]])
    x = np.stack((past / scale - 1, promotion[nxt], 5 * (price[nxt] / price[nxt].mean() - 1), np.sin(angle), np.cos(angle), sunday), axis=1)
    return x.astype(np.float32), scale


def windows(series, first, last):
    """Windows of the days first … last - 1 as tensors: x, the target ratio and the scale; and the naive forecast, what the same
    weekday of the week before had."""
    days, quantity, promotion, price = series
    x, scale = zip(*(window(days, quantity, promotion, price, i) for i in range(first, last)))
    scale = np.array(scale, dtype=np.float32)
    target = quantity[first:last].astype(np.float32) / scale - 1
    return torch.from_numpy(np.stack(x)), torch.from_numpy(target), torch.from_numpy(scale), quantity[first - 7:last - 7]


# ---- models ----

class LSTM(nn.Module):
    """mlstm: one recurrent layer, read at the last day."""

    def __init__(self, width=32):
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, width, batch_first=True)
        self.head = nn.Sequential(nn.Linear(width + FEATURES, width), nn.GELU(), nn.Linear(width, 1))

    def forward(self, x):
        return self.head(torch.cat((self.lstm(x)[0][:, -1], x[:, -1]), 1)).squeeze(1)


class Transformer(nn.Module):
    """transformer: encoder layers over the days, with a learned place for each."""

    def __init__(self, width=24, heads=2, layers=1):
        super().__init__()
        self.embed = nn.Linear(FEATURES, width)
        self.place = nn.Parameter(0.1 * torch.randn(WINDOW, width))
        self.layers = nn.Sequential(*(nn.TransformerEncoderLayer(width, heads, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
                                      for _ in range(layers)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1))

    def forward(self, x):
        return self.head(self.layers(self.embed(x) + self.place)[:, -1]).squeeze(1)


class KANLayer(nn.Module):
    """Kolmogorov-Arnold: each edge from an input to an output has a function of its own, a sum of radial bumps on a grid
    beside a smooth basic shape (silu)."""

    def __init__(self, n_in, n_out, bumps=6, reach=2.0):
        super().__init__()
        self.register_buffer("grid", torch.linspace(-reach, reach, bumps))
        self.step = 2 * reach / (bumps - 1)
        self.bumps = nn.Parameter(0.1 * torch.randn(n_out, n_in * bumps) / (n_in * bumps) ** 0.5)
        self.basic = nn.Linear(n_in, n_out)

    def forward(self, x):
        near = torch.exp(-((x.unsqueeze(-1) - self.grid) / self.step) ** 2).flatten(1)
        return nn.functional.linear(near, self.bumps) + self.basic(nn.functional.silu(x))


class KAN(nn.Module):
    """kan: two Kolmogorov-Arnold layers over the window's quantities and what is known of the day to forecast."""

    def __init__(self, width=12):
        super().__init__()
        self.layers = nn.Sequential(KANLayer(WINDOW + FEATURES - 1, width), nn.LayerNorm(width), KANLayer(width, 1))

    def forward(self, x):
        return self.layers(torch.cat((x[:, :, 0], x[:, -1, 1:]), 1)).squeeze(1)


MODELS = {"mlstm": LSTM, "transformer": Transformer, "kan": KAN}
