"""A dataset of real molecules: the first N of the NCI set that comes with RDKit, five properties of each, and its fingerprint.

    make_dataset.py --molecules 500 --out DIRECTORY [--corrupt SEED]

The properties are RDKit's own estimates from the structure: they stand for the measurements of a laboratory. --corrupt mixes them up between the molecules, as
a join on the wrong column does: the files look as they should, and every number is of another molecule.
"""
import argparse
import json
import os

import numpy as np
from rdkit import Chem, RDConfig, RDLogger
from rdkit.Chem import AllChem, Crippen, Descriptors, rdMolDescriptors

PROPERTIES = {
    "activity": lambda m: Descriptors.BertzCT(m) / 100,                      # complexity, by which binders differ from fragments
    "dissociation": lambda m: rdMolDescriptors.CalcNumHBD(m) + rdMolDescriptors.CalcNumHBA(m) / 2,
    "partition": Crippen.MolLogP,                                           # octanol and water
    "metabolism": lambda m: Descriptors.TPSA(m) / 20,                       # polar surface
    "toxicity": lambda m: Descriptors.MolMR(m) / 20,                        # molar refractivity
}
BITS = 256


def molecules(n):
    """The first n that RDKit understands."""
    RDLogger.DisableLog("rdApp.*")
    found = 0
    with open(os.path.join(RDConfig.RDDataDir, "NCI", "first_5K.smi")) as lines:
        for line in lines:
            molecule = Chem.MolFromSmiles(line.split()[0])
            if molecule is None or molecule.GetNumAtoms() < 3:
                continue
            yield line.split()[0], molecule
            found += 1
            if found == n:
                return


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--molecules", type=int, required=True)
    options.add_argument("--out", required=True)
    options.add_argument("--corrupt", type=int, metavar="SEED")
    o = options.parse_args()
    smiles, structures = zip(*molecules(o.molecules))
    features = np.array([list(AllChem.GetMorganFingerprintAsBitVect(m, 2, nBits=BITS)) for m in structures], dtype=np.uint8)
    values = np.array([[measure(m) for measure in PROPERTIES.values()] for m in structures])
    if o.corrupt is not None:
        values = values[np.random.default_rng(o.corrupt).permutation(len(values))]
    with open(os.path.join(o.out, "molecules.csv"), "w") as f:
        f.write("smiles," + ",".join(PROPERTIES) + "\n")
        for name, row in zip(smiles, values):
            f.write('"%s",' % name + ",".join("%.6g" % v for v in row) + "\n")
    np.save(os.path.join(o.out, "features.npy"), features)
    with open(os.path.join(o.out, "metadata.json"), "w") as f:
        json.dump({"description": "NCI molecules with five properties", "source": "RDKit, NCI/first_5K.smi", "maintainer": "the example",
                   "labels": {"rows": len(smiles), "features": BITS, "kind": "assay"}}, f, indent=2)


if __name__ == "__main__":
    main()
