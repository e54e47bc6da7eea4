from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from newsie.errors import RecipeError
from newsie.training.config import read_recipe, recipe_from

RECIPES = sorted((Path(__file__).parents[2] / "training" / "recipes").glob("*.toml"))


def content(**changes: Any) -> dict[str, Any]:
    data = {
        "corpora": [{"name": "a", "train": "a.csv"}],
        "tasks": [{"name": "section"}, {"name": "tabloid", "column": "section"}],
    }
    return {"name": "test", "data": data, **changes}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_published_recipes_are_valid(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.name == path.stem
    assert recipe_from(recipe.to_json()) == recipe


def test_recipes_that_share_a_teacher_ask_for_the_same_one() -> None:
    recipe = {path.stem: read_recipe(path) for path in RECIPES}
    default, methods = recipe["default"], recipe["compare-methods"]
    first_teacher = dataclasses.replace(default.teacher, seeds=default.teacher.seeds[:1])
    assert (methods.data, methods.teacher) == (default.data, first_teacher)
    for names in (
        ("compare-section-small", "compare-headlines", "compare-robustness"),
        ("compare-section-large", "search-section"),
    ):
        first, *others = (recipe[name] for name in names)
        for other in others:
            assert (other.data, other.teacher) == (first.data, first.teacher)
    compared = [
        recipe[f"compare-{name}"].compare for name in ("section-small", "headlines", "robustness")
    ]
    assert len({c and (c.seeds, c.labelled) for c in compared}) == 1
    large, search = recipe["compare-section-large"].compare, recipe["search-section"].search
    assert large
    assert search
    assert large.labelled == search.articles


def test_defaults_are_filled_in_and_rules_built() -> None:
    recipe = recipe_from(content())
    assert recipe.student.layers == 3
    assert [task.rule.column for task in recipe.data.tasks] == ["section", "section"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"studnet": {}}, r"studnet: Unexpected keyword argument"),
        (
            {"student": {"layers": 0}},
            r"student\.layers: .* greater than or equal to 1 \(given: 0\)",
        ),
        ({"student": {"distillation": {"temperature": 0.5}}}, r"temperature: .*\(given: 0\.5\)"),
        ({"student": {"distillation": {"alpha": 2}}}, r"alpha: .* less than or equal to 1"),
        ({"teacher": {"seeds": []}}, r"teacher\.seeds: .* at least 1 item"),
        ({"precision": "int4"}, r"precision: .*'auto', 'fp32' or 'bf16'"),
        ({"data": {"corpora": [], "tasks": []}}, r"has 2 mistake\(s\)"),
        ({"data": {}}, r"data\.corpora: Field required"),
        ({"name": "../esc"}, r"name: .*letters .*no '\.' first \(given: '\.\./esc'\)"),
        ({"name": ".."}, r"no '\.' first"),
        ({"name": "a/b"}, r"no '\.' first"),
        ({"name": ""}, r"no '\.' first"),
        ({"name": "a\n"}, r"no '\.' first"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe_from(content(**changes))


def test_names_must_differ_and_corpora_exist() -> None:
    twice = content()
    twice["data"]["tasks"][1]["name"] = "section"
    with pytest.raises(RecipeError, match="each task needs a name of its own"):
        recipe_from(twice)
    unknown = content()
    unknown["data"]["tasks"][0]["corpora"] = ["b"]
    with pytest.raises(RecipeError, match=r"names the corpora \['b'\]; there are: \['a'\]"):
        recipe_from(unknown)


def test_a_corpus_has_a_name_of_the_same_kind() -> None:
    odd = content()
    odd["data"]["corpora"][0]["name"] = "a/b"
    with pytest.raises(RecipeError, match=r"data\.corpora\.0\.name: .*\(given: 'a/b'\)"):
        recipe_from(odd)


@pytest.mark.parametrize(
    "name", ["type", "values", "a.b", "headline", "id", "train", "section_score"]
)
def test_names_of_tasks_that_break_a_model_or_its_answers_are_refused(name: str) -> None:
    odd = content()
    odd["data"]["tasks"][1]["name"] = name
    with pytest.raises(RecipeError, match=rf"test\.toml: .*task.*'{re.escape(name)}'"):
        recipe_from(odd, "test.toml")


def test_one_way_to_name_test_articles() -> None:
    both = content()
    both["data"]["corpora"][0] |= {"test": "b.csv", "test_from": "2024-01-01"}
    with pytest.raises(RecipeError, match="both a test file and test_from"):
        recipe_from(both)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"cannot read the recipe .*none\.toml"):
        read_recipe(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("name = ")
    with pytest.raises(RecipeError, match=r"broken\.toml is not TOML"):
        read_recipe(broken)
