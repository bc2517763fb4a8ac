"""Regression: a network learns what houses cost from rooms, area, age and district.

    python examples/house_prices.py

The houses are made up, by a formula that the network does not know: with a price p of a square metre in each district,

    price = area * p + 15,000 * rooms - 60,000 * (1 - exp(-age / 30)) + noise,   noise ~ normal(0, 20,000)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import gpu_backprop as gb
from gpu_backprop.viz import curves

DISTRICTS = {"Harbour": 4200.0, "Old Town": 5200.0, "Hillside": 3500.0, "Station": 2800.0, "Meadows": 2300.0}


def make_houses(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    rooms, area, age = rng.integers(1, 8, n), rng.uniform(30, 220, n), rng.uniform(0, 120, n)
    district = rng.integers(0, len(DISTRICTS), n)
    metre = np.array(list(DISTRICTS.values()))[district]
    price = area * metre + 15_000 * rooms - 60_000 * (1 - np.exp(-age / 30)) + rng.normal(0, 20_000, n)
    return np.stack([rooms, area, age, district], axis=1), price[:, None]


class HousePrice(gb.nn.Module):
    def __init__(self, X: np.ndarray):
        self.numbers = gb.nn.Standardize(3).fit(X[:, :3])  # rooms, area, age
        self.district = gb.nn.Embedding(len(DISTRICTS), 4)
        self.network = gb.nn.MLP([3 + 4, 64, 64, 1], activation="gelu")

    def forward(self, x: gb.Tensor) -> gb.Tensor:
        district = self.district(x[:, 3].astype(gb.int64))
        return self.network(gb.concat([self.numbers(x[:, :3]), district], axis=1))


def main(epochs: int = 30, houses: int = 3000, folder: Path = Path("runs/example-house-prices")) -> float:
    gb.manual_seed(0)
    X, y = make_houses(houses)
    n = houses * 4 // 5
    model, price = HousePrice(X[:n]), gb.nn.Standardize(1).fit(y[:n])
    y = price(y).numpy()  # mean 0 and deviation 1, which leaves R2 as it is
    train, test = (X[:n], y[:n]), (X[n:], y[n:])
    kinds = {"loss": "mse", "optimizer": "adam", "lr": 3e-3, "schedule": "onecycle", "metrics": ["r2"]}
    history = gb.train.fit(model, train, epochs=epochs, batch_size=64, validation=test, **kinds)
    r2 = history["val_r2"][-1]
    print(f"R2 on {houses - n} new houses: {r2:.4f}; the noise allows {1 - (20_000 / price.scale.item()) ** 2:.4f}")
    folder.mkdir(parents=True, exist_ok=True)
    curves.training(history, folder / "curves.png", "house prices")
    return r2


if __name__ == "__main__":
    main()
