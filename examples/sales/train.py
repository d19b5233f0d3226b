#!/usr/bin/env python3
"""Trains one model on daily_sales.csv and saves it under DRIVE/…/latest/.

There is nothing of MintFS in here: directories are made by os.makedirs, files are saved by torch.save, matplotlib and json.
On a MintFS drive `latest` is this run's own new version, and it commits itself when this program ends well.
"""
import argparse
import copy
import json
import os
import sys
import time

import matplotlib
import numpy as np
import torch

import sales

matplotlib.use("Agg")
HERE = os.path.dirname(os.path.abspath(__file__))
VALIDATION_DAYS = 42
TEST_DAYS = 56


def parse_arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--drive", required=True, metavar="DIR", help="the mounted drive (or any directory)")
    p.add_argument("--mode", choices=("product", "store", "global"), default="product")
    p.add_argument("--product", default="all", metavar="ID", help="a drug, as P001 (default: all)")
    p.add_argument("--store", default="all", metavar="ID", help="a shop, as S001 (default: all)")
    p.add_argument("--model", choices=sorted(sales.MODELS), default="mlstm")
    p.add_argument("--epochs", type=int, default=24, metavar="N")
    p.add_argument("--seed", type=int, default=1, metavar="N")
    p.add_argument("--data", default=os.path.join(HERE, "daily_sales.csv"), metavar="FILE")
    a = p.parse_args()
    if a.epochs < 1:
        p.error("--epochs must be 1 or more")
    if a.mode == "product" and a.product == "all" or a.mode == "store" and a.store == "all":
        p.error(f"--mode {a.mode} needs --{a.mode} ID")
    if a.mode == "global" and (a.product, a.store) != ("all", "all"):
        p.error("--mode global covers every product and store: it takes neither --product nor --store")
    return a


def model_path(a):
    if a.mode == "product":
        return f"product/{a.product}_{a.store}/{a.model}"
    if a.mode == "store":
        return f"store/{a.store}_{a.product}/{a.model}"
    return f"global/all/sum/{a.model}"


def forecast(net, x, scale):
    net.eval()
    with torch.no_grad():
        return ((net(x) + 1) * scale).numpy().astype(np.float64)


def metrics_of(actual, predicted):
    error = predicted - actual
    spread = np.sum((actual - actual.mean()) ** 2)
    values = {"rmse": np.sqrt(np.mean(error ** 2)), "mae": np.mean(np.abs(error)),
              "mape": 100 * np.mean(np.abs(error) / np.maximum(actual, 1.0)), "r2": 1 - np.sum(error ** 2) / spread}
    return {name: round(float(value), 4) for name, value in values.items()}


def save_curve(path, train_loss, val_loss):
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(6, 4))
    axes.plot(train_loss, label="training")
    axes.plot(val_loss, label="validation")
    axes.set(xlabel="epoch", ylabel="loss", yscale="log")
    axes.legend()
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def train(a, series, latest):
    """Trains and saves checkpoints on the way. The net with its best weights, what a checkpoint holds beside them, and the losses."""
    end = len(series[0]) - TEST_DAYS
    x, y, _, _ = sales.windows(series, sales.WINDOW, end - VALIDATION_DAYS)
    val_x, val_y, _, _ = sales.windows(series, end - VALIDATION_DAYS, end)
    net = sales.MODELS[a.model]()
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, a.epochs, eta_min=2e-4)
    about = {"model": a.model, "mode": a.mode, "product": a.product, "store": a.store, "data": os.path.basename(a.data)}
    best, best_state, train_loss, val_loss = float("inf"), None, [], []
    for epoch in range(1, a.epochs + 1):
        net.train()
        total = 0.0
        for batch in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            loss = torch.nn.functional.huber_loss(net(x[batch]), y[batch], delta=0.3)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            total += loss.item() * len(batch)
        schedule.step()
        net.eval()
        with torch.no_grad():
            val_loss.append(torch.nn.functional.huber_loss(net(val_x), val_y, delta=0.3).item())
        train_loss.append(total / len(x))
        if val_loss[-1] < best:
            best, best_state = val_loss[-1], copy.deepcopy(net.state_dict())
            torch.save({"state_dict": best_state, "epoch": epoch, **about}, os.path.join(latest, "checkpoint_best.pth"))
        if epoch % max(1, a.epochs // 4) == 0:
            torch.save({"state_dict": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch, **about},
                       os.path.join(latest, f"checkpoint_epoch_{epoch}.pth"))
    if best_state is None:
        sys.exit("the loss is not a number: nothing was learnt")
    net.load_state_dict(best_state)
    return net, about, train_loss, val_loss


def main():
    a = parse_arguments()
    started = time.time()
    torch.manual_seed(a.seed)
    torch.set_num_threads(1)
    series = sales.load_series(a.data, a.product, a.store)

    model_dir = os.path.join(a.drive, model_path(a))
    os.makedirs(model_dir, exist_ok=True)
    latest = os.path.join(model_dir, "latest")
    os.makedirs(latest, exist_ok=True)
    version = os.path.basename(os.path.realpath(latest))
    print(f"training {model_path(a)} {version}", flush=True)

    net, about, train_loss, val_loss = train(a, series, latest)
    days, quantity = series[0], series[1]
    first = len(days) - TEST_DAYS
    x, _, scale, last_week = sales.windows(series, first, len(days))
    metrics = metrics_of(quantity[first:], forecast(net, x, scale.numpy()))
    naive = metrics_of(quantity[first:], last_week)

    save_curve(os.path.join(latest, "loss_curve.png"), train_loss, val_loss)
    torch.save({"state_dict": net.state_dict(), **about}, os.path.join(latest, "model.pth"))
    with open(os.path.join(latest, "metadata.json"), "w", encoding="utf-8") as f:
        json.dump({**about, "epochs": a.epochs, "seed": a.seed, "parameters": sum(p.numel() for p in net.parameters()),
                   "days": {"first": str(days[0]), "last": str(days[-1]), "test": TEST_DAYS},
                   "loss": {"first": round(train_loss[0], 5), "last": round(train_loss[-1], 5), "validation": round(min(val_loss), 5)},
                   "metrics": metrics, "naive": naive, "seconds": round(time.time() - started, 2)}, f, indent=2)
        f.write("\n")
    print(f"trained  {model_path(a)} {version}: rmse {metrics['rmse']:.1f} (last week again: {naive['rmse']:.1f}), r2 {metrics['r2']:.2f}, "
          f"{time.time() - started:.1f} s")


if __name__ == "__main__":
    main()
