"""Every experiment runs from its command to its files, and says what it lacks."""

import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from e2fashion.ablation.report import compare_runs
from e2fashion.records import RecordContext, read_records
from e2fashion.run_folder import RunFolder
from e2fashion.types import E2FashionError
from experiments.common.command import main, run
from experiments.common.experiment import ABLATIONS, ROOT, Experiment, run_config
from experiments.common.tables import retrieval_view

NAMES = sorted(file.stem for file in (ROOT / "experiments").glob("[a-z]*.py"))


def experiment(name: str) -> Experiment:
    found: Experiment = import_module(f"experiments.{name}").EXPERIMENT
    return found


TABLE = experiment("table1_full_candidates")


SOME_ROWS = {
    "ablation_components": ("--only", "e2,no_warm_up_stage"),
    "batch_size": ("--only", "e2_32,e2_64,clip_ft_32,clip_ft_64"),
    "ablation_selection": ("--only", "clip_ft,soft"),
    "forgetting": ("--only", "clip_ft,lora"),
    "kagl_pretrained_trials": ("--only", "e2,e2_unseen_at_first"),
    "learning_curve": ("--only", "clip_ft_half,clip_ft,heads_half"),
    "selection_uses": ("--only", "clip_ft,soft"),
    "table5_batch_size": ("--only", "e2_32,e2_64,clip_ft_32,clip_ft_64"),  # two points on each curve
    "table10_tokens_per_entity": ("--only", "one,two"),
}
"""Where the rows are many and alike; all of them are read by tests/ablation."""


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_is_called_like_its_file_and_says_how_it_is_run(name: str) -> None:
    text = import_module(f"experiments.{name}").__doc__ or ""
    assert experiment(name).name == name
    assert f"python -m experiments.{name} --data" in text
    assert "Cost: " in text
    assert "Deviations: " in text


@pytest.mark.parametrize("name", NAMES)
def test_the_rows_of_an_experiment_have_configurations(name: str) -> None:
    found = experiment(name)
    titles = list(OmegaConf.load(ABLATIONS / f"{found.ablation}.yaml").rows) if found.ablation else list(found.rows)
    baseline = found.baseline or ()
    assert (
        {baseline} <= set(titles) if isinstance(baseline, str) else {*baseline, *dict(baseline).values()} <= set(titles)
    )
    for prefix in (prefix for recipes in found.recipes.values() for prefix in recipes.values()):
        assert all(run_config(prefix, system).is_file() for system in found.rows.values())


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_smokes(name: str, smoke_catalogue: Path, smoke_output: Path) -> None:
    given = ["--smoke", "--data", f"synthfashion={smoke_catalogue}", "--output", str(smoke_output)]
    files = run(experiment(name), *given, *SOME_ROWS.get(name, ()))
    assert all(file.stat().st_size for file in files)


def test_rows_are_compared_with_their_own_baselines_under_the_protocol_of_the_table(
    smoke_catalogue: Path, smoke_output: Path
) -> None:
    given = ["--smoke", "--data", f"synthfashion={smoke_catalogue}", "--output", str(smoke_output), "--only"]
    pairs = {"heads_half": "clip_ft_half", "clip_ft_half": "clip_ft"}
    content = run(replace(experiment("learning_curve"), baseline=pairs), *given, "clip_ft_half,clip_ft,heads_half")[0]
    text = content.read_text()
    assert "| heads_half - clip_ft_half | SumR |" in text
    assert "| clip_ft_half - clip_ft | SumR |" in text
    assert "Difference to the second model in percentage points, protocol `full_regions` on test" in text


