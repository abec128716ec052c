from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from e2fashion.config import config_of_path, load_config, options_for, read_yaml, save_config
from e2fashion.data.config import load_prepare_config
from e2fashion.options import renamed
from e2fashion.training.config import EntityConfig, RunConfig
from e2fashion.training.identity import run_identity
from e2fashion.types import E2FashionError
from tests.faults import kills

MINIMAL = ["data=catalogue"]


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def test_overrides_win_over_the_file_and_the_file_over_its_bases(tmp_path: Path) -> None:
    write(tmp_path, "low.yaml", "seed: 1\nname: low\nloader: {batch_size: 8, workers: 3}\n")
    write(tmp_path, "sub/mid.yaml", "base: ../low.yaml\nname: mid\nloader: {batch_size: 16}\n")
    top = write(tmp_path, "top.yaml", "base: [sub/mid.yaml]\nloader: {batch_size: 32}\n")
    config = load_config(RunConfig, top, [*MINIMAL, "loader.batch_size=64"])
    assert (config.seed, config.name, config.loader.workers, config.loader.batch_size) == (1, "mid", 3, 64)


def test_a_configuration_that_was_loaded_before_is_read_anew_and_shares_nothing(tmp_path: Path) -> None:
    low = write(tmp_path, "low.yaml", "seed: 1\n")
    top = write(tmp_path, "top.yaml", "base: low.yaml\nmodel: {entities: {brand: {tokens: 3}}}\n")
    words = [*MINIMAL, "train.betas=[0.5,0.6]"]
    first, changed = load_config(RunConfig, top, words), load_config(RunConfig, top, words, {"seed": 5})
    first.model.entities["brand"].tokens = 4
    first.model.entities["season"] = EntityConfig()
    first.train.betas.append(0.7)
    again = load_config(RunConfig, top, words)
    assert (again.seed, changed.seed, again.train.betas) == (1, 5, [0.5, 0.6])
    assert {name: entity.tokens for name, entity in again.model.entities.items()} == {"brand": 3}
    low.write_text("seed: 2\n", encoding="utf-8")
    assert load_config(RunConfig, top, words).seed == 2


def test_a_misspelled_key_names_the_right_one(tmp_path: Path) -> None:
    file = write(tmp_path, "run.yaml", "train: {precison: bf16}\n")
    with pytest.raises(E2FashionError, match=r"run\.yaml, key 'train\.precison'.*Did you mean.*'precision'"):
        load_config(RunConfig, file, MINIMAL)


def test_a_misspelled_override_is_an_error() -> None:
    with pytest.raises(E2FashionError, match=r"command line \(loader\.batchsize=3\).*batch_size"):
        load_config(RunConfig, None, [*MINIMAL, "loader.batchsize=3"])


@pytest.mark.parametrize(("word", "keys"), [("qqq=1", "name, seed, data"), ("loader.qqq=1", "batch_size, ")])
def test_a_key_that_resembles_none_is_answered_with_those_that_exist(word: str, keys: str) -> None:
    with pytest.raises(E2FashionError, match=rf"Key 'qqq' not in '\w+'\. Its keys: {keys}"):
        load_config(RunConfig, None, [*MINIMAL, word])


def test_a_wrong_type_names_key_and_value() -> None:
    with pytest.raises(E2FashionError, match=r"loader\.batch_size.*'many'"):
        load_config(RunConfig, None, [*MINIMAL, "loader.batch_size=many"])


def test_a_wrong_choice_lists_the_choices() -> None:
    with pytest.raises(E2FashionError, match="fp32"):
        load_config(RunConfig, None, [*MINIMAL, "train.precision=bf17"])


def test_a_missing_value_says_how_to_give_it() -> None:
    with pytest.raises(E2FashionError, match="data=<value>"):
        load_config(RunConfig)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match=r"nowhere\.yaml' does not exist"):
        load_config(RunConfig, tmp_path / "nowhere.yaml", MINIMAL)


def test_the_repository_s_configurations_are_missed_outside_of_a_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        E2FashionError, match=r"'configs/run/a\.yaml' does not exist\. configs/ belongs to the repository"
    ):
        config_of_path(RunConfig, Path("configs/run/a.yaml"), [])
    with pytest.raises(E2FashionError, match=r"run the command in a clone of it"):
        read_yaml("configs/data/a.yaml")
    (tmp_path / "configs").mkdir()
    with pytest.raises(E2FashionError, match=r"Give the path of a YAML file"):
        read_yaml("configs/data/a.yaml")


