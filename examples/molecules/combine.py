"""Combines what the other nodes found, by the shares that the model names: combine.py --model VERSION --results DIRECTORY --out RESULT"""
import argparse
import json
import os

options = argparse.ArgumentParser()
options.add_argument("--model", required=True)
options.add_argument("--results", required=True)
options.add_argument("--out", required=True)
o = options.parse_args()

with open(os.path.join(o.model, "model.json")) as f:
    shares = json.load(f)
total = 0.0
for node, share in shares.items():
    with open(os.path.join(o.results, node + ".json")) as f:
        total += share * json.load(f)["r2"]
with open(o.out, "w") as f:
    json.dump({"r2": total}, f)
print("combined: %.3f" % total)
