"""The pixels that a model is evaluated on are those of timm's own transform."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config

from crossteach.data.arrays import ArrayInputs
from crossteach.data.encoded import PictureFiles
from crossteach.data.files import FileInputs
from crossteach.data.look import PictureRules
from crossteach.errors import ModelError
from crossteach.models.preprocess import from_pretrained_cfg
from crossteach.types import Preprocess

SHAPES = {"wide": (400, 150), "tall": (130, 333), "square": (256, 256), "small": (90, 60), "as": (224, 224)}
SHAPES |= {"odd": (301, 299)}

MODELS = (
    *("resnet18.a1_in1k", "vit_tiny_patch16_224.augreg_in21k_ft_in1k", "efficientnet_b0.ra_in1k"),
    *("tf_efficientnet_lite0.in1k", "tf_efficientnet_b3.ns_jft_in1k", "mobilenetv3_large_100.ra_in1k"),
    *("convnext_tiny.fb_in22k_ft_in1k_384", "swin_tiny_patch4_window7_224.ms_in1k", "deit3_small_patch16_224.fb_in1k"),
    *("inception_v3.tv_in1k", "regnety_004.pycls_in1k", "beit_base_patch16_224.in22k_ft_in22k_in1k"),
    *("inception_resnet_v2.tf_in1k", "mobilevit_s.cvnets_in1k", "volo_d1_224.sail_in1k", "hrnet_w18.ms_aug_in1k"),
    *("nextvit_small.bd_in1k", "vit_base_patch14_dinov2.lvd142m", "vit_base_patch16_siglip_224.webli"),
)
"""Architectures whose configurations differ in size, crop, interpolation and normalisation."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Write a picture of each shape: smooth and sharp parts, so that each filter leaves other pixels."""
    folder, rng, paths = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0), []
    for name, (width, height) in SHAPES.items():
        y, x = np.mgrid[0:height, 0:width]
        waves = np.stack([128 + 100 * np.sin(x / (3 + 5 * c)) * np.cos(y / (7 + c)) for c in range(3)], -1)
        noisy = np.where((x // 16 + y // 16)[..., None] % 2, waves, rng.integers(0, 256, (height, width, 3)))
        paths.append(folder / f"{name}.png")
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(paths[-1])
    return paths


def timm_pixels(path, config):
    """Return what timm's transform makes of a picture, in [0, 1]."""
    mean, std = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))
    return create_transform(**config, is_training=False)(Image.open(path).convert("RGB")) * std + mean


def require_equal(paths, preprocess, config):
    inputs = FileInputs(PictureFiles(paths), PictureRules(), workers=0)
    read = inputs.evaluation(np.arange(len(paths)), preprocess)
    for path, ours in zip(paths, read, strict=True):
        theirs = timm_pixels(path, config)
        assert ours.shape == theirs.shape
        assert (ours - theirs).abs().max() <= 1 / 255 + 1e-6, path.name
        assert abs(float(ours.mean() - theirs.mean())) <= 1e-3, path.name


def test_the_configurations_are_of_many_kinds():
    configs = [timm.get_pretrained_cfg(name).to_dict() for name in MODELS]
    fields = ("input_size", "crop_pct", "interpolation", "crop_mode", "mean")
    kinds = {tuple(str(c[field]) for field in fields) for c in configs}
    assert len(kinds) >= 10
    assert {"bilinear", "bicubic"} <= {c["interpolation"] for c in configs}


@pytest.mark.parametrize("name", MODELS)
def test_pixels_are_those_of_timms_own_transform(pictures, name):
    """Bicubic models were once shown bilinear pixels: the highest probability was off by 0.039 on average."""
    cfg = timm.get_pretrained_cfg(name).to_dict()
    require_equal(pictures, from_pretrained_cfg(cfg), resolve_data_config({}, pretrained_cfg=cfg))


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("crop", [0.75, 0.875, 0.95, 1.0])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest", "lanczos", "box", "hamming"])
def test_every_crop_mode_and_interpolation(pictures, crop_mode, crop, interpolation):
    given = {"input_size": (3, 96, 96), "crop_pct": crop, "interpolation": interpolation, "crop_mode": crop_mode}
    cfg = {**given, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.2), "fixed_input_size": True}
    require_equal(pictures, from_pretrained_cfg(cfg), resolve_data_config({}, pretrained_cfg=cfg))


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
def test_an_input_that_is_no_square(pictures, crop_mode):
    cfg = {"input_size": (3, 96, 128), "crop_pct": 0.9, "interpolation": "bicubic", "crop_mode": crop_mode}
    cfg |= {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.2)}
    require_equal(pictures, from_pretrained_cfg(cfg), resolve_data_config({}, pretrained_cfg=cfg))


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest", "lanczos", "box", "hamming"])
def test_arrays_come_out_as_files_of_the_same_pixels(pictures, crop_mode, interpolation):
    """Arrays are not rounded to bytes on the way, pictures are, after each direction."""
    preprocess = Preprocess((96, 128), 3, (0.4,), crop=0.875, crop_mode=crop_mode, interpolation=interpolation)
    if crop_mode == "squash" and interpolation in ("bicubic", "lanczos"):
        pictures = [path for path in pictures if path.stem != "tall"]  # there the order of the two directions tells
    of_files = FileInputs(PictureFiles(pictures), PictureRules(), workers=0).evaluation(
        np.arange(len(pictures)), preprocess
    )
    for path, expected in zip(pictures, of_files, strict=True):
        with Image.open(path) as image:
            ours = ArrayInputs(np.asarray(image)[None], "x").evaluation(np.arange(1), preprocess)[0]
        assert (ours - expected).abs().max() <= (0 if interpolation == "nearest" else 2 / 255), path.name
        assert abs(float(ours.mean() - expected.mean())) <= 2e-3, path.name


def test_a_squash_is_not_a_central_crop(pictures):
    """59 architectures squash; a central crop once gave 25% on wide pictures where the truth is 75."""
    squashed, cropped = (Preprocess((64, 64), 3, crop_mode=mode) for mode in ("squash", "center"))
    inputs = FileInputs(PictureFiles(pictures[:1]), PictureRules(), workers=0)
    first, second = (inputs.evaluation(np.arange(1), p) for p in (squashed, cropped))
    assert (first - second).abs().mean() > 0.05


@pytest.mark.parametrize(("key", "word"), [("crop_mode", "swirl"), ("interpolation", "psychic")])
def test_a_field_that_nothing_here_honours_is_refused(key, word):
    cfg = timm.get_pretrained_cfg("resnet18.a1_in1k").to_dict()
    with pytest.raises(ModelError, match=f"{key} '{word}'"):
        from_pretrained_cfg({**cfg, key: word})
