import re
from pathlib import Path

import pytest

from crossteach.errors import ConfigError, CrossteachError, TrustError
from crossteach.specs import parse_spec
from crossteach.sweeping.plan import Pair, Plan, expand, read_plan

DOCS = Path(__file__).parent.parent.parent / "docs" / "sweep.md"
HEAD = "data: glyphs\n"


def read(tmp_path: Path, text: str, seed: int = 0) -> Plan:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    return read_plan(path, seed)


def test_the_plan_of_the_documentation(tmp_path):
    text = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)[0]
    plan = read(tmp_path, text)
    jobs = plan.jobs()
    assert plan.data == "glyphs"
    assert len(jobs) == 2 * 2 * (2 + 3 * 1)
    assert [j.student for j in jobs] == ["demo:mixer"] * 10 + ["demo:resnet"] * 10
    assert {(j.config.optim.epochs, j.config.views.count) for j in jobs} == {(4, 2)}
    assert {j.teachers for j in jobs if j.method in ("self", "xe")} == {()}
    assert {(j.student, *j.teachers) for j in jobs if j.method == "kl"} == {
        ("demo:mixer", "demo:resnet"),
        ("demo:resnet", "demo:mixer"),
    }


def test_models_are_all_ordered_pairs(tmp_path):
    plan = read(tmp_path, HEAD + "models: [demo:a, demo:b, demo:c]\nmethods: [kl, xe]\n", seed=7)
    assert len(plan.pairs) == 6
    assert len(plan.jobs()) == 6 + 3
    assert {j.config.seed for j in plan.jobs()} == {7}


def test_lists_skip_a_student_as_its_own_teacher(tmp_path):
    plan = read(tmp_path, HEAD + "students: [demo:a, demo:b]\nteachers: [demo:b, demo:c]\nmethods: [kl]\n")
    assert plan.pairs == (
        Pair("demo:a", ("demo:b",)),
        Pair("demo:a", ("demo:c",)),
        Pair("demo:b", ("demo:c",)),
    )
    assert plan.models == ("demo:a", "demo:b", "demo:c")


def test_pairs_may_have_several_teachers(tmp_path):
    plan = read(tmp_path, HEAD + "pairs: [[demo:a, [demo:b, demo:c]], [demo:b, demo:a]]\nmethods: [kl+dp, self]\n")
    assert [(j.student, j.teachers, j.method) for j in plan.jobs()] == [
        ("demo:a", ("demo:b", "demo:c"), "kl+dp"),
        ("demo:a", (), "self"),
        ("demo:b", ("demo:a",), "kl+dp"),
        ("demo:b", (), "self"),
    ]


def test_methods_have_names_and_settings_of_their_own(tmp_path):
    text = """
data: glyphs
models: [demo:a, demo:b]
methods:
- kl+dp
- {method: kl+dp, name: warm, settings: {partition.temperature: 2}}
- {method: kl+dp, settings: {partition: {temperature: 3}, gate.alphas: [0.5, 1]}}
settings: {partition.temperature: 1.5, optim: {lr: 1e-3, train_statistics: yes}}
"""
    jobs = read(tmp_path, text).jobs()[:3]
    assert [j.method for j in jobs] == ["kl+dp", "warm", "kl+dp partition.temperature=3 gate.alphas=0.5,1"]
    assert [j.config.partition.temperature for j in jobs] == [1.5, 2, 3]
    assert [j.config.gate.alphas for j in jobs][2] == (0.5, 1)
    assert all(j.config.optim.lr == 1e-3 and j.config.optim.train_statistics for j in jobs)


def test_patterns_become_files(tmp_path):
    for name in ("b", "a"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"")
    found = expand(f"py:zoo.py:small@{tmp_path}/*.safetensors?channels=1&size=8")
    assert found == [f"py:zoo.py:small@{tmp_path}/{n}.safetensors?channels=1&size=8" for n in "ab"]
    (tmp_path / "runs" / "one").mkdir(parents=True)
    assert expand(f"run:{tmp_path}/runs/*") == [f"run:{tmp_path}/runs/one"]


def test_what_a_pattern_matches_is_read_as_it_is(tmp_path):
    for name in ("a@b", "what?", "[1]"):
        (tmp_path / "runs@home" / name).mkdir(parents=True)
    found = expand(f"run:{tmp_path}/runs@home/*?size=8")
    assert {parse_spec(spec).path for spec in found} == {tmp_path / "runs@home" / n for n in ("a@b", "what?", "[1]")}
    assert all(parse_spec(spec).options == {"size": "8"} for spec in found)
    assert expand(f"run:{tmp_path}/runs@home/[1]") == [f"run:{tmp_path}/runs@home/[1]"]
    (tmp_path / "w@1.pt").write_bytes(b"")
    (spec,) = expand(f"py:{tmp_path}/runs@home/zoo.py:net@{tmp_path}/w*.pt")
    assert parse_spec(spec).weights == f"{tmp_path}/w@1.pt"


MERGED = """
data: glyphs
models: [demo:a, demo:b]
methods:
- {method: kl, name: warm, settings: &warm {partition.temperature: 2, optim.epochs: 3}}
- {method: xe, settings: {<<: *warm, optim.epochs: 1, optim.lr: 0.1}}
- {method: kl, name: both, settings: {<<: [*warm, {optim.epochs: 9, optim.lr: 0.2}]}}
"""


