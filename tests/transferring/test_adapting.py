import digits
import pytest
import torch
from torch import nn

import crossteach
from crossteach.errors import ConfigError, ModelError
from crossteach.functional.averaging import snapshot
from crossteach.transferring.adapting import (
    adaptable_layers,
    adapted,
    describe_part,
    folded,
    heads_of,
    last_block,
    learning,
    learning_weights,
)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


def names(module, weights):
    known = {id(p): name for name, p in module.named_parameters()}
    return sorted(known[id(p)] for p in weights)


def timm_model(name, **arguments):
    import timm

    return timm.create_model(name, pretrained=False, num_classes=7, **arguments).eval()


def unfilled(name):
    """An architecture without memory for its weights, where it can be made so."""
    try:
        with torch.device("meta"):
            return timm_model(name)
    except (RuntimeError, NotImplementedError):
        return timm_model(name)


SMALL_VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2}


def test_parts_of_a_transformer():
    module = timm_model("vit_tiny_patch16_224", **SMALL_VIT)
    assert names(module, learning_weights(module, "head", 7)) == ["head.bias", "head.weight"]
    last = names(module, learning_weights(module, "last", 7))
    assert {n.split(".")[0] for n in last} == {"blocks", "head", "norm"}
    assert {n.split(".")[1] for n in last if n.startswith("blocks")} == {"2"}
    norms = names(module, learning_weights(module, "norm", 7))
    assert norms and all("norm" in n for n in norms)
    assert len(learning_weights(module, "all", 7)) == len(list(module.parameters()))


def test_parts_of_a_residual_network():
    module = timm_model("resnet10t", in_chans=1)
    assert names(module, learning_weights(module, "head", 7)) == ["fc.bias", "fc.weight"]
    last = names(module, learning_weights(module, "last", 7))
    assert {n.rpartition(".")[0].split(".")[0] for n in last} == {"layer4", "fc"}
    assert all(
        "bn" in n or "downsample" in n or "conv1.1" in n or "conv1.4" in n
        for n in names(module, learning_weights(module, "norm", 7))
    )


def test_a_block_with_a_norm_in_its_name_is_no_norm():
    module = timm_model("regnetx_002")
    share = sum(p.numel() for p in learning_weights(module, "norm", 7)) / sum(p.numel() for p in module.parameters())
    assert share < 0.02


def test_adapters_go_where_they_are_put_and_nowhere_else():
    """A name that ends like another is another layer."""
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, groups=4)), nn.Flatten()
    )
    with adapted(module, 2) as weights:
        assert len(weights) == 2
    assert not hasattr(module, "peft_config")


def test_a_head_inside_a_block_is_found():
    class Tail(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.linear = nn.LayerNorm(4), nn.Linear(4, 7)

    module = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), Tail())
    assert heads_of(module, 7) == [module[2].linear]
    assert last_block(module, 7) == [module[2].linear, module[2].norm, module[1][1]]
    alone = nn.Linear(3, 7)
    assert last_block(alone, 7) == [alone]


def test_a_backbone_is_not_its_own_last_block():
    class Wrapped(nn.Module):
        def __init__(self, backbone):
            super().__init__()
            self.backbone, self.norm, self.fc = backbone, nn.LayerNorm(8), nn.Linear(8, 7)

    class Body(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.block = nn.Linear(3, 8), nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))

    wrapped = Wrapped(Body())
    assert last_block(wrapped, 7) == [wrapped.fc, wrapped.norm, wrapped.backbone.block[2]]
    twice = Wrapped(Wrapped(Body()).backbone)
    twice.backbone = nn.ModuleDict({"encoder": twice.backbone})
    assert last_block(twice, 7)[-1] is twice.backbone["encoder"].block[2]
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    encoder = Wrapped(nn.TransformerEncoder(layer, 3, enable_nested_tensor=False))
    assert last_block(encoder, 7) == [encoder.fc, encoder.norm, encoder.backbone.layers[2]]


def test_adapters_leave_alone_what_they_cannot_be_folded_into():
    """A convolution that standardises its weights, pads with what it sees, is dilated or pads by itself."""
    from timm.layers import Conv2dSame, StdConv2d

    odd = [
        StdConv2d(1, 4, 3),
        Conv2dSame(4, 4, 3),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(4, 4, 3, dilation=2),
        nn.utils.spectral_norm(nn.Conv2d(4, 4, 3)),
    ]
    module = nn.Sequential(*odd, nn.Conv2d(4, 7, 1))
    assert adaptable_layers(module) == ["5"]
    with pytest.raises(ModelError, match="without groups or dilation"):
        adaptable_layers(nn.Sequential(*odd))


def test_a_part_that_is_not_there_is_one_clear_line():
    plain = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 7))
    with pytest.raises(ModelError, match="no norm layer"):
        learning_weights(plain, "norm", 7)
    with pytest.raises(ModelError, match="no layer of the student scores its 9 classes"):
        learning_weights(plain, "head", 9)
    attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    with pytest.raises(ModelError, match="adapters go on Linear"), adapted(attention, 4):
        pass
    with (
        pytest.raises(ModelError, match="the student has only BatchNorm2d"),
        adapted(nn.Sequential(nn.BatchNorm2d(3)), 4),
    ):
        pass


