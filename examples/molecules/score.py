"""Scores a model of one property on a dataset: score.py --data DATASET --model VERSION --target PROPERTY --out RESULT"""
import argparse
import json
import os

import numpy as np

import molecules

options = argparse.ArgumentParser()
options.add_argument("--data", required=True)
options.add_argument("--model", required=True)
options.add_argument("--target", required=True)
options.add_argument("--out", required=True)
o = options.parse_args()

_, test = molecules.read(o.data, o.target)
with np.load(os.path.join(o.model, "model.npz")) as model:
    result = molecules.quality(model, *test)
with open(o.out, "w") as f:
    json.dump(result, f)
print("%s: r2 %.3f" % (o.target, result["r2"]))
