import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossteach.errors import SpecError
from crossteach.specs import Spec, escape, literal, parse_spec


@pytest.mark.parametrize(
    ("text", "scheme", "rest", "weights", "options"),
    [
        ("glyphs", "glyphs", "", None, {}),
        ("glyphs?train_samples=10", "glyphs", "", None, {"train_samples": "10"}),
        ("npz:data/x.npz", "npz", "data/x.npz", None, {}),
        ("timm:resnet18@w.safetensors?size=64&mean=0,0.5", "timm", "resnet18", "w.safetensors", None),
        ("py:zoo.py:small@a/b.safetensors", "py", "zoo.py:small", "a/b.safetensors", {}),
        ("py:me@home/zoo.py:small@w.pt", "py", "me@home/zoo.py:small", "w.pt", {}),
        ("npz:x?a=b=c&d=", "npz", "x", None, {"a": "b=c", "d": ""}),
        ("npz:x?&a=1&", "npz", "x", None, {"a": "1"}),
        ("", "", "", None, {}),
        ("timm:resnet18@runs/a@b.safetensors", "timm", "resnet18", "runs/a@b.safetensors", {}),
        ("py:zoo.py:small@runs/a@b.pt?width=3", "py", "zoo.py:small", "runs/a@b.pt", {"width": "3"}),
        ("py:me@home/zoo.py:small?pretrained=false", "py", "me@home/zoo.py:small", None, {"pretrained": "false"}),
        ("py:pack.age:small@C:/w.pt", "py", "pack.age:small", "C:/w.pt", {}),
        ("py:a:b c.py:small@w.pt", "py", "a:b c.py:small", "w.pt", {}),
        ("py:odd%40x:y@w.pt", "py", "odd@x:y", "w.pt", {}),
        ("npz:what%3F now%3f.npz?class_names=a%26b,c%3Dd", "npz", "what? now?.npz", None, {"class_names": "a&b,c=d"}),
        ("npz:100%/50%25.npz", "npz", "100%/50%.npz", None, {}),
    ],
)
def test_a_spec_is_taken_apart(text, scheme, rest, weights, options):
    options = {"size": "64", "mean": "0,0.5"} if options is None else options
    assert parse_spec(text) == Spec(text, scheme, rest, weights, options)


def test_an_option_without_a_value_is_refused():
    with pytest.raises(SpecError, match=r"'size' of 'timm:x.size' must read KEY=VALUE"):
        parse_spec("timm:x?size")


@given(st.text(min_size=1, max_size=40))  # 4 bytes a character: a name of a file has at most 255
def test_an_escaped_path_is_read_as_it_is(path):
    for text in (f"run:{escape(path)}", f"npz:{escape(path)}?selection_from=test"):
        assert str(parse_spec(text).rest) == path
    assert parse_spec(f"timm:resnet18@{escape(path)}?size=3").weights == path
    assert parse_spec(f"py:{escape(path)}.py:net@{escape(path)}").rest == f"{path}.py:net"
    assert parse_spec(f"py:zoo.py:net@{escape(path)}").weights == path


def test_a_path_of_data_may_hold_an_at():
    assert str(parse_spec("npz:me@home/a@b.npz").path) == "me@home/a@b.npz"


def test_what_is_said_twice_or_of_nothing_is_refused():
    with pytest.raises(SpecError, match="gives the option 'size' twice"):
        parse_spec("timm:x?size=3&size=4")
    with pytest.raises(SpecError, match=r"'=3' of .* must read KEY=VALUE .*%3F"):
        parse_spec("timm:x?=3")


def test_unknown_options_are_refused_with_the_known_ones():
    spec = parse_spec("npz:x?colour=red&size=3")
    spec.refuse_unknown({"colour", "size"})
    with pytest.raises(SpecError, match="option 'colour', which npz: does not know; it takes shape, size"):
        spec.refuse_unknown({"size", "shape"})
    with pytest.raises(SpecError, match="it takes none"):
        spec.refuse_unknown(set())


def test_options_are_read_as_what_they_must_be():
    spec = parse_spec("npz:x?n=3&share=0.5&yes=True&no=false&word=ab")
    assert (spec.number("share", 1.0), spec.number("n", 1.0), spec.number("missing", 7.0)) == (0.5, 3.0, 7.0)
    assert (spec.whole("n", 1), spec.whole("missing", 7)) == (3, 7)
    assert (spec.flag("yes", False), spec.flag("no", True)) == (True, False)
    assert spec.flag("missing", True) and not spec.flag("missing", False)
    with pytest.raises(SpecError, match=r"option word of 'npz:.*' must be a number, not 'ab'"):
        spec.number("word", 1.0)
    with pytest.raises(SpecError, match=r"option share of 'npz:.*' must be a whole number, not '0.5'"):
        spec.whole("share", 1)
    with pytest.raises(SpecError, match=r"option n of 'npz:.*' must be true or false, not '3'"):
        spec.flag("n", True)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("3", 3),
        ("-3", -3),
        ("0.5", 0.5),
        ("1e-3", 0.001),
        ("3.0", 3.0),
        ("true", True),
        ("False", False),
        ("none", None),
        ("NULL", None),
        ("gelu", "gelu"),
        ("", ""),
        ("1,2", "1,2"),
        ("0x10", "0x10"),
    ],
)
def test_literals(word, value):
    found = literal(word)
    assert found == value and type(found) is type(value)


@given(st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.none()))
def test_a_literal_is_read_as_it_prints(value):
    found = literal(str(value))
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("spec", ["npz:" + "a" * 256, "folder:x/" + "é" * 128, "py:zoo.py:f@" + "w" * 300 + "?size=8"])
def test_a_name_that_no_file_can_have_is_refused_and_not_asked_for(spec):
    """The system answers such a question with an error of its own."""
    with pytest.raises(SpecError, match="more than 255 bytes"):
        parse_spec(spec)


def test_long_patterns_and_paths_of_many_folders_are_read():
    assert len(parse_spec("wds:{" + ",".join(f"{k:04}" for k in range(99)) + "}.tar").rest) > 255
    assert len(parse_spec("npz:" + "folder/" * 99 + "a.npz").rest) > 255
