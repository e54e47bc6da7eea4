"""The search of `newsie search`, by Optuna, for the best students within a budget of time and size.

It has three objectives: macro-F1 on validation articles, milliseconds per article, and megabytes. The cost of
a student depends on its shape and not on its weights, so a shape over the budget is rejected before anything
is fitted. A trial is stopped early if a finished one that costs no more was clearly better at the same
evaluation.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from newsie.errors import RecipeError, TrainingError
from newsie.laboratory.arms import Arm
from newsie.laboratory.costs import Cost
from newsie.laboratory.trials import (
    Experiment,
    measure_student,
    same_steps,
    student_learning,
    teachers_of,
)
from newsie.training.config import StudentConfig
from newsie.training.encoder import count_layers
from newsie.training.experiment import SearchConfig
from newsie.training.fingerprints import digest, fingerprint
from newsie.training.store import Workspace
from newsie.training.teaching import GoldLabels, fit_model, load_fitted
from newsie.training.train import student_origin

__all__ = ["Budget", "Candidate", "front", "search"]

BEHIND = 0.01
"""The gap in macro-F1 to a trial that costs no more, above which a trial is stopped early."""

MOST_ATTEMPTS = 10
"""The maximum number of trials to begin for each one to finish, rejected and stopped ones included."""

SAME_TIME = 0.05
"""The relative difference in time between two students that may be chance."""

ENDS = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "interrupted",  # not failed: an error ends the search
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
"""The states of trials in words, for trials without an attribute "end"."""

SHAPE = ("layers", "max_tokens", "vocabulary")
LOSS = ("temperature", "alpha", "loss")
SCHEDULE = ("epochs", "learning_rate", "warmup_ratio")
PARAMETERS = (*SHAPE, *LOSS, *SCHEDULE)


@dataclass(frozen=True)
class Budget:
    """The maximum cost of a student: milliseconds for a single article on one thread, and 10^6 bytes."""

    milliseconds: float
    megabytes: float

    def allows(self, cost: Cost) -> bool:
        """Return True if a cost is within the budget."""
        return cost.milliseconds <= self.milliseconds and cost.megabytes <= self.megabytes


@dataclass(frozen=True)
class Candidate:
    """A finished student.

    Attributes:
        number: number of the trial.
        student: its configuration.
        macro_f1: mean over tasks on the validation articles, at its best evaluation.
        cost: its cost.
    """

    number: int
    student: StudentConfig
    macro_f1: float
    cost: Cost

    def beats(self, other: Candidate) -> bool:
        """Return True if this one is nowhere worse and somewhere better; similar times count as equal."""
        mine, theirs = ((c.macro_f1, -c.cost.megabytes) for c in (self, other))
        ratio = self.cost.milliseconds / other.cost.milliseconds
        return (
            ratio <= 1 + SAME_TIME
            and all(a >= b for a, b in zip(mine, theirs, strict=True))
            and (mine != theirs or ratio < 1 - SAME_TIME)
        )


def front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the Pareto front: the candidates that no other one beats, the smallest first."""
    best = [c for c in candidates if not any(other.beats(c) for other in candidates)]
    return sorted(best, key=lambda c: (c.cost.megabytes, c.cost.milliseconds, c.number))


def search(
    experiment: Experiment, config: SearchConfig, budget: Budget, output: Path
) -> tuple[list[Candidate], dict[str, int]]:
    """Try students until enough are finished, including those of earlier searches.

    Args:
        experiment: the experiment, with recipe, articles, teacher and the folder of the trials.
        config: the search space, and the number of students to finish.
        budget: the maximum cost of a student.
        output: folder of the study, search.db.

    Returns:
        The finished students within the budget, and the number of trials by final state.

    Raises:
        RecipeError: not even the smallest student is within the budget.
    """
    _check_layers(experiment, config)
    maker = _Maker(experiment, config, budget)
    maker.check_smallest()
    output.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(
        optuna.logging.ERROR
    )  # otherwise Ctrl-C would show the traceback of the trial
    study = _open_study(output, maker)
    attempts = MOST_ATTEMPTS * config.trials
    while len(_finished(study)) < config.trials and len(study.trials) < attempts:
        study.optimize(maker.make, n_trials=1)
        done = len(_finished(study))
        experiment.store.say(
            f"search: {done} of {config.trials} students, {len(study.trials)} begun; about "
            f"{_seconds_left(study, config.trials) / 60:.0f} min left"
        )
    found = [maker.candidate(trial) for trial in _finished(study)]
    ends = [trial.user_attrs.get("end", ENDS[trial.state]) for trial in study.trials]
    return [c for c in found if budget.allows(c.cost)], {end: ends.count(end) for end in set(ends)}