def test_a_smoke_needs_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(TABLE, ["--smoke", "--scale", "small", "--only", "CLIP"]) == 0
    assert "smoke: table1_full_candidates (small) wrote" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_seeds_become_mean_and_spread_and_the_table_can_be_drawn_again(
    smoke_catalogue: Path, smoke_output: Path
) -> None:
    given = ["--smoke", "--data", f"synthfashion={smoke_catalogue}", "--output", str(smoke_output), "--seeds", "0,1"]
    few = replace(TABLE, rows={"CLIP": "clip", "E2": "e2"}, baseline="CLIP")
    files = run(few, *given)
    content = files[0].read_text()
    assert " ± " in content
    assert "| E2 (Fashion-Gen, published) | 62.8 | n/a | n/a | 64.5 |" in content
    assert content.startswith("# Full candidates: SynthFashion (drawn)\n")
    latex = files[1].read_text()
    assert latex.startswith("% SMOKE TEST, the numbers are meaningless; data: SynthFashion (drawn); scale: ")
    assert "seeds: 0, 1; protocol: full" in latex
    assert {record.seed for record in read_records(files[-1])} == {0, 1}
    assert "Difference to CLIP in percentage points, protocol `full` on test" in content
    assert {record.task for record in read_records(files[-1])} >= {"retrieval", "retrieval_difference", "model"}
    assert run(few, *given, "--view") == files
    assert files[0].read_text() == content


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "needs --data fashiongen=<catalogue>.*validation.h5.*e2fashion data prepare configs/data/fashiongen.yaml"),
        (["--scale", "small"], "needs one of: --data kagl=<catalogue>, --data synthfashion"),
        (["--scale", "large"], "--scale is 'large'; table1_full_candidates has: paper, small, pretrained"),
        (["--data", "fashiongen"], "--data is 'fashiongen'; write --data <name>=<catalogue>"),
        (["--data", "deepfashion=x"], "data set 'deepfashion'; there are: fashiongen"),
        (["--data", "kagl=x"], "no recipe for 'kagl' at scale 'paper'"),
        (["--data", "kagl=x", "--data", "kagl=y"], "names 'kagl' twice: x and y"),
        (["--scale", "small", "--data", "kagl=x", "--data", "synthfashion=y"], "one data set at a time"),
        (["--data", "fashiongen=nowhere"], "nowhere is not a catalogue.*given by Fashion-Gen's authors"),
        (["--seeds", "0,zero"], "--seeds is '0,zero'"),
        (["--seeds", "1,1"], "--seeds is '1,1'"),
        (["fast"], "'fast' is neither a flag nor key=value"),
    ],
)
def test_what_is_missing_or_wrong_is_named(arguments: list[str], message: str) -> None:
    with pytest.raises(E2FashionError, match=f"(?s){message}"):
        run(TABLE, *arguments)


@pytest.mark.parametrize(("name", "row"), [("table1_full_candidates", "CLIP"), ("table8_drop_entity", "e2")])
def test_a_table_without_its_runs_says_how_to_make_them(
    name: str, row: str, smoke_catalogue: Path, tmp_path: Path
) -> None:
    given = ["--smoke", "--data", f"synthfashion={smoke_catalogue}", "--output", str(tmp_path), "--view"]
    with pytest.raises(E2FashionError, match=rf"row '{row}', seed 0 has no records at .* without --view"):
        run(experiment(name), *given)


def test_a_row_that_the_base_has_nothing_for_is_named(smoke_catalogue: Path, smoke_output: Path) -> None:
    given = ["--smoke", "--data", f"synthfashion={smoke_catalogue}", "--output", str(smoke_output)]
    content = run(experiment("table8_drop_entity"), *given)[0].read_text()
    assert "Not in the table: `no_article_type`: removes model.entities.article_type" in content
    assert "| no_composition |" in content


def test_a_run_without_ranks_has_to_be_evaluated_again(smoke_catalogue: Path, tmp_path: Path) -> None:
    given = ["--smoke", "--data", f"synthfashion={smoke_catalogue}", "--output", str(tmp_path)]
    pair = replace(TABLE, rows={"CLIP": "clip", "CLIP-FT": "clip_ft"}, baseline="CLIP")
    run(pair, *given)
    for file in tmp_path.rglob("full-test-*.safetensors"):
        file.unlink()
    with pytest.raises(E2FashionError, match=r"row 'CLIP', seed 0 has no records at .* same command without --view"):
        run(pair, *given, "--view")


def test_runs_without_ranks_cannot_be_compared(tmp_path: Path) -> None:
    runs = [RunFolder(tmp_path)]
    context = RecordContext(run="", model="e2", split="test", data_fingerprint="f" * 64)
    with pytest.raises(
        E2FashionError, match=r"has kept no ranks of test .* evaluate it again with `e2fashion evaluate"
    ):
        compare_runs(runs, runs, context, "clip_ft")


