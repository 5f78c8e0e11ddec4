"""Sound needs no code of its own: a wave is a picture one pixel high."""

import numpy as np
import torch
from safetensors.torch import save_file

import crossteach
from crossteach.config import OptimConfig, TransferConfig

FACTORIES = """
import torch
from torch import nn

def waves(width=8, length=9):
    return nn.Sequential(
        nn.Flatten(2), nn.Conv1d(1, width, length, 2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
        nn.Linear(width, 3),
    )

def spectrum():
    class Spectrum(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(65, 3)
        def forward(self, waves):
            return self.head(torch.fft.rfft(waves[:, 0, 0] - 0.5).abs())
    return Spectrum()
"""


def tones(count, seed):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 3, count)
    time = np.arange(128)
    pitch = np.array([0.2, 0.35, 0.5])[labels] * draw.uniform(0.85, 1.2, count)
    waves = np.sin(pitch[:, None] * time + draw.uniform(0, 6, (count, 1))) + draw.normal(0, 0.8, (count, 128))
    return (0.5 + 0.1 * waves).clip(0, 1).astype(np.float32)[:, None], labels


def test_a_model_of_spectra_teaches_one_of_waves(tmp_path):
    parts = {"train": (300, 1), "val": (300, 2), "test": (300, 3)}
    arrays = {}
    for key, (count, seed) in parts.items():
        arrays[f"x_{key}"], arrays[f"y_{key}"] = tones(count, seed)
    np.savez(tmp_path / "tones.npz", **arrays, class_names=["low", "middle", "high"])
    np.savez(tmp_path / "pool.npz", x=tones(600, 4)[0])
    (tmp_path / "sound.py").write_text(FACTORIES)
    data = crossteach.load_data(f"npz:{tmp_path}/tones.npz")
    assert data.augmentation == "none"
    models = {}
    for name, steps in (("waves", 150), ("spectrum", 200)):
        torch.manual_seed(0)
        model = crossteach.load_model(f"py:{tmp_path}/sound.py:{name}?pretrained=false", like=data)
        optimiser = torch.optim.Adam(model.module.parameters(), 0.03)
        for _ in range(steps):
            logits = model.module(torch.from_numpy(arrays["x_train"])[:, None])
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(logits, torch.from_numpy(arrays["y_train"])).backward()
            optimiser.step()
        save_file(model.module.state_dict(), tmp_path / f"{name}.safetensors")
        models[name] = crossteach.load_model(f"py:{tmp_path}/sound.py:{name}@{tmp_path}/{name}.safetensors", like=data)
    config = TransferConfig(optim=OptimConfig(steps=200, lr=0.1))
    pools = [f"npz:{tmp_path}/pool.npz?duplicates=exact"]
    result = crossteach.transfer(
        models["waves"], [models["spectrum"]], data, tmp_path / "run", config=config, pools=pools
    )
    assert result.summary["transfer_delta"] > 2