def test_a_cycle_of_bases_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "base: b.yaml\n")
    write(tmp_path, "b.yaml", "base: a.yaml\n")
    with pytest.raises(E2FashionError, match=r"a\.yaml -> b\.yaml -> a\.yaml"):
        load_config(RunConfig, tmp_path / "a.yaml", MINIMAL)


@pytest.mark.parametrize("base", ["3", "{a: b}", "[a.yaml, 3]", "null"])
def test_a_base_is_a_path_or_a_list_of_paths(tmp_path: Path, base: str) -> None:
    with pytest.raises(E2FashionError, match=r"top\.yaml: base is .*; write a path, or a list of paths"):
        load_config(RunConfig, write(tmp_path, "top.yaml", f"base: {base}\n"), MINIMAL)


def test_a_base_that_cannot_be_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match=r"does not exist\. Give the path of a YAML file"):
        load_config(RunConfig, write(tmp_path, "top.yaml", 'base: "\\0"\n'), MINIMAL)
    with pytest.raises(E2FashionError, match=r"aaa cannot be read \(.*File name too long"):
        load_config(RunConfig, write(tmp_path, "top.yaml", f"base: {'a' * 3_000}\n"), MINIMAL)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("names: [a, [b]]", r"names\[1\]"),
        ("weights: [{a: 1}]", r"weights\[0\]"),
        ("inner: {shots: [[1], [2]]}", r"inner\.shots\[0\]"),
        ("numbers: {a: [1]}", r"numbers\.a"),
    ],
)
def test_a_list_or_mapping_in_the_place_of_a_value_is_refused(text: str, key: str, tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match=f"'{key}' is a list or a mapping, where a single value belongs"):
        load_config(Lists, write(tmp_path, "top.yaml", f"{text}\n"), [])


def test_a_list_where_a_mapping_belongs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match=r"top\.yaml"):
        load_config(RunConfig, write(tmp_path, "top.yaml", "model: [1]\n"), MINIMAL)


def test_a_link_to_itself_is_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    with pytest.raises(E2FashionError, match=r"loop\.yaml' does not exist"):
        load_config(RunConfig, tmp_path / "loop.yaml", MINIMAL)


def test_a_list_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match="holds a list"):
        load_config(RunConfig, write(tmp_path, "list.yaml", "- a\n"), MINIMAL)


def test_an_override_without_a_value_is_explained() -> None:
    with pytest.raises(E2FashionError, match="write key=value"):
        load_config(RunConfig, None, [*MINIMAL, "seed"])


def test_an_entity_can_be_removed_by_an_override(tmp_path: Path) -> None:
    file = write(tmp_path, "run.yaml", "model: {entities: {brand: {tokens: 2}, season: {}}}\n")
    config = load_config(RunConfig, file, [*MINIMAL, "model.entities.brand=null"])
    assert config.model.entities["brand"] is None
    assert config.model.entities["season"] is not None


def test_an_empty_mapping_removes_every_entity_and_adds_none(tmp_path: Path) -> None:
    file = write(tmp_path, "run.yaml", "model: {entities: {brand: {tokens: 2}, season: {tokens: 3}}}\n")
    assert load_config(RunConfig, file, [*MINIMAL, "model.entities={}"]).model.entities == {}
    assert load_config(RunConfig, file, MINIMAL, {"model.entities": {}}).model.entities == {}
    above = write(tmp_path, "above.yaml", "base: run.yaml\nmodel: {entities: {}, scratch: {}}\n")
    assert load_config(RunConfig, above, MINIMAL).model.entities == {}
    merged = load_config(RunConfig, above, [*MINIMAL, "model.entities={hue: {}}"]).model.entities
    assert list(merged) == ["hue"]
    kept = load_config(RunConfig, file, [*MINIMAL, "model.entities={season: {}}"]).model.entities
    assert (list(kept), kept["season"]) == (["brand", "season"], EntityConfig(tokens=3))


def test_changes_come_last_and_are_named_in_errors(tmp_path: Path) -> None:
    file = write(tmp_path, "run.yaml", "loss: {region_weight: 0.5}\n")
    words = [*MINIMAL, "loss.region_weight=0.25"]
    assert load_config(RunConfig, file, words, {"loss.region_weight": 0.75}).loss.region_weight == 0.75
    with pytest.raises(E2FashionError, match=r"row 'a', key 'loss\.region_wait'"):
        load_config(RunConfig, file, words, {"loss.region_wait": 0.75}, "row 'a'")