@pytest.mark.parametrize("trains", ["everything", "lora:0", "lora:x", "norm:3", ""])
def test_settings_that_name_no_part_are_refused(trains):
    with pytest.raises(ConfigError, match=r"optim\.trains must be one of all, norm"):
        crossteach.OptimConfig(trains=trains)
    assert crossteach.OptimConfig(trains="lora:3").part == ("lora", 3)


def test_the_rest_is_as_before_afterwards():
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 7))
    module[0].bias.requires_grad_(False)
    with learning(module, "head", 7) as weights:
        assert names(module, weights) == ["2.bias", "2.weight"]
        assert [n for n, p in module.named_parameters() if p.requires_grad] == ["2.weight", "2.bias"]
    assert [n for n, p in module.named_parameters() if not p.requires_grad] == ["0.bias"]


@pytest.mark.parametrize("module", [nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 7))])
def test_adapters_fold_into_the_weights(module):
    images = torch.randn(5, 1, 4, 4)
    before, plain = snapshot(module), module(images)
    with adapted(module, 2) as weights:
        assert torch.equal(module(images), plain)  # a new adapter changes nothing
        for weight in weights:
            nn.init.normal_(weight)
        moved = module(images)
        state = folded(module, module.state_dict(), images)
    assert not torch.allclose(moved, plain)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert state.keys() == before.keys()
    module.load_state_dict(state)
    assert torch.allclose(module(images), moved, atol=1e-5)
    assert all(p.requires_grad for p in module.parameters())


QUICK = ["optim.epochs=4", "optim.lr=0.1", "views.count=1", "gate.alphas=1"]


@pytest.mark.parametrize("trains", ["norm", "last", "head", "lora:2"])
def test_only_that_part_of_a_student_changes(task, tmp_path, trains):
    student, teacher = crossteach.load_model(task.student), crossteach.load_model(task.teacher)
    config = crossteach.with_settings(
        crossteach.TransferConfig(), [*QUICK, f"optim.trains={trains}", "gate.max_loss=100"]
    )
    run = crossteach.transfer(student, [teacher], crossteach.load_data(task.data), tmp_path, config)
    assert run.summary["ungated"]["knowledge_gain"] + run.summary["ungated"]["knowledge_loss"] > 0 or trains == "norm"
    if run.summary["gate"]["verdict"] != "accepted":
        return
    old, new = student.module.state_dict(), run.student.module.state_dict()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    expected = {
        "norm": {"1.weight", "1.bias"},
        "head": {"6.weight", "6.bias"},
        "last": {"0.weight", "1.weight", "1.bias", "6.weight", "6.bias"},
        "lora:2": {"0.weight", "6.weight"},
    }[trains]
    assert changed <= expected and changed
    assert crossteach.load_model(f"run:{tmp_path}").fingerprint == run.student.fingerprint


@pytest.mark.parametrize("method", ["kl+dp", "xe+dp"])
def test_adapters_resume_bit_for_bit(task, tmp_path, method, monkeypatch):
    from crossteach.transferring import lesson as transferring

    student, teacher = crossteach.load_model(task.student), crossteach.load_model(task.teacher)
    data = crossteach.load_data(task.data)
    config = crossteach.with_settings(crossteach.TransferConfig(), [*QUICK, "optim.trains=lora:2", f"method={method}"])
    whole = crossteach.transfer(student, [teacher], data, tmp_path / "whole", config).summary
    keep = transferring._checkpoint

    def stop(*arguments):
        keep(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(transferring, "_checkpoint", stop)
    with pytest.raises(KeyboardInterrupt):
        crossteach.transfer(student, [teacher], data, tmp_path / "parts", config)
    monkeypatch.undo()
    resumed = crossteach.transfer(student, [teacher], data, tmp_path / "parts", config).summary
    assert {**resumed, "seconds": 0} == {**whole, "seconds": 0}


# what the last block is, and what of a model learns


def share_of_last(name):
    module = unfilled(name)
    said = describe_part(module, "last", 7, 0)
    learnt, every = learning_weights(module, "last", 7), sum(p.numel() for p in module.parameters())
    return module, 100 * sum(p.numel() for p in learnt) / every, said


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("regnety_002", "s4.b7"),
        ("pit_ti_224", "transformers.2.blocks.3"),
        ("vgg11", "pre_logits.fc2"),
        ("efficientvit_m0", "stages.2.blocks.2"),
        ("twins_svt_small", "blocks.3.3"),
        ("coat_tiny", "parallel_blocks.5"),
        ("volo_d1_224", "post_network.1"),
        ("resmlp_12_224", "blocks.11"),
        ("resnet18", "layer4.1"),
    ],
)
def test_the_last_block_is_one_block_and_its_share_is_said(name, block):
    module, share, said = share_of_last(name)
    assert 0.5 < share <= 50
    assert said[0].startswith(f"optim.trains=last: {share:.2g}% of the model's weights learn (")
    learnt = names(module, learning_weights(module, "last", 7))
    beside = ("head", "norm", "pre_logits", "fc", "final_conv", "cpe", "crpe")  # CoaT's blocks share the last two
    assert any(n.startswith(f"{block}.") for n in learnt)
    assert all(n.startswith((f"{block}.", *beside)) for n in learnt), learnt


