#!/usr/bin/env python3
"""Loads a model from the drive and forecasts the 14 days after the data.

MODEL is a model's path with an alias or a version behind it, as product/P001_all/mlstm/best. Promotions of those days are
not known: none is planned, and the price is that of the last four weeks without one. Each forecast day is read as if it had
happened, to forecast the next.
"""
import argparse
import datetime
import os

import numpy as np
import torch

import sales

HERE = os.path.dirname(os.path.abspath(__file__))


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--drive", required=True, metavar="DIR", help="the mounted drive")
    p.add_argument("--days", type=int, default=14, metavar="N")
    p.add_argument("--data", default=os.path.join(HERE, "daily_sales.csv"), metavar="FILE")
    p.add_argument("model", metavar="MODEL", help="as product/P001_all/mlstm/best")
    a = p.parse_args()
    torch.set_num_threads(1)

    version = os.path.realpath(os.path.join(a.drive, a.model))
    saved = torch.load(os.path.join(version, "model.pth"), map_location="cpu")
    net = sales.MODELS[saved["model"]]()
    net.load_state_dict(saved["state_dict"])
    net.eval()

    days, quantity, promotion, price = sales.load_series(a.data, saved["product"], saved["store"])
    usual_price = price[-sales.WINDOW:][promotion[-sales.WINDOW:].argmin()]
    print(f"{a.model} is {os.path.basename(version)}; product {saved['product']}, store {saved['store']}")
    print("day             forecast   a week before")
    for _ in range(a.days):
        days.append(days[-1] + datetime.timedelta(days=1))
        price = np.append(price, usual_price)
        promotion = np.append(promotion, 0.0)
        x, scale = sales.window(days, quantity, promotion, price, len(quantity))
        with torch.no_grad():
            value = max(0.0, (net(torch.from_numpy(x[None])).item() + 1) * scale)
        quantity = np.append(quantity, value)
        print(f"{days[-1]:%a %Y-%m-%d}  {value:8.0f}   {quantity[-8]:13.0f}")


if __name__ == "__main__":
    main()