def test_what_computes_the_same_has_one_identity() -> None:
    def identity(*overrides: str) -> str:
        return run_identity(load_config(RunConfig, None, [*MINIMAL, *overrides]), "fingerprint")

    plain = identity("loss.region_weight=0")
    assert identity("model.entities={brand: null}") == identity("model.fusion_layers=[3]", "model.noise=none") == plain
    assert identity("model.entities={brand: {}}") != plain
    stage, brand = "train.stages.main={epochs: 1, learning_rate: 0.1}", "model.entities={brand: {}}"
    annealed = [stage, "train.stages.main.temperature_end=0.1"]
    assert identity(*annealed) == identity(stage, "loss.region_weight=0")
    assert identity(brand, *annealed) != identity(brand, stage)
    assert identity("model.entities={brand: {}}", "model.noise=none") != identity("model.entities={brand: {}}")


def test_saving_and_loading_gives_the_same_configuration(tmp_path: Path) -> None:
    config = load_config(RunConfig, None, [*MINIMAL, "train.stages.main={epochs: 2, learning_rate: 0.1}"])
    save_config(config, tmp_path / "config.yaml")
    assert load_config(RunConfig, tmp_path / "config.yaml") == config


def test_identity_ignores_paths_and_threads_but_not_the_recipe() -> None:
    def identity(*overrides: str) -> str:
        return run_identity(load_config(RunConfig, None, [*MINIMAL, *overrides]), "fingerprint")

    same = {identity(), identity("threads=1"), identity("output=elsewhere"), identity("loader.workers=2")}
    same |= {identity("logging.to=[]"), identity("logging.figures_every=0")}
    assert len(same) == 1
    assert identity("seed=1") not in same
    assert identity("image.flip=true") not in same
    assert run_identity(load_config(RunConfig, None, MINIMAL), "other data") not in same


def test_identity_counts_all_processes_however_they_are_spread() -> None:
    def identity(*overrides: str) -> str:
        return run_identity(load_config(RunConfig, None, [*MINIMAL, *overrides]), "fingerprint")

    assert identity("nodes=1", "devices=1") == identity()
    assert identity("nodes=2", "devices=4") == identity("devices=8") != identity("devices=4")


@pytest.mark.parametrize(("word", "meant"), [("ouput=out", "output"), ("outptu=out", "output")])
def test_a_misspelled_key_that_must_be_given_is_recognized(word: str, meant: str) -> None:
    with pytest.raises(E2FashionError, match=f"'{meant}' is not given, but .*Did you mean: '{meant}'"):
        load_prepare_config(None, ["source=kagl", "path=here", word])


def test_prepare_keys_and_source_options_are_told_apart(tmp_path: Path) -> None:
    file = write(tmp_path, "data.yaml", "source: folder\ncolumns: {product_id: sku}\non_error: skip\n")
    config, options = load_prepare_config(file, ["output=out", "path=here"])
    assert (config.source, config.on_error, config.output) == ("folder", "skip", "out")
    assert options == {"columns": {"product_id": "sku"}, "path": "here"}


@dataclass
class Inner:
    shots: list[int] = field(default_factory=lambda: [1])
    choices: list[Literal["a", "b"]] = field(default_factory=list)


@dataclass
class Lists:
    names: list[str] = field(default_factory=lambda: ["x"])
    weights: list[float] = field(default_factory=list)
    flags: list[bool] = field(default_factory=list)
    optional: list[int] | None = None
    inner: Inner = field(default_factory=Inner)
    numbers: dict[str, int] = field(default_factory=dict)
    named: dict[str, Inner | None] = field(default_factory=dict)


@pytest.mark.parametrize(
    "words",
    [
        ["names=a, b ,'c, d'", "weights=0.5,1", "flags=true,no", "optional=3,4", "inner.shots=1,4,16"],
        ["names=[a,b,'c, d']", "weights=[0.5, 1]", "flags=[true,no]", "optional=[3,4]", "inner.shots=[1, 4, 16]"],
    ],
)
def test_a_list_may_be_given_as_a_text_with_commas(words: list[str], tmp_path: Path) -> None:
    expected = Lists(["a", "b", "c, d"], [0.5, 1.0], [True, False], [3, 4], Inner([1, 4, 16], ["b", "a"]))
    expected.named["one"] = Inner(choices=["a", "b"])
    words = [*words, "inner.choices=b,a", "named.one={choices: 'a,b'}"]
    assert load_config(Lists, None, words) == expected
    lines = "names: a, b ,'c, d'\nweights: 0.5, 1\nflags: true,no\noptional: 3,4\n"
    lines += "inner: {shots: '1,4,16', choices: 'b,a'}\nnamed: {one: {choices: 'a,b'}}\n"
    file = write(tmp_path, "lists.yaml", lines)
    assert load_config(Lists, file) == expected
    save_config(expected, tmp_path / "config.yaml")
    assert load_config(Lists, tmp_path / "config.yaml") == expected
    changed = load_config(Lists, file, (), {"names": "c,d", "inner.shots": 7})
    assert (changed.names, changed.inner.shots) == (["c", "d"], [7])


