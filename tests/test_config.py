import json
from dataclasses import fields, is_dataclass

import pytest

from crossteach.config import GateConfig, OptimConfig, TransferConfig
from crossteach.errors import ConfigError
from crossteach.settings import with_settings

GOOD = {
    "method": ("kl+dp", "kl+dp"),
    "seed": ("7", 7),
    "time_budget": ("30", 30.0),
    "force": ("true", True),
    "optim.epochs": ("3", 3),
    "optim.steps": ("700", 700),
    "optim.lr": ("0.01", 0.01),
    "optim.table_lr": ("0.1", 0.1),
    "pool.share": ("0.5", 0.5),
    "pool.views": ("1", 1),
    "pool.probe_rate": ("none", None),
    "pool.drop_below": ("0.1", 0.1),
    "optim.batch_size": ("64", 64),
    "optim.accumulate": ("4", 4),
    "compute.compile": ("true", True),
    "compute.channels_last": ("true", True),
    "compute.checkpointing": ("true", True),
    "compute.shard": ("true", True),
    "optim.optimiser": ("adamw", "adamw"),
    "optim.momentum": ("0", 0.0),
    "optim.weight_decay": ("1e-4", 1e-4),
    "optim.warmup": ("0.1", 0.1),
    "optim.schedule": ("constant", "constant"),
    "optim.clip": ("2", 2.0),
    "optim.trains": ("lora:4", "lora:4"),
    "optim.train_statistics": ("True", True),
    "optim.precision": ("bfloat16", "bfloat16"),
    "optim.probe_rates": ("0.1,1", (0.1, 1.0)),
    "optim.probe_steps": ("5", 5),
    "views.count": ("0", 0),
    "views.augmentation": ("none", "none"),
    "optim.stop_below": ("0.8", 0.8),
    "views.first": ("3", 3),
    "views.strength": ("0", 0.0),
    "views.seed": ("3", 3),
    "views.live": ("true", True),
    "partition.temperature": ("2", 2.0),
    "partition.kl_weight": ("1", 1.0),
    "partition.slow_momentum": ("0.9999", 0.9999),
    "partition.slow_every": ("4", 4),
    "partition.margin": ("0.2", 0.2),
    "partition.top_classes": ("5", 5),
    "partition.keep_absent": ("false", False),
    "gate.max_loss": ("0", 0.0),
    "gate.level": ("0.95", 0.95),
    "gate.alphas": ("0.5,1", (0.5, 1.0)),
    "gate.measure": ("balanced", "balanced"),
    "gate.class_max_loss": ("5", 5.0),
    "gate.unseen_group": ("0", 0.0),
    "gate.ask": ("false", False),
    "scoring.batch": ("16", 16),
    "scoring.precision": ("bfloat16", "bfloat16"),
    "contrast.student_layer": ("blocks.2", "blocks.2"),
    "contrast.teacher_layer": ("layer4", "layer4"),
    "contrast.temperature": ("0.1", 0.1),
    "contrast.width": ("64", 64),
    "contrast.negatives": ("100", 100),
    "curriculum.order": ("soup", "soup"),
    "curriculum.sequence": ("scout", "scout"),
    "curriculum.average": ("uniform", "uniform"),
    "curriculum.budget": ("total", "total"),
    "store.keep": ("20", "20"),
}
"""A good value of every field, as text and as what it is read as."""

BAD = {
    "seed": ["-1", "2147483648", "1.5", "few", "true", "none"],
    "time_budget": ["0", "-1", "inf", "nan", "soon", "true"],
    "force": ["1", "maybe", "none"],
    "optim.epochs": ["0", "1.5", "many", "true", "none"],
    "optim.steps": ["0", "1.5", "true"],
    "optim.lr": ["0", "-0.1", "nan", "inf", "fast", "true"],
    "optim.table_lr": ["0", "-0.1", "nan", "inf", "fast"],
    "pool.share": ["-0.1", "1.1", "nan", "none"],
    "pool.views": ["0", "1.5", "none"],
    "pool.drop_below": ["-0.1", "1", "nan", "none"],
    "pool.probe_rate": ["0", "nan", "inf", "true"],
    "optim.batch_size": ["0", "2.5", "none"],
    "optim.accumulate": ["0", "1.5", "none"],
    "compute.compile": ["1", "none"],
    "compute.channels_last": ["1", "none"],
    "compute.checkpointing": ["1", "none"],
    "compute.shard": ["1", "none"],
    "optim.optimiser": ["adam", "none"],
    "optim.momentum": ["-0.1", "1", "nan", "none"],
    "optim.weight_decay": ["-1", "nan", "inf"],
    "optim.warmup": ["-0.1", "1", "nan"],
    "optim.clip": ["0", "nan", "inf", "none"],
    "optim.train_statistics": ["2", "yes", "none"],
    "optim.precision": ["int8", "none"],
    "optim.probe_rates": ["", "0.01,0.01", "0,1", "a,b", "nan", "inf", "0.1,"],
    "optim.probe_steps": ["0", "none"],
    "views.count": ["-1", "1.5", "none"],
    "optim.stop_below": ["-0.1", "1", "nan"],
    "views.first": ["-1", "1.5", "none"],
    "views.strength": ["-0.1", "5.1", "nan", "none"],
    "views.seed": ["-1", "1.5", "none"],
    "views.live": ["1", "none"],
    "partition.temperature": ["0", "-1", "nan", "inf", "none"],
    "partition.kl_weight": ["-0.1", "1.1", "nan"],
    "partition.slow_momentum": ["-0.1", "1.1", "nan"],
    "partition.slow_every": ["0", "none"],
    "partition.margin": ["-0.1", "1", "nan", "inf", "none"],
    "partition.top_classes": ["0", "-3", "2.5", "many", "true"],
    "gate.max_loss": ["-0.1", "101", "inf", "nan", "none"],
    "gate.level": ["0.5", "1", "nan", "none"],
    "optim.schedule": ["step", "none"],
    "optim.trains": ["body", "lora:0", "head:2", "none"],
    "gate.measure": ["f1", "none"],
    "gate.class_max_loss": ["0", "-1", "101", "nan", "few"],
    "gate.unseen_group": ["-1", "101", "nan", "none"],
    "gate.ask": ["2", "none"],
    "scoring.batch": ["0", "3", "256", "1.5", "few"],
    "scoring.precision": ["auto", "float64", "none"],
    "curriculum.order": ["random", "none"],
    "curriculum.sequence": ["alphabetical"],
    "curriculum.average": ["mean"],
    "curriculum.budget": ["none", "8"],
    "store.keep": ["none", "0", "2.5", "all"],
    "contrast.temperature": ["0", "-1", "nan", "none"],
    "contrast.width": ["0", "1.5", "none"],
    "contrast.negatives": ["0", "many"],
    "gate.alphas": ["", "0.5,0.5,1", "0,1", "0.5,1.1", "1,0.5", "nan", "none"],
}