def _check_layers(experiment: Experiment, config: SearchConfig) -> None:
    most = count_layers(student_origin(experiment.recipe).name)
    if too_many := [layers for layers in config.layers if not 1 <= layers <= most]:
        raise RecipeError(f"search.layers names {too_many}; the encoder has 1 to {most} to take")


def _open_study(output: Path, maker: _Maker) -> optuna.Study:
    """Open or create the study of the maker's fingerprint, with interrupted trials queued first."""
    study = optuna.create_study(
        storage=f"sqlite:///{output.absolute() / 'search.db'}",
        study_name=maker.fingerprint,
        directions=["maximize", "minimize", "minimize"],
        load_if_exists=True,
    )
    # Each start has a new seed, since the same one would propose the same students again.
    study.sampler = optuna.samplers.TPESampler(seed=maker.config.seed + len(study.trials))
    for trial in study.get_trials(states=[TrialState.RUNNING]):  # left by a killed process
        study.tell(trial.number, state=TrialState.FAIL)
    waiting = study.get_trials(states=[TrialState.WAITING])
    settled = [trial.system_attrs["fixed_params"] for trial in waiting]
    settled += [t.params for t in study.get_trials(states=[TrialState.COMPLETE, TrialState.PRUNED])]
    for trial in study.get_trials(states=[TrialState.FAIL]):
        if set(PARAMETERS) <= trial.params.keys() and trial.params not in settled:
            study.enqueue_trial(trial.params)
            settled.append(trial.params)
    return study


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(states=[TrialState.COMPLETE])


def _seconds_left(study: optuna.Study, trials: int) -> float:
    """Return an estimate from the mean time per finished trial, which includes that of stopped ones."""
    ended = study.get_trials(states=[TrialState.COMPLETE, TrialState.PRUNED])
    spent = sum(trial.duration.total_seconds() for trial in ended if trial.duration)
    done = len(_finished(study))
    return (trials - done) * spent / max(done, 1)