def test_one_value_is_a_list_of_one_and_nothing_an_empty_list(tmp_path: Path) -> None:
    file = write(tmp_path, "lists.yaml", "names: 010\nweights: 2\ninner: {shots: 4}\noptional: null\n")
    assert load_config(Lists, file) == Lists(["010"], [2.0], inner=Inner([4]))
    assert load_config(Lists, file, ["names=", "weights=", "inner.shots="]) == Lists([], inner=Inner([]))
    assert load_config(Lists, write(tmp_path, "empty.yaml", "names: ''\n")).names == []
    linked = write(tmp_path, "linked.yaml", "weights: ${inner.shots}\ninner: {shots: 1,2}\n".replace("1,2", "'1,2'"))
    assert load_config(Lists, linked).weights == [1.0, 2.0]


def test_a_wrong_item_of_a_list_is_named() -> None:
    with pytest.raises(E2FashionError, match=r"inner\.choices\[1\]': Invalid value 'c', expected one of \['a', 'b'\]"):
        load_config(Lists, None, ["inner.choices=a,c"])
    with pytest.raises(
        E2FashionError, match=r"inner\.shots.*Value 'four' of type 'str' could not be converted to Integer"
    ):
        load_config(Lists, None, ["inner.shots=1,four"])


def test_options_may_hold_lists_as_texts_too() -> None:
    assert options_for("part", Inner, {"shots": "1,2", "choices": "a"}) == {"shots": [1, 2], "choices": ["a"]}


def test_a_list_in_place_of_a_value_of_options_is_one_error() -> None:
    @dataclass
    class Part:
        columns: dict[str, str] = field(default_factory=dict)

    assert options_for("part", Part, {"columns": {"image": "file"}}) == {"columns": {"image": "file"}}
    with pytest.raises(E2FashionError, match=r"^part: 'columns\.image' is a list or a mapping, where a single value"):
        options_for("part", Part, {"columns": {"image": ["file", "picture"]}})


@dataclass
class Renamed:
    modes: list[Literal["a", "b"]] = renamed("arms", "a", "b")


@pytest.mark.parametrize("words", [["arms=b"], ["arms=[b]"], ["modes=a", "arms=b"], ["modes=b"]])
def test_a_renamed_key_may_have_its_former_name(words: list[str], tmp_path: Path) -> None:
    assert load_config(Renamed, None, words) == Renamed(["b"])
    assert load_config(Renamed, write(tmp_path, "run.yaml", "arms: b,a\n")).modes == ["b", "a"]
    assert load_config(Renamed) == Renamed(["a", "b"])
    with pytest.raises(E2FashionError, match=r"key 'modes\[0\]': Invalid value 'c'"):
        load_config(Renamed, None, ["arms=c"])


def test_a_reference_for_a_mapping_is_replaced_by_a_mapping(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", "data: d\ntrain: ${oc.env:HOME}\n")
    file = write(tmp_path, "run.yaml", "base: base.yaml\ntrain: {weight_decay: 0.1}\n")
    assert load_config(RunConfig, file).train.weight_decay == 0.1


def test_the_configuration_of_a_run_is_whole_at_any_moment(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    save_config(RunConfig(data="old"), file)
    for _ in kills(lambda: save_config(RunConfig(data="new"), file)):
        assert load_config(RunConfig, file).data in ("old", "new")
        save_config(RunConfig(data="old"), file)
    assert [item.name for item in tmp_path.iterdir()] == ["config.yaml"]


def test_a_folder_without_configuration_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match=r"is not a run folder: it has no config\.yaml"):
        config_of_path(RunConfig, tmp_path, [])


def test_a_place_that_does_not_exist_is_neither_file_nor_run(tmp_path: Path) -> None:
    with pytest.raises(
        E2FashionError, match=r"gone' does not exist\. Give the path of a configuration file, or of a run folder"
    ):
        config_of_path(RunConfig, tmp_path / "gone", [])
