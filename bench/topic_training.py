"""W5: a training loop that saves its checkpoint every few steps of real computation; hashing in the background competes with it."""
import os

import torch

import inputs
from harness import DAEMON, DRIVE, Row, sync, timed

CHANNELS, SIDE, BATCH = 512, 4, 4


class Trainer:
    """Convolutions, which torch computes on all processors, with as many bytes of weights as the checkpoint is to have, and plain SGD."""

    def __init__(self, megabytes):
        torch.set_num_threads(os.cpu_count())
        torch.manual_seed(5)
        layers = max(1, megabytes * 2**20 // (4 * 9 * CHANNELS**2))
        self.net = torch.nn.Sequential(*[torch.nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False) for _ in range(layers)])
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=1e-3)
        self.x, self.y = torch.randn(BATCH, CHANNELS, SIDE, SIDE), torch.randn(BATCH, CHANNELS, SIDE, SIDE)

    def step(self):
        self.optimizer.zero_grad()
        torch.nn.functional.mse_loss(self.net(self.x), self.y).backward()
        self.optimizer.step()

    def loop(self, folder, saves, steps):
        for i in range(saves):
            if folder:
                torch.save(self.net.state_dict(), folder / f"checkpoint_epoch_{i}.pth")
            for _ in range(steps):
                self.step()


def main(bench):
    size, saves, steps = bench.size(512, 64), bench.size(4, 2), bench.size(6, 3)
    trainer = Trainer(size)
    trainer.loop(None, 1, 2)

    def training(place):
        def case():
            v = place.version()
            inputs.small_files(v, 1.0)
            sync()
            took = timed(trainer.loop, v, saves, steps)
            if hasattr(place, "wait_idle"):
                place.wait_idle()  # what is left to hash would meet the next case
            place.drop(v)
            return took
        return place.name, case

    with bench.all_places() as places:
        cases = [training(p) for p in places] + [("without saving", lambda: timed(trainer.loop, None, saves, steps))]
        bench.measure(Row("w5", f"W5: training of {saves * steps} steps with {saves} checkpoints of {size} MiB", limit={DRIVE: 1.02, DAEMON: 1.02}), cases)
