from __future__ import annotations

import json

import pytest
from terminal import built, job, refused, wisetune

from wisetune._version import __version__
from wisetune.fit.fit import Fit


@pytest.mark.usefixtures("finished")
def test_list_names_everything_that_was_built():
    done = wisetune("list", "out")
    assert (done.code, done.error) == (0, "")
    *lines, total = done.out.splitlines()
    rows = wisetune("list", "out", "--json").json
    assert [set(row) for row in rows] == [{"digest", "name", "made", "recipe", "size", "created"}] * len(rows)
    assert [line.split()[0] for line in lines] == [row["digest"] for row in rows]
    assert [line.split("MB  ")[1].split() for line in lines] == [f"{row['name']} {row['made']}".split() for row in rows]
    made = {row["name"]: row["made"] for row in rows}
    assert made["full fine-tuning, seed 0"] == "everything trained from the pre-trained weights: 2 epochs, lr 0.01"
    assert made["WiSE-FT-LP at alpha 0.5, seed 0"] == "a head trained on WiSE-FT at alpha 0.5: 3 epochs, lr 0.05"
    assert made["WiSE-FT at alpha 0.5, seed 0"] == "0.5 x the pre-trained weights + 0.5 x full fine-tuning (lr 0.01)"
    assert {row["name"] for row in rows} == {
        *(row["name"] for row in rows if row["name"].startswith("pre-trained point-mae#")),
        "full fine-tuning, seed 0",
        "linear probing, seed 0",
        "WiSE-FT at alpha 0, seed 0",
        "WiSE-FT at alpha 0.5, seed 0",
        "WiSE-FT-LP at alpha 0.5, seed 0",
        "WiSE-FT-LP at alpha 1, seed 0",
    }
    assert {row["recipe"].partition("(")[0] for row in rows} >= {"full", "linear", "wise"}
    assert total.startswith(f"{len(rows)} objects, ")


@pytest.mark.usefixtures("finished", "undrawn", "chatty")
def test_a_model_is_called_in_progress_and_listings_as_in_tables():
    story = "wise-ft-lp:alphas=1"
    done = wisetune(*job(story, fit="epochs=1,lr=0.01,augment=none", head_fit="epochs=1"))
    assert done.code == 0
    assert ": training fine-tuning, low rate, seed 0: epoch 1 of 1, loss " in done.error
    assert "measuring svm of fine-tuning, low rate, seed 0" in done.error
    assert "(lr " not in done.error
    names = [row["name"] for row in wisetune("list", "out", "--json").json]
    assert {"fine-tuning, low rate, seed 0", "full fine-tuning, seed 0", "LP-FT, seed 0", "linear probing, seed 0"} <= set(names)
    assert not any("(lr " in name for name in names), "those of the command before have their names too"
    (low,) = [row for row in wisetune("list", "out", "--json").json if row["name"].startswith("fine-tuning, low")]
    assert wisetune("show", "out", low["digest"]).out.startswith(f"{low['digest']}  fine-tuning, low rate, seed 0\n")


@pytest.mark.usefixtures("finished")
def test_show_repeats_what_the_run_found(first):
    done = wisetune("show", "out")
    assert (done.code, done.error) == (0, "")
    assert done.out.splitlines() == first.out.splitlines()[:-3]
    found = wisetune("show", "out", "--json").json
    assert [*found["sentences"], *found["notes"]] == done.out.splitlines()
    assert {"method", "alpha", "before", "after", "gain"} <= set(found)


TOKEN = "cls_token: no pre-trained value; at alpha=0 it is the fine-tuned model's, as at every alpha"


