from __future__ import annotations

import json
import os
import struct
import sys

import pytest
import safetensors
import safetensors.torch
import torch

import wisetune
from net_samples import TINY, TINY_OPTIONS, TINY_PLAIN, cloud, same_state
from wisetune.errors import BadFile, StorageError, UsageError, WeightsError
from wisetune.nets.create import create, fresh_backbone
from wisetune.nets.files.carded import content_digest
from wisetune.nets.files.save import load_backbone, load_model, read_card, save_backbone, save_model
from wisetune.nets.heads import LinearHead, Mlp3Head
from wisetune.nets.model import Model


@pytest.fixture
def model() -> Model:
    model = create("point-mae", classes=["bolt", "nut, hex", "größe"], head="mlp3:dropout=0.25,hidden=8", seed=4, **TINY_OPTIONS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.train()(cloud(7, 6, 64))
    return model.eval()


@pytest.fixture
def path(tmp_path, model):
    save_model(tmp_path / "m.safetensors", model, {"data": "scans", "accuracy": 0.5})
    return tmp_path / "m.safetensors"


def metadata(path) -> dict[str, object]:
    with safetensors.safe_open(path, "pt") as file:
        return json.loads(file.metadata()["wisetune"])


def rewrite(path, said: dict[str, object], tensors: dict[str, torch.Tensor] | None = None) -> None:
    """The same file with other metadata or tensors, as somebody else might write it."""
    known = {key: value for key, value in {**metadata(path), **said}.items() if value is not None}
    path.write_bytes(safetensors.torch.save(tensors or safetensors.torch.load_file(path), {"wisetune": json.dumps(known)}))


def test_round_trip(path, model):
    state = torch.get_rng_state()
    again = load_model(path)
    assert torch.equal(torch.get_rng_state(), state)
    assert same_state(again, model)
    assert again.backbone.spec == TINY
    assert (again.head_spec, again.classes) == (Mlp3Head(hidden=8, dropout=0.25), ("bolt", "nut, hex", "größe"))
    assert not again.training
    assert all(value.requires_grad for value in again.parameters())
    points = cloud(1, 2, 64)
    with torch.no_grad():
        assert torch.equal(again(points), model(points))
    again.train()(points).sum().backward()  # nothing was left on the meta device


def test_card(path, model):
    card = read_card(path)
    assert card.backbone == TINY
    assert card.about == {"data": "scans", "accuracy": 0.5}
    assert card.digest == content_digest(model.state_dict())
    assert card.version
    # Every option is spelled: a default that changes later must not change what this file is.
    assert str(metadata(path)["backbone"]).count("=") == 13


def test_a_loaded_model_can_be_saved_again_and_is_the_same_bytes(path, tmp_path):
    save_model(tmp_path / "again.safetensors", load_model(path), read_card(path).about)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_the_way_to_save_a_headless_model_is_public(tmp_path):
    bare = create("point-mae", **TINY_OPTIONS)
    with pytest.raises(UsageError, match=r"write its backbone: wisetune\.save_backbone\('mine.safetensors', model\.backbone\)"):
        save_model(tmp_path / "b.safetensors", bare)
    wisetune.save_backbone(tmp_path / "b.safetensors", bare.backbone)
    assert same_state(wisetune.resolve(tmp_path / "b.safetensors").load(), bare.backbone)
    with pytest.raises(UsageError, match=r"given PosixPath and Model; it takes a path and a backbone"):
        wisetune.save_backbone(tmp_path / "b.safetensors", bare)


def test_backbone_alone(tmp_path, path, model):
    digest = save_backbone(tmp_path / "b.safetensors", fresh_backbone(TINY_PLAIN, 3))
    again = load_backbone(tmp_path / "b.safetensors")
    assert same_state(again, fresh_backbone(TINY_PLAIN, 3))
    assert digest == content_digest(again.state_dict())
    assert not again.training
    assert same_state(load_backbone(path), model.backbone)  # the backbone of a model's file
    with pytest.raises(WeightsError, match="without a head: load it with load_backbone"):
        load_model(tmp_path / "b.safetensors")


def test_half_precision(tmp_path, model):
    small, large = tmp_path / "h.safetensors", tmp_path / "f.safetensors"
    digest = save_model(small, model, half=True)
    save_model(large, model)
    assert small.stat().st_size < 0.75 * large.stat().st_size
    again = load_model(small)
    assert {value.dtype for value in again.parameters()} == {torch.float32}
    assert digest == content_digest(again.state_dict())  # of the values, however they are stored
    for name, value in model.state_dict().items():
        wanted = value.half().float() if value.is_floating_point() else value
        assert torch.equal(again.state_dict()[name], wanted)
    model.state_dict()["norm.weight"][0] = 1e6
    with pytest.raises(WeightsError, match=r"'norm.weight' has values that are not finite"):
        save_model(small, model, half=True)
    assert load_model(small)  # what was there is there


def test_content_digest_is_of_names_shapes_and_values():
    base = {"a": torch.arange(6.0), "b": torch.tensor(3)}
    digest = content_digest(base)
    assert digest == content_digest({"b": torch.tensor(3), "a": torch.arange(6.0)})
    assert digest == content_digest({"a": torch.arange(12.0)[::2] / 2, "b": torch.tensor(3)})
    others = [
        {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3)},
        {"a": torch.arange(6.0), "c": torch.tensor(3)},
        {"a": torch.arange(6.0).double(), "b": torch.tensor(3)},
        {"a": torch.arange(6.0), "b": torch.tensor(4)},
        {"a": torch.nextafter(torch.arange(6.0), torch.tensor(9.0)), "b": torch.tensor(3)},
        {"a": torch.arange(6.0)},
    ]
    assert len({digest, *map(content_digest, others)}) == 7


