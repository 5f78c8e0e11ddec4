"""A small real task for the tests: scikit-learn's digits as an npz with groups, and two models trained on it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

SOURCE = Path(__file__).parent / "small.py"


@dataclass(frozen=True)
class Digits:
    folder: Path

    @property
    def data(self) -> str:
        return f"npz:{self.folder / 'digits.npz'}"

    @property
    def unlabelled(self) -> str:
        return f"npz:{self.folder / 'unlabelled.npz'}"

    def model(self, name: str, options: str = "?channels=1&size=8") -> str:
        return f"py:{SOURCE}:{name}@{self.folder / name}.safetensors{options}"

    @property
    def student(self) -> str:
        return self.model("convolutional")

    @property
    def teacher(self) -> str:
        return self.model("dense")


def make(folder: Path) -> Digits:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pixels = np.round(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(pixels))
    parts = {"train": order[:900], "val": order[900:1350], "test": order[1350:]}
    arrays: dict[str, np.ndarray] = {"class_names": np.array([str(i) for i in range(10)])}
    for key, index in parts.items():
        arrays[f"x_{key}"], arrays[f"y_{key}"] = pixels[index], labels[index].astype(np.int64)
    np.savez(folder / "digits.npz", **arrays)
    np.savez(folder / "unlabelled.npz", **{k: v for k, v in arrays.items() if k not in ("y_train", "y_val")})
    x = torch.from_numpy(arrays["x_train"]).float()[:, None] / 255
    y = torch.from_numpy(arrays["y_train"])
    for name, share in (("convolutional", 300), ("dense", 500), ("linear", 900)):
        save_file(_train(name, x[:share], y[:share]), folder / f"{name}.safetensors")
    return Digits(folder)


def _train(name: str, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
    import small

    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = getattr(small, name)()
        optimiser = torch.optim.Adam(module.parameters(), 3e-3)
        for _ in range(60):
            for part in torch.randperm(len(x)).split(50):
                loss = F.cross_entropy(module(x[part]), y[part])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
    return {key: value.contiguous() for key, value in module.state_dict().items()}