def test_show_of_a_preset_says_what_is_not_mixed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = wisetune("show", "point-mae-modelnet-1k")
    assert (done.code, done.error) == (0, "")
    first, backbone, size, takes, features, its_head, work, title, token, place, head, *_ = done.out.splitlines()
    assert (first, backbone) == ("point-mae-modelnet-1k: Point-MAE cfgs/finetune_modelnet.yaml", "backbone   point-mae")
    assert size == "size       21,825,792 values, and 273,960 of the head (--shapes lists them)"
    assert (takes, features) == ("takes      clouds of 1,024 points", "features   768 numbers (readout lead+max)")
    assert its_head == "head       mlp3, 40 outputs"
    assert work == "computes   2.391 G multiply-accumulates of one cloud as papers count them, 2.053 G as it is computed here"
    assert (title, token) == ("not mixed", f"  {TOKEN}")
    assert place == token.replace("cls_token", "cls_pos")
    assert head.endswith("(the head): " + token.partition(": ")[2] + " (WiSE-FT), or one trained on the mixed backbone (WiSE-FT-LP)")
    assert "  blocks.blocks.11.norm2.bias  [384]" in wisetune("show", "point-mae-modelnet-1k", "--shapes").out.splitlines()
    told = wisetune("show", "recon:width=32,heads=2,depth=1", "--json").json
    assert [part["part"] for part in told["not_mixed"]] == ["cls_head_finetune (the head)"]
    assert (told["backbone"], told["shapes"]["img_token"]) == ("recon:width=32,depth=1,heads=2", [1, 1, 32])


@pytest.mark.usefixtures("finished")
@pytest.mark.parametrize("name", ["act", "point-mae-mini"])
def test_a_run_s_folder_may_be_called_as_a_backbone_is(name, finished):
    (finished / "out").rename(finished / name)
    done = wisetune("show", f"./{name}")
    assert (done.code, done.error) == (0, "")
    assert done.out.splitlines() == [*wisetune("show", name, "--json").json["sentences"], *wisetune("show", name, "--json").json["notes"]]
    if name == "act":
        assert wisetune("show", "act:").out.startswith("act:  act\n")
    (finished / name).rename(finished / "out")
    (finished / name).mkdir()
    assert wisetune("show", name).out.startswith(name), "a folder that is no run hides no backbone"


@pytest.mark.usefixtures("finished")
def test_show_of_a_weights_file_is_what_it_holds():
    done = wisetune("show", "out/model.safetensors")
    assert (done.code, done.error) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith("out/model.safetensors  point-mae:points=64,")
    assert lines[4] == "head       linear, 4 classes: ball, box, plate, stick"
    assert wisetune("show", "out/model.safetensors", "--json").json["classes"] == ["ball", "box", "plate", "stick"]
    refused(wisetune("show", "solids.npz"), 65, "solids.npz: it is a zip file, but not one that torch.save wrote")


@pytest.mark.usefixtures("finished")
def test_show_of_an_object_is_how_it_was_made_what_was_measured_and_its_log():
    rows = {row["recipe"].partition("(")[0]: row for row in wisetune("list", "out", "--json").json}
    tuned = wisetune("show", "out", rows["full"]["digest"])
    assert (tuned.code, tuned.error) == (0, "")
    first, second, *lines = tuned.out.splitlines()
    assert first == f"{rows['full']['digest']}  full fine-tuning, seed 0"
    assert second.split(maxsplit=1) == ["recipe", rows["full"]["recipe"]]
    assert lines[0].strip().startswith("tune full from a fresh linear head: epochs 2, lr 0.01, seed 0, on data ")
    assert lines[1].strip().startswith("start: pre-trained point-mae#")
    assert lines[2].startswith("made     20")
    assert f"wisetune {__version__}" in lines[2]
    assert any(line.startswith("  accuracy on npz:solids.npz, test: ") and line.endswith("n 24") for line in lines)
    shape = "  blocks.blocks.0.attn.qkv.weight  [48, 16]\n"
    assert shape not in tuned.out
    assert shape in wisetune("show", "out", rows["full"]["digest"], "--shapes").out
    assert [line.split()[0] for line in tuned.out.splitlines() if "loss=" in line] == ["epoch=1", "epoch=2"]
    mixed = wisetune("show", "out", rows["wise"]["digest"], "--json").json
    assert {"digest", "name", "made", "recipe", "size", "created", "log", "extra", "stamp", "records"} == set(mixed)
    assert {"keys", "distance", "finite"} <= {line["audit"] for line in mixed["log"]}


