"""Image classification: a network learns to read handwritten digits.

    python examples/digits.py

Forward layer by layer, cross-entropy against the labels, the chain rule back to every weight, an update by Adam; batch
by batch, epoch by epoch. Here the loop is written out; `gb.train.fit` (see house_prices.py) has one ready.
"""

from __future__ import annotations

from pathlib import Path

import gpu_backprop as gb


def main(epochs: int = 20, folder: Path = Path("runs/example-digits")) -> float:
    gb.manual_seed(0)
    device = gb.default_device()  # the GPU if there is one
    X, y = gb.data.load_digits()  # 1,797 images of 8x8 pixels
    train, test = gb.data.stratified_split(X, y, test=0.2)
    batches = gb.data.DataLoader(gb.data.TensorDataset(*train, device=device), batch_size=64, shuffle=True)
    x_test, y_test = gb.data.TensorDataset(*test, device=device).tensors

    model = gb.nn.Sequential(
        gb.nn.Linear(64, 256), gb.nn.ReLU(),
        gb.nn.Linear(256, 128), gb.nn.ReLU(),
        gb.nn.Linear(128, 10),
    ).to(device)  # fmt: skip
    criterion = gb.nn.CrossEntropyLoss()
    optimizer = gb.optim.Adam(model.parameters(), lr=0.001)

    for epoch in range(1, epochs + 1):
        total = gb.zeros((), device=device)  # summed on the device: nobody waits for single steps
        for x, labels in batches:
            loss = criterion(model(x), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
        with gb.no_grad():
            accuracy = (model(x_test).argmax(axis=1) == y_test).astype(gb.float32).mean().item()
        print(f"epoch {epoch:2}  loss {total.item() / len(batches):.4f}  test accuracy {accuracy:.4f}")

    folder.mkdir(parents=True, exist_ok=True)
    gb.save(model, folder / "model.safetensors")
    return accuracy


if __name__ == "__main__":
    main()
