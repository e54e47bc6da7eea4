from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import optuna
import pytest

from newsie.errors import RecipeError
from newsie.laboratory.costs import Cost
from newsie.laboratory.search import PARAMETERS, Budget, Candidate, _is_behind, front, search
from newsie.laboratory.search_report import write_shortlist
from newsie.training.config import StudentConfig, read_recipe
from newsie.training.evaluate_run import surroundings
from newsie.training.experiment import CompareConfig, SearchConfig
from tests.laboratory.tiny_experiment import tiny_experiment, tiny_recipe

WIDE = Budget(1_000, 1_000)
CONFIG = SearchConfig(
    trials=3,
    articles=96,
    layers=[1],
    max_tokens=[24],
    vocabulary=[0, 90],
    temperature=[2.0],
    alpha=[0.1, 0.3],
    loss=["kl"],
    epochs=[1.0],
    learning_rate=[2e-3],
    warmup_ratio=[0.05],
)
SIZES = CompareConfig(labelled=CONFIG.articles)


def candidate(number: int, score: float, milliseconds: float, megabytes: float) -> Candidate:
    cost = Cost(1_000, megabytes, milliseconds, 100.0, 1)
    return Candidate(number, StudentConfig(), score, cost)


def test_the_front_holds_what_nothing_beats() -> None:
    small, slow, good = candidate(0, 0.6, 1, 5), candidate(1, 0.6, 2, 5), candidate(2, 0.8, 3, 9)
    worse, same = candidate(3, 0.7, 3, 9), candidate(4, 0.6, 1, 5)
    assert front([good, worse, slow, small, same]) == [small, same, good]
    assert front([]) == []


def test_times_that_are_alike_do_not_decide() -> None:
    small, large = candidate(0, 0.7, 0.27, 9), candidate(1, 0.7, 0.26, 15)
    assert front([small, large]) == [small]
    clearly = candidate(2, 0.7, 0.2, 15)
    assert front([small, clearly]) == [small, clearly]


def test_who_is_behind_one_that_costs_no_more_is_stopped_but_never_at_its_end() -> None:
    rival = [0.5, 0.6, 0.7]
    assert _is_behind([0.45], [rival])
    assert not _is_behind([0.495], [rival])
    assert not _is_behind([0.55], [rival])
    assert not _is_behind([0.5, 0.6, 0.3], [rival])
    assert not _is_behind([0.1], [])


@pytest.mark.slow
def test_a_search_finds_students_and_goes_on_where_it_was(data: Path, tmp_path: Path) -> None:
    tiny = tiny_recipe(data)
    # Measured once, at their end: none is stopped early, which would depend on what takes longer here.
    student = replace(tiny.student, fit=replace(tiny.student.fit, evaluations=1))
    recipe = replace(tiny, student=student, search=CONFIG)
    found, ends = search(tiny_experiment(recipe, data, tmp_path, SIZES), CONFIG, WIDE, tmp_path)
    assert len(found) == 3
    assert ends["complete"] == 3
    assert len({str(c.student) for c in found}) == 3  # none is counted twice
    by_shape = {(c.student.layers, c.student.vocabulary): c.cost for c in found}
    for (layers, vocabulary), cost in by_shape.items():
        assert cost.megabytes > 0
        assert cost.milliseconds > 0
        if vocabulary:
            assert cost.parameters < by_shape.get((layers, 0), Cost(10**9, 0, 0, 0, 1)).parameters

    # A killed process leaves a trial that runs; the next one makes its student. One more is asked for.
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 'search.db'}")
    made = [trial.params for trial in study.trials if trial.state.name == "COMPLETE"]
    [lost] = [
        params
        for vocabulary, alpha in product(CONFIG.vocabulary, CONFIG.alpha)
        if (params := made[0] | {"vocabulary": vocabulary, "alpha": alpha}) not in made
    ]
    study.enqueue_trial(lost)
    left = study.ask()
    for name in PARAMETERS:
        left.suggest_categorical(name, getattr(CONFIG, name))
    experiment = tiny_experiment(recipe, data, tmp_path, SIZES)
    again, ends = search(experiment, replace(CONFIG, trials=4), WIDE, tmp_path)
    assert [c.number for c in again][:3] == [c.number for c in found]
    assert ends["interrupted"] == 1
    trials = study.get_trials()
    assert trials[left.number].state.name == "FAIL"
    assert trials[left.number + 1].params == lost == left.params
    assert trials[left.number + 1].state.name == "COMPLETE"

    told = {"command": "newsie search tiny.toml"} | surroundings()
    of_a_longer_front, own = tmp_path / "tiny-99.toml", tmp_path / "tiny-mine.toml"
    of_a_longer_front.touch()
    own.touch()
    paths = write_shortlist(recipe, found, ends, WIDE, told, tmp_path)
    assert own.exists()
    assert not of_a_longer_front.exists()
    content = json.loads((tmp_path / "search.json").read_text())
    assert len(content["front"]) >= 1
    assert "| tiny-1 |" in (tmp_path / "search.md").read_text()
    assert (tmp_path / "search-front.png").stat().st_size > 5_000
    recipes = [read_recipe(path) for path in paths if path.suffix == ".toml"]
    assert [r.student for r in recipes] == [c.student for c in front(found)]
    assert recipes[0].data == recipe.data

    with pytest.raises(
        RecipeError, match=r"no student fits: .*; allowed are 1000 ms and 0\.001 MB"
    ):
        search(experiment, CONFIG, Budget(1_000, 0.001), tmp_path)


def test_more_layers_than_there_are_is_refused(data: Path, tmp_path: Path) -> None:
    experiment = tiny_experiment(tiny_recipe(data), data, tmp_path, SIZES)
    with pytest.raises(RecipeError, match=r"search\.layers names \[3\]; the encoder has 1 to 2"):
        search(experiment, replace(CONFIG, layers=[1, 3]), WIDE, tmp_path)


def test_what_diverges_ends_its_trial_and_not_the_search(data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(data)
    config = replace(CONFIG, trials=1, vocabulary=[0], alpha=[0.1], learning_rate=[1e20])
    experiment = tiny_experiment(recipe, data, tmp_path, SIZES)
    found, ends = search(experiment, config, WIDE, tmp_path)
    assert found == []
    assert ends["diverged"] == 1
    # Nothing else can be tried, and it is not tried again.
    assert set(ends) == {"diverged", "repeated"}