def paths(config, prefix=""):
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from paths(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


def read(config, path):
    for name in path.split("."):
        config = getattr(config, name)
    return config


def test_every_field_is_tried_here():
    assert set(paths(TransferConfig())) == set(GOOD)


@pytest.mark.parametrize("path", GOOD)
def test_every_field_can_be_set_and_nothing_else_changes(path):
    text, value = GOOD[path]
    default = TransferConfig()
    config = with_settings(default, [f"{path}={text}"])
    assert read(config, path) == value and type(read(config, path)) is type(value)
    assert read(config, path) != read(default, path)
    others = [other for other in GOOD if other != path]
    assert [read(config, other) for other in others] == [read(default, other) for other in others]


@pytest.mark.parametrize(("path", "text"), [(path, text) for path, texts in BAD.items() for text in texts])
def test_values_out_of_range_are_refused(unchecked, path, text):
    with pytest.raises(ConfigError, match=path) as error:
        with_settings(TransferConfig(), [f"{path}={text}"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "path", ["time_budget", "optim.lr", "optim.table_lr", "partition.kl_weight", "partition.slow_momentum"]
)
def test_what_may_be_left_to_the_method_can_be_set_back(path):
    config = with_settings(TransferConfig(), [f"{path}=0.5", f"{path}=none"])
    assert config == TransferConfig()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "lr=0.1",
            "unknown setting 'lr'; expected one of compute, contrast, curriculum, force, gate, method, optim, .*views",
        ),
        (
            "optim.rate=1",
            "unknown setting 'optim.rate'; expected one of accumulate, batch_size, clip, epochs, lr, .*warmup",
        ),
        ("optim.lr.peak=1", "'lr' is a single value"),
        ("gate=0.3", "'gate' is a group of settings; expected one of gate.max_loss, gate.level, gate.alphas"),
        ("optim.lr", "KEY=VALUE, as in optim.lr=0.01, not 'optim.lr'"),
        ("=1", "unknown setting ''"),
    ],
)
def test_unknown_keys_are_refused_with_the_known_ones(setting, message):
    with pytest.raises(ConfigError, match=message):
        with_settings(TransferConfig(), [setting])


def test_settings_apply_in_order_and_leave_the_first_config():
    first = TransferConfig()
    assert with_settings(first, ["seed=1", "optim.lr=0.1", "seed=2"]) == TransferConfig(
        seed=2, optim=OptimConfig(lr=0.1)
    )
    assert first == TransferConfig()


def test_probe_rates_must_rise():
    with pytest.raises(ConfigError, match=r"optim\.probe_rates"):
        OptimConfig(probe_rates=(0.03, 0.01))


def build(kind, values):
    parts = {field.name: field.default_factory for field in fields(kind) if is_dataclass(field.default_factory)}
    return kind(
        **{
            key: build(parts[key], value) if key in parts else tuple(value) if isinstance(value, list) else value
            for key, value in values.items()
        }
    )


def test_a_config_survives_json():
    config = with_settings(TransferConfig(), [f"{path}={text}" for path, (text, _) in GOOD.items()])
    for each in (TransferConfig(), config):
        assert build(TransferConfig, json.loads(json.dumps(each.to_dict(), allow_nan=False))) == each
    assert config.to_dict()["gate"]["alphas"] == [0.5, 1.0]
    assert GateConfig(alphas=(1.0,)).alphas == (1.0,)