def test_a_model_that_does_not_know_its_head_is_not_saved(tmp_path, model):
    with pytest.raises(UsageError, match="does not know its head"):
        save_model(tmp_path / "m.safetensors", Model(model.backbone, model.head))
    assert os.listdir(tmp_path) == []


def test_arguments_of_another_kind_are_told_with_the_right_call(tmp_path, model):
    right = r"it takes a path and a whole model with its head: wisetune\.save_model\('mine.safetensors', model\)"
    for given in ((model, tmp_path / "m.safetensors"), (tmp_path / "m.safetensors", model.backbone), (tmp_path / "m", model.state_dict())):
        with pytest.raises(UsageError, match=f"save_model was given {type(given[0]).__name__} and {type(given[1]).__name__}; {right}"):
            save_model(*given)
    for about in ("words", {"weights": torch.ones(2)}):
        with pytest.raises(UsageError, match="about= cannot be written beside the weights"):
            save_model(tmp_path / "m.safetensors", model, about)
    for read in (load_model, load_backbone):
        with pytest.raises(UsageError, match=f"{read.__name__} was given Model; it takes the path"):
            read(model)
    assert os.listdir(tmp_path) == []


def test_values_that_are_not_finite_are_not_saved(tmp_path, model):
    model.state_dict()["cls_head_finetune.8.bias"][0] = float("nan")
    with pytest.raises(WeightsError, match=r"cls_head_finetune.8.bias.*neither written nor read"):
        save_model(tmp_path / "m.safetensors", model)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there(tmp_path, model):
    with pytest.raises(StorageError, match="cannot be written"):
        save_model(tmp_path / "no" / "m.safetensors", model)


def test_a_failing_disk_leaves_the_old_file(path, model, monkeypatch):
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        save_model(path, model)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("at", [0.3, 0.6, 0.999])
def test_a_flipped_bit_is_found(path, at):
    data = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    data[start + int(at * (len(data) - start))] ^= 4
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=r"is damaged|not finite"):
        load_model(path)


