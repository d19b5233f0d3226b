"""W5: a training loop that saves its checkpoint every few steps of real computation; hashing in the background competes with it."""
import torch

import inputs
from harness import DAEMON, DRIVE, Row, sync, timed

BATCH = 64


class Trainer:
    """Linear layers with as many bytes of weights as the checkpoint is to have, and plain SGD."""

    def __init__(self, megabytes):
        width = 2048
        layers = max(1, megabytes * 2**20 // (4 * width * width))
        torch.manual_seed(5)
        self.net = torch.nn.Sequential(*[torch.nn.Linear(width, width, bias=False) for _ in range(layers)])
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=1e-3)
        self.x, self.y = torch.randn(BATCH, width), torch.randn(BATCH, width)

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
    size, saves, steps = bench.size(512, 64), bench.size(4, 2), bench.size(6, 10)
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