def test_finished_runs_are_taken_from_elsewhere(smoke_catalogue: Path, tmp_path: Path) -> None:
    given = ["--smoke", "--data", f"synthfashion={smoke_catalogue}", "--output"]
    pair = replace(TABLE, rows={"CLIP": "clip", "CLIP-FT": "clip_ft"}, baseline="CLIP")
    first = run(pair, *given, str(tmp_path / "first"))
    kept = tmp_path / "kept" / "records.jsonl"
    reuse = ["--reuse", str(tmp_path / "first" / "runs"), "--records", str(kept)]
    second = run(pair, *given, str(tmp_path / "second"), *reuse)
    assert second[0].read_text() == first[0].read_text()
    assert kept == second[-1]
    assert kept.read_text() == first[-1].read_text()
    assert not list((tmp_path / "second").rglob("model"))


def test_an_ablation_takes_finished_runs_from_elsewhere(
    smoke_catalogue: Path, smoke_output: Path, tmp_path: Path
) -> None:
    given = ["--smoke", "--data", f"synthfashion={smoke_catalogue}", "--output"]
    pretrained = replace(experiment("kagl_pretrained"), view=retrieval_view("full"))
    first = run(pretrained, *given, str(smoke_output))
    second = run(pretrained, *given, str(tmp_path), "--reuse", str(smoke_output), "--jobs", "2")
    assert second[0].read_text() == first[0].read_text()
    assert not list(tmp_path.rglob("model"))
    arguments = [*given, str(tmp_path), "--reuse", str(smoke_output), "--only", "clip_ft,e2"]
    text = run(pretrained, *arguments)[0].read_text()
    assert "| clip_ft |" in text
    assert "| filip_ft |" not in text
    assert re.search(r"^Not in the table: .*`filip_ft`.*: left out by --only$", text, re.MULTILINE)


def test_seeds_of_several_calls_are_merged(smoke_catalogue: Path, smoke_output: Path, tmp_path: Path) -> None:
    given = ["--smoke", "--data", f"synthfashion={smoke_catalogue}", "--output"]
    pair = replace(TABLE, rows={"CLIP": "clip", "E2": "e2"}, baseline="CLIP")
    files = run(pair, *given, str(smoke_output), "--seeds", "0,1")
    together = {file.name: file.read_text() for file in files}
    kept = tmp_path / "seed0.jsonl"
    run(pair, *given, str(smoke_output), "--view", "--records", str(kept))
    reuse = ["--reuse", str(smoke_output), "--merge", str(kept), "--view", "--seeds"]
    merged = {file.name: file.read_text() for file in run(pair, *given, str(tmp_path / "b"), *reuse, "0,1")}
    table, report = "table1_full_candidates.csv", "table1_full_candidates.md"
    assert sorted(merged[table].splitlines()) == sorted(together[table].splitlines())
    assert "the hits of seeds 1 pooled" in merged[report]
    assert "the hits of seeds 0, 1 pooled" in together[report]
    swapped = run(pair, *given, str(tmp_path / "c"), *reuse, "0,1", "--baseline", "E2")
    assert "Difference to E2 in percentage points" in swapped[0].read_text()
    alone = run(pair, *given, str(tmp_path / "d"), *reuse, "0", "--only", "E2")  # no run is looked for
    assert {record.model for record in read_records(alone[-1])} == {"E2"}
    with pytest.raises(E2FashionError, match=r"--baseline is 'FILIP-FT'; rows with runs here: CLIP, E2\."):
        run(pair, *given, str(tmp_path / "e"), *reuse, "1", "--baseline", "FILIP-FT")
    with pytest.raises(
        E2FashionError, match=r"--merge names .*seed0.jsonl, which holds no record of the rows CLIP/seed1"
    ):
        run(pair, *given, str(tmp_path / "f"), *reuse, "1", "--only", "CLIP/seed1")


def test_a_figure_keeps_no_records(smoke_catalogue: Path, smoke_output: Path, tmp_path: Path) -> None:
    given = ["--smoke", "--data", f"synthfashion={smoke_catalogue}", "--output", str(smoke_output)]
    with pytest.raises(E2FashionError, match="figure_brand_frequency keeps no records: leave out --records"):
        run(experiment("figure_brand_frequency"), *given, "--records", str(tmp_path / "records.jsonl"))