def test_every_truncation_is_found(path):
    data = path.read_bytes()
    for length in range(0, len(data), len(data) // 40):
        path.write_bytes(data[:length])
        with pytest.raises(BadFile):
            load_model(path)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"format": None}, "format is 'unnamed', not 'wisetune-weights-1'"),
        ({"format": "wisetune-weights-2"}, "wisetune-weights-2"),
        ({"backbone": None}, "does not say what model"),
        ({"backbone": "point-mea"}, "no backbone 'point-mea'"),
        ({"backbone": "point-mae:width=1000000000"}, "at least 1 and at most 8192"),
        ({"backbone": "point-mae:depth=1000000000"}, "at least 1 and at most 256"),
        ({"backbone": "point-mae:groups=99999999999999999999"}, "at least 1 and at most 65536"),
        ({"backbone": "point-mae:width=" + "9" * 5000}, "whole number"),
        ({"backbone": "point-mae:width=" + "9" * 4000}, "at least 1 and at most 8192"),
        ({"backbone": "point-mae:tokenizer=1+1"}, "three widths"),
        ({"backbone": "point-mae:hello"}, "whole number"),
        ({"backbone": "point-mae:width=8192,heads=8,depth=256,tokenizer=8192+8192+8192"}, "is not the point-mae that it says"),
        ({"backbone": "antigravity:Spec"}, "outside wisetune, .* import antigravity first"),
        ({"backbone": "antigravity.fly:spec:a=1"}, "outside wisetune, .* import antigravity.fly first"),
        ({"backbone": "antigravity.Spec"}, "there is no backbone"),
        ({"backbone": "os.path:join"}, "is not a backbone"),
        ({"head": "mlp9"}, "no head 'mlp9'"),
        ({"head": "mlp3:hidden=100000000000"}, "at least 1 and at most 8192"),
        ({"head": "mlp3:hidden=" + "9" * 4000}, "at least 1 and at most 8192"),
        ({"head": "linear"}, "is not the point-mae that it says: 'cls_head_finetune"),
        ({"head": None}, "holds a backbone without a head"),
        ({"classes": None}, "does not say what model"),
        ({"classes": None, "head": "linear"}, "no 'classes'"),
        ({"classes": [1, 2, 3]}, "names that are not empty"),
        ({"classes": ["a", "a", "b"]}, "more than once"),
        ({"classes": ["a", "b"]}, r"'cls_head_finetune.8.weight' is \(3, 8\), not \(2, 8\)"),
        ({"classes": "bolt"}, "classes='bolt'"),
        ({"classes": {"a": 1}}, "does not say what model|names|is not the point-mae"),
        ({"classes": 10**30}, "from 1 to 1000000"),
        ({"backbone": 3}, "does not say what model"),
        ({"head": ["linear"]}, "does not say what model"),
        ({"about": 7}, "does not say what model"),
        ({"sha256": None}, "does not say what model"),
        ({"sha256": "0" * 64}, "is damaged"),
    ],
)
def test_metadata_that_lie(path, said, says):
    rewrite(path, said)
    with pytest.raises(WeightsError, match=says):
        load_model(path)
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state: state.pop("norm.bias"), r"'norm.bias' is None, not \(16,\)"),
        (lambda state: state.update(more=torch.ones(2)), "'more' is"),
        (lambda state: state.update({"norm.bias": torch.ones(17)}), r"'norm.bias' is \(17,\), not \(16,\)"),
        (lambda state: state.update({"norm.bias": torch.ones(16, dtype=torch.int64)}), "holds no such values"),
        (lambda state: state.update({"norm.bias": torch.full((16,), float("nan"))}), "'norm.bias' has values that are not finite"),
        (lambda state: state.update({"norm.bias": torch.ones(16) * 0.5}), "is damaged"),
    ],
)
def test_tensors_that_lie(path, change, says):
    state = safetensors.torch.load_file(path)
    change(state)
    rewrite(path, {}, state)
    with pytest.raises(WeightsError, match=says):
        load_model(path)


def test_a_hostile_spec_takes_no_memory(tmp_path):
    header = json.dumps(
        {
            "__metadata__": {
                "wisetune": json.dumps(
                    {
                        "format": "wisetune-weights-1",
                        "backbone": "point-mae:width=8192,heads=8,depth=256",
                        "head": "mlp3:hidden=8192",
                        "classes": [str(i) for i in range(5000)],
                        "version": "1",
                        "sha256": "0",
                        "about": {},
                    }
                )
            }
        }
    ).encode()
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(WeightsError, match="is not the point-mae that it says"):
        load_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize("text", ["{nope", "[" * 100_000, "[]", "3", '"x"', "{}"])
def test_metadata_that_are_no_card(path, text):
    path.write_bytes(safetensors.torch.save({"a": torch.ones(2)}, {"wisetune": text}))
    with pytest.raises(WeightsError, match=r"does not say what model|format is 'unnamed'"):
        load_model(path)


def test_other_files(tmp_path, model):
    torch.save(model.state_dict(), tmp_path / "w.pth")
    with pytest.raises(
        WeightsError,
        match=r"it is a PyTorch file or another archive. If it is a released checkpoint, wisetune show .*load_official.*save_model",
    ):
        load_model(tmp_path / "w.pth")
    safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"was not written by wisetune\. If it"):
        load_backbone(tmp_path / "w.safetensors")
    with pytest.raises(BadFile, match="no such file"):
        read_card(tmp_path / "no.safetensors")


def test_a_linear_head(tmp_path):
    model = create("point-mae", classes=2, head="linear", **TINY_OPTIONS)
    save_model(tmp_path / "m", model)
    assert load_model(tmp_path / "m").head_spec == LinearHead()