@pytest.mark.usefixtures("finished")
def test_the_beginning_of_a_digest_is_enough_if_only_one_object_has_it():
    digests = [row["digest"] for row in wisetune("list", "out", "--json").json]
    for digest in digests:
        alone = next(digest[:n] for n in range(1, 17) if sum(other.startswith(digest[:n]) for other in digests) == 1)
        assert wisetune("show", "out", alone).out.startswith(digest)
    refused(wisetune("show", "out", ""), 2, f"{len(digests)} objects begin with ''; wisetune list out shows them all")
    refused(wisetune("show", "out", "zebra"), 2, "no objects begin with 'zebra'; wisetune list out shows them all")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("list", "nowhere"), "'nowhere' is not a run's folder: it has no store. Give the --out of wisetune run."),
        (("list", "scans", "--json"), "'scans' is not a run's folder: it has no store"),
        (("show", "nowhere"), "there is no 'nowhere/results.json'. Give the --out folder of a finished run"),
        (("show", "nowhere", "abc", "--json"), "'nowhere' is not a run's folder: it has no store"),
        (("show", "dapt"), "there is no run 'dapt'. dapt is a tuning: wisetune options dapt says what it is and what it takes."),
        (("show", "lora:rank=8"), "there is no run 'lora:rank=8'. lora is a tuning: wisetune options lora says"),
        (("list", "wise-ft"), "wise-ft is a story: wisetune options wise-ft says"),
    ],
)
@pytest.mark.usefixtures("finished")
def test_a_folder_that_is_no_run_is_refused(words, said):
    refused(wisetune(*words), 65, said)


def test_a_recipe_that_is_damaged_is_listed_by_what_the_manifest_says(finished):
    digest = next(iter(built()))
    (finished / "out/store/objects" / digest / "recipe.json").write_text("{}")
    (row,) = [row for row in wisetune("list", "out", "--json").json if row["digest"] == digest]
    assert row["made"] == row["recipe"]


def test_a_damaged_object_is_not_shown(finished):
    digest = next(iter(built()))
    weights = finished / "out/store/objects" / digest / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    done = wisetune("show", "out", digest)
    assert (done.code, done.out) == (65, "")
    assert f"object {digest} was damaged and has been moved aside; the run's command builds it again" in done.error
    assert digest not in built()


def test_a_store_of_a_newer_wisetune_is_refused(finished):
    file = finished / "out/store/store.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 99}))
    for command in ("list", "doctor"):
        refused(wisetune(command, "out"), 2, "has format 99", "pip install -U wisetune")


def test_show_of_a_setting_is_its_official_training_in_words():
    done = wisetune("show", "maskpoint-scanobjectnn")
    assert (done.code, done.error) == (0, "")
    for words in (
        "maskpoint-scanobjectnn: MaskPoint cfgs/finetune_scanobject_hardest.yaml",
        "300 epochs of batches of 32, AdamW with weight decay 0.05",
        "percentile 10 of the norms so far",
        "published  epochs=301,cosine=timm-late",
        "--fit official,reading=as_published",
        "select=best-on-test, and the results say so",
    ):
        assert words in done.out
    told = json.loads(wisetune("show", "maskpoint-scanobjectnn", "--json").out)["official_training"]
    assert set(told) == {"frozen", "as_intended", "as_published", "faults", "voting"}
    assert Fit.from_options(told["as_published"]) != Fit.from_options(told["as_intended"])
    assert all(f"- {fault}" in done.out for fault in told["faults"])
    assert "no official one" in wisetune("show", "point-mae-mini").out
    parts = wisetune("show", "act-shapenetpart").out
    assert "computes   15.445 G multiply-accumulates of one cloud" in parts
    assert "  label_conv_cls, propagation_0_cls, convs1_cls, " in parts
    assert "cls_head_finetune" not in parts
    assert "training   not here: wisetune trains no part segmentation" in parts
    refused(wisetune("show", "maskpoint-scanobject"), 65, "maskpoint-scanobject")
