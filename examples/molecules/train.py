"""Trains a model of one property: train.py --data DATASET --target PROPERTY --out VERSION"""
import argparse
import json
import os

import numpy as np

import molecules

options = argparse.ArgumentParser()
options.add_argument("--data", required=True)
options.add_argument("--target", required=True)
options.add_argument("--out", required=True)
o = options.parse_args()

train, test = molecules.read(o.data, o.target)
model = molecules.fit(*train)
np.savez(os.path.join(o.out, "model.npz"), **model)
metrics = molecules.quality(model, *test)
with open(os.path.join(o.out, "metadata.json"), "w") as f:
    json.dump({"metrics": metrics, "best": {"metric": "r2", "mode": "max"}, "params": {"penalty": 5.0, "target": o.target}}, f, indent=2)
print("%s: r2 %.3f on %d molecules" % (o.target, metrics["r2"], len(test[1])))