def test_merge_keys_bring_in_what_the_mapping_does_not_say_itself(tmp_path):
    jobs = read(tmp_path, MERGED.replace("method: xe", "name: own, method: kl")).jobs()
    found = {j.method: (j.config.partition.temperature, j.config.optim.epochs, j.config.optim.lr) for j in jobs}
    assert found == {"warm": (2, 3, None), "own": (2, 1, 0.1), "both": (2, 3, 0.2)}


def test_a_plan_runs_a_file_that_a_setting_names_only_with_trust(tmp_path):
    models = "models: [demo:a, py:zoo.py:net@w.pt]\nmethods: [kl]\n"
    named = HEAD + models + "settings: {views: {augmentation: mine.py:f}}\n"
    with pytest.raises(TrustError, match=r"augmentation=mine\.py:f runs a Python file.*--trust.*trust: true"):
        read(tmp_path, named)
    assert read(tmp_path, named + "trust: true\n").trust
    path = tmp_path / "plan.yaml"
    path.write_text(named)
    assert read_plan(path, trust=True).trust
    assert not read(tmp_path, HEAD + models).trust
    own = HEAD + "models: [demo:a, demo:b]\nmethods: [{method: kl, settings: {views.augmentation: a.py:f}}]\n"
    with pytest.raises(TrustError):
        read(tmp_path, own)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("data: [", "is not YAML"),
        ("[" * 2000, "is not YAML"),
        ("- 1", "must be a mapping"),
        (HEAD + "models: [a:a, b:b]\nmethods: [kl]\ntrust: 1", "'trust' must be true or false, not 1"),
        (HEAD + "models: [a:a, b:b]\nmethods: [{<<: 3, method: kl}]", "is not YAML: expected a mapping"),
        (HEAD + "models: [a:a, b:b]\nmethods: [{<<: {name: x}, name: y, name: z, method: kl}]", "'name' stands twice"),
        ("data: a\ndata: b", "line 2 of the plan: the key 'data' stands twice"),
        (HEAD + "model: [demo:a]\nmethods: [kl]", "line 2 of the plan .*unknown key 'model'; expected one of data"),
        ("models: [demo:a, demo:b]\nmethods: [kl]", "'data' must be one spec"),
        (HEAD + "models: [demo:a, demo:b]", "'methods' must be a list"),
        (HEAD + "models: [demo:a, demo:b]\nmethods: [magic]", "line 3 .*methods: unknown method 'magic'"),
        (HEAD + "models: [demo:a, demo:b]\nmethods: [autopilot]", "line 3 .*methods: unknown method 'autopilot'"),
        (HEAD + "models: [demo:a, demo:b]\nmethods: [kl, kl]", "'kl' twice"),
        (HEAD + "models: [demo:a, demo:b]\nmethods: [{method: kl, set: 1}]", "unknown key 'set'"),
        (HEAD + "models: [demo:a, demo:b]\nmethods: [{name: kl}]", "a method is a name or"),
        (HEAD + "models: [demo:a, demo:a]\nmethods: [kl]", "line 2 .*'demo:a' twice"),
        (HEAD + "models: [demo:a]\nmethods: [kl]", "'demo:a' has no teacher"),
        (HEAD + "models: 3\nmethods: [kl]", "list of model specs, not 3"),
        (HEAD + "models: [demo:a, demo:b]\nteachers: all\nmethods: [kl]", "'models' stands for"),
        (HEAD + "pairs: [[demo:a, demo:a]]\nmethods: [kl]", "cannot teach itself"),
        (HEAD + "pairs: [[demo:a]]\nmethods: [kl]", "a pair is"),
        (HEAD + "pairs: [[demo:a, []]]\nmethods: [kl]", "must be different specs"),
        (HEAD + "pairs: [[a:a, b:b], [a:a, b:b]]\nmethods: [kl]", "names a pair twice"),
        (HEAD + "models: [py:f:g@/none/*.pt, demo:b]\nmethods: [kl]", "line 2 .*'/none/\\*.pt' .* matches no file"),
        (HEAD + "models: [demo:a, demo:b]\nmethods: [kl]\nseeds: 3", "'seeds' must be a list"),
        (HEAD + "models: [demo:a, demo:b]\nmethods: [kl]\nseeds: [1, 1]", "'seeds' must be a list"),
        (HEAD + "models: [demo:a, demo:b]\nmethods: [kl]\nseeds: [-1]", "'seeds' must be a list"),
        (HEAD + "models: [a:a, b:b]\nmethods: [kl]\nsettings: {optim.lr: -1}", "line 4 .*optim.lr must be above 0"),
        (HEAD + "models: [a:a, b:b]\nmethods: [kl]\nsettings: {optim.speed: 1}", "unknown setting 'optim.speed'"),
        (HEAD + "models: [a:a, b:b]\nmethods: [kl]\nsettings: [1]", "settings must be a mapping"),
        (HEAD + "models: [a:a, b:b]\nmethods: [kl]\nsettings: {seed: 1}", "use the key 'seeds'"),
        (HEAD + "models: [a:a, b:b]\nmethods: [{method: kl, settings: {optim.clip: 0}}]", "optim.clip must be above"),
    ],
)
def test_a_wrong_plan_is_one_clear_line(tmp_path, text, says):
    with pytest.raises(CrossteachError, match=says) as raised:
        read(tmp_path, text)
    assert "\n" not in str(raised.value)


def test_a_plan_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_plan(tmp_path / "none.yaml")