class _Maker:
    """The objective of the search: fits the student of each trial, in a folder named by all its inputs."""

    def __init__(self, experiment: Experiment, config: SearchConfig, budget: Budget) -> None:
        self.experiment, self.config, self.budget = experiment, config, budget

    @property
    def fingerprint(self) -> str:
        """The digest of all inputs of a trial, which do not include the number of trials."""
        space = asdict(self.config)
        del space["trials"]
        arm = self._arm(self.experiment.recipe.student)
        teachers = [t.fingerprint() for t in teachers_of(self.experiment, arm, self.config.seed)]
        return digest(space, arm.to_json(), teachers)

    def student(self, params: Mapping[str, Any]) -> StudentConfig:
        """Return the recipe's student with the parameters of a trial."""
        base = self.experiment.recipe.student
        distillation = replace(
            base.distillation,
            **{name: params[name] for name in LOSS},
        )
        schedule = {name: params[name] for name in SCHEDULE}
        fit = replace(base.fit, max_tokens=params["max_tokens"], **schedule)
        shape = {name: params[name] for name in SHAPE}
        return replace(base, **shape, distillation=distillation, fit=fit)

    def candidate(self, trial: FrozenTrial) -> Candidate:
        """Return the candidate of a finished trial."""
        student = self.student(trial.params)
        return Candidate(
            trial.number, student, trial.values[0], measure_student(self.experiment, student)
        )

    def check_smallest(self) -> None:
        """Raise RecipeError unless the smallest student is within the budget."""
        smallest: dict[str, Any] = {
            "layers": min(self.config.layers),
            "max_tokens": min(self.config.max_tokens),
            "vocabulary": min((v for v in self.config.vocabulary if v), default=0),
        }
        student = replace(self.experiment.recipe.student, **smallest)
        cost = measure_student(self.experiment, student)
        if not self.budget.allows(cost):
            raise RecipeError(
                f"no student fits: the smallest that the search may make ({smallest}) takes "
                f"{cost.milliseconds:.2f} ms and {cost.megabytes:.1f} MB; allowed are "
                f"{self.budget.milliseconds:g} ms and {self.budget.megabytes:g} MB. Raise --max-ms or "
                "--max-mb, or give the recipe's [search] smaller shapes"
            )

    def _arm(self, student: StudentConfig) -> Arm:
        return Arm("search", student, self.config.articles)

    def make(self, trial: optuna.Trial) -> tuple[float, float, float]:
        """Return macro-F1, milliseconds and megabytes of the student of a trial."""
        params = {
            name: trial.suggest_categorical(name, getattr(self.config, name)) for name in PARAMETERS
        }
        student = self.student(params)
        cost = measure_student(self.experiment, student)
        if not self.budget.allows(cost):
            _stop(trial, "over budget")
        known = [other.params for other in trial.study.trials if _is_settled(other)]
        if params in known:
            _stop(trial, "repeated")
        score = self._fit(trial, student, cost)
        return score, cost.milliseconds, cost.megabytes

    def _fit(self, trial: optuna.Trial, student: StudentConfig, cost: Cost) -> float:
        """Fit a student, and return its best score on the validation articles."""
        experiment, arm, seed = self.experiment, self._arm(student), self.config.seed
        store = experiment.store
        tokenizer = experiment.tokenizer(student)
        learning = student_learning(experiment, arm, seed, tokenizer)
        config = same_steps(
            student.fit,
            len(experiment.rows(seed, arm.labelled, arm.transfer)),
            len(experiment.labelled(seed, arm)),
        )
        folder = store.directory / f"searched-{digest(fingerprint(learning), fingerprint(config))}"
        fresh = not folder.exists()  # the earlier scores of a resumed student are not known here
        rivals = self._rivals(trial.study, cost) if fresh else []
        scores: list[float] = []

        def watch(score: float) -> None:
            scores.append(score)
            if _is_behind(scores, rivals):
                shutil.rmtree(folder, ignore_errors=True)
                _stop(trial, "stopped early")

        encoder = tokenizer.reads(student.fit.max_tokens)
        try:
            fit_model(
                Workspace(store, folder),
                learning.start,
                learning.data,
                learning.loss,
                config,
                seed,
                sampling_temperature=experiment.recipe.data.sampling_temperature,
                validation=GoldLabels(experiment.corpora, encoder, "validation"),
                watch=watch,
            )
        except TrainingError as error:  # other learning rates may work
            store.say(f"search: {error}")
            shutil.rmtree(folder, ignore_errors=True)
            _stop(trial, "diverged")
        course = list(load_fitted(folder).history.scores.values())
        trial.set_user_attr("scores", course)  # later trials are compared with these
        shutil.rmtree(folder)
        return float(max(course))

    def _rivals(self, study: optuna.Study, cost: Cost) -> list[list[float]]:
        """Return the scores, one per evaluation, of the finished students that cost no more."""
        found = [
            (measure_student(self.experiment, self.student(t.params)), t.user_attrs["scores"])
            for t in _finished(study)
        ]
        return [
            scores
            for other, scores in found
            if other.milliseconds <= cost.milliseconds and other.megabytes <= cost.megabytes
        ]


def _is_behind(scores: Sequence[float], rivals: Sequence[Sequence[float]]) -> bool:
    """Return True if a student is clearly behind a rival at the same evaluation, except the rival's last."""
    at = len(scores) - 1
    return any(at < len(rival) - 1 and scores[at] < rival[at] - BEHIND for rival in rivals)


def _is_settled(trial: FrozenTrial) -> bool:
    """Return True if a trial need not be repeated. One over an earlier budget may be within this one."""
    ended = trial.user_attrs.get("end") in ("stopped early", "diverged")
    return ended or trial.state == TrialState.COMPLETE


def _stop(trial: optuna.Trial, end: str) -> None:
    trial.set_user_attr("end", end)
    raise optuna.TrialPruned(end)