@pytest.mark.parametrize("name", ["efficientvit_b0", "mobilenetv3_small_050"])
def test_a_last_block_that_is_most_of_the_model_is_refused(name):
    with pytest.raises(
        ModelError, match=r"one (Linear|Conv2d) with [\d,]+ weights, more than 50% of the model; use head"
    ):
        describe_part(unfilled(name), "last", 7, 0)


def test_both_heads_of_a_distilled_transformer_learn():
    module = unfilled("deit_tiny_distilled_patch16_224")
    learnt = ["head.bias", "head.weight", "head_dist.bias", "head_dist.weight"]
    assert names(module, learning_weights(module, "head", 7)) == learnt
    assert describe_part(module, "head", 7, 0) == [
        "optim.trains=head: 0.049% of the model's weights learn (head, head_dist)"
    ]
    assert describe_part(module, "all", 7, 0) == []


@pytest.mark.parametrize(
    ("trains", "says"),
    [("head", "weights learn (6)"), ("norm", "weights learn (1)"), ("lora:2", "adapters of rank 2 on 2 layers learn")],
)
def test_a_transfer_says_what_learns(task, tmp_path, trains, says):
    student, teacher = crossteach.load_model(task.student), crossteach.load_model(task.teacher)
    settings = ["optim.epochs=1", "optim.lr=0.1", "views.count=1", f"optim.trains={trains}"]
    config = crossteach.with_settings(crossteach.TransferConfig(), settings)
    done = crossteach.transfer(student, [teacher], crossteach.load_data(task.data), tmp_path, config)
    assert [says in note for note in done.notes if note.startswith("optim.trains=")] == [True]


# adapters and weights that layers share


class Twice(nn.Module):
    """One layer in two places, two layers with one weight, and two of their own."""

    def __init__(self):
        super().__init__()
        self.first, self.shared, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 7)
        self.again = self.shared
        self.one, self.other = nn.Linear(6, 6), nn.Linear(6, 6)
        self.other.weight = self.one.weight

    def forward(self, x):
        x = self.again(torch.relu(self.shared(torch.relu(self.first(x)))))
        return self.last(self.other(torch.tanh(self.one(x))))


def test_adapters_leave_alone_layers_that_share_their_weights():
    torch.manual_seed(0)
    module, images = Twice(), torch.randn(9, 6)
    assert adaptable_layers(module) == ["first", "last"]
    assert "3 layers share weights with others and get none" in describe_part(module, "lora", 7, 2)[0]
    with adapted(module, 2) as weights:
        for weight in weights:
            nn.init.normal_(weight)
        moved = module(images)
        state = folded(module, module.state_dict(), images)
    module.load_state_dict(state)
    assert torch.allclose(module(images), moved, atol=1e-4)
    assert module.again is module.shared and module.other.weight is module.one.weight


def test_a_student_whose_layers_all_share_their_weights_takes_no_adapter():
    both = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    both[1].weight = both[0].weight
    with pytest.raises(ModelError, match="that share no weights"):
        adaptable_layers(both)


def test_adapters_that_do_not_fold_into_what_was_trained_fail_loudly(monkeypatch):
    from crossteach.transferring import adapting

    torch.manual_seed(0)
    module, images = Twice(), torch.randn(9, 6)
    monkeypatch.setattr(adapting, "_shared_layers", lambda module: [])  # as it was: every plain layer takes one
    with adapted(module, 2) as weights:
        for weight in weights:
            nn.init.normal_(weight)
        with pytest.raises(
            ModelError, match=r"folding the adapters .* moved the logits by .*; use another optim\.trains"
        ):
            folded(module, module.state_dict(), images)


def test_a_student_with_shared_layers_is_the_one_that_was_trained(task, tmp_path):
    (tmp_path / "shared.py").write_text(SHARED)
    spec = f"py:{tmp_path}/shared.py:Shared?pretrained=false&channels=1&size=8"
    student, teacher = crossteach.load_model(spec), crossteach.load_model(task.teacher)
    settings = ["optim.epochs=2", "optim.lr=0.05", "views.count=1", "optim.trains=lora:2", "force=true"]
    config = crossteach.with_settings(crossteach.TransferConfig(), [*settings, "gate.ask=false"])
    done = crossteach.transfer(student, [teacher], crossteach.load_data(task.data), tmp_path / "run", config)
    saved = crossteach.load_model(f"run:{tmp_path / 'run'}")
    assert saved.fingerprint == done.student.fingerprint != student.fingerprint
    assert saved.module.again.weight is saved.module.shared.weight
    assert any("1 layers share weights with others and get none" in note for note in done.notes)


SHARED = """
import torch
from torch import nn

class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.shared, self.last = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10)
        self.again = self.shared
    def forward(self, x):
        return self.last(torch.relu(self.again(torch.relu(self.shared(torch.relu(self.first(x.flatten(1))))))))
"""
