"""The students of a comparison: how each differs from the student of the recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from newsie.data.encoding import View
from newsie.errors import RecipeError
from newsie.training.config import Recipe, StudentConfig
from newsie.training.experiment import CompareConfig, Swept

__all__ = ["ARMS", "DEFAULT", "ENSEMBLE", "Arm", "Setting", "build_arms"]

DEFAULT = "soft+gold"
"""The arm that is the student of the recipe, as it is."""

MISMATCH = 2.0
"""How many times hotter the teacher is than the student in the arm of two temperatures."""

SELF_TEMPERATURE = 20.0
"""Of the student that is as large as its teacher; Papernot et al. 2016 (arXiv 1511.04508) go to 100."""

WHOLE: tuple[Swept, ...] = ("labelled", "transfer", "layers")
"""What is swept in whole numbers."""

ENSEMBLE = 3
"""Teachers of the arm that learns from several."""


@dataclass(frozen=True)
class Arm:
    """One way to make a student.

    Attributes:
        name: of the arm.
        student: how it learns.
        labelled: articles with gold labels; 0 means all.
        transfer: further articles without.
        teachers: members of the ensemble that it learns from.
        teacher_temperature: how many times hotter the softmax of the teacher is than the student's.
    """

    name: str
    student: StudentConfig
    labelled: int
    transfer: int = 0
    teachers: int = 1
    teacher_temperature: float = 1.0

    @property
    def view(self) -> View:
        """What of the test articles it is measured on: what it has learnt to read."""
        return "headline" if self.student.fit.headline_share == 1 else "full"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values, all but the name: what decides the result."""
        from pydantic import TypeAdapter

        content: dict[str, Any] = TypeAdapter(Arm).dump_python(self, mode="json")
        del content["name"]
        return content


@dataclass(frozen=True)
class Setting:
    """What an arm may have to know of the others.

    Attributes:
        transfer: articles without gold labels that arms of more text learn from.
        teacher_layers: of the teacher.
    """

    transfer: int
    teacher_layers: int


Change = Callable[[Arm, Setting], Arm]
"""Makes an arm of the default one."""


def _learning(**changes: Any) -> Change:
    """An arm of another distillation."""

    def change(arm: Arm, setting: Setting) -> Arm:
        distillation = replace(arm.student.distillation, **changes)
        return replace(arm, student=replace(arm.student, distillation=distillation))

    return change


def _with_text(first: Change) -> Change:
    """The same arm that learns from the further articles, too."""
    return lambda arm, setting: replace(first(arm, setting), transfer=setting.transfer)


def _headlines(first: Change, teacher_view: Literal["same", "full"]) -> Change:
    """The same arm that reads headlines alone."""

    def change(arm: Arm, setting: Setting) -> Arm:
        arm = first(arm, setting)
        fit = replace(arm.student.fit, headline_share=1.0)
        return replace(arm, student=replace(arm.student, fit=fit, teacher_view=teacher_view))

    return change


def _as_large_as_the_teacher(arm: Arm, setting: Setting) -> Arm:
    hot = replace(arm.student.distillation, temperature=SELF_TEMPERATURE, alpha=0.0)
    student = replace(arm.student, layers=setting.teacher_layers, distillation=hot)
    return replace(arm, student=student)


_GOLD, _HARD, _SOFT = (
    _learning(alpha=1.0),
    _learning(alpha=0.0, loss="top"),
    _learning(alpha=0.0),
)

ARMS: Mapping[str, Change] = {
    # what a student learns from
    "gold": _GOLD,
    "hard": _HARD,
    "soft": _SOFT,
    DEFAULT: _learning(),
    "sparse": _learning(sparse=True),
    "two temperatures": lambda arm, setting: replace(arm, teacher_temperature=MISMATCH),
    "ensemble": lambda arm, setting: replace(arm, teachers=ENSEMBLE),
    # more text, labelled by the teacher
    "hard, more text": _with_text(_HARD),
    "soft, more text": _with_text(_SOFT),
    "soft+gold, more text": _with_text(_learning()),
    # how a student learns
    "standardised": _learning(loss="standardised"),
    "decoupled": _learning(loss="decoupled"),
    "correlation": _learning(loss="correlation"),
    "annealed": _learning(alpha=0.0, final_alpha=1.0),
    "relations": _learning(hidden="relations"),
    "projection": _learning(hidden="projection"),
    # more text, made of the labelled articles and labelled by the teacher
    "drop words": _learning(augment=["drop_words"]),
    "swap bodies": _learning(augment=["swap_bodies"]),
    "mix words": _learning(augment=["mix_words"]),
    "mix-up": _learning(mixtures="mix_up"),
    "boundary": _learning(mixtures="boundary"),
    # headlines alone
    "headline gold": _headlines(_GOLD, "same"),
    "headline soft": _headlines(_SOFT, "same"),
    "headline privileged": _headlines(_SOFT, "full"),
    # distilled into its like
    "self": _as_large_as_the_teacher,
}
"""Name -> what makes the arm of the default arm."""


def build_arms(recipe: Recipe, config: CompareConfig, teacher_layers: int) -> list[Arm]:
    """The arms that are asked for, and those of the sweeps, each once.

    Args:
        recipe: its student is the default arm.
        config: which arms.
        teacher_layers: layers of the teacher.

    Raises:
        RecipeError: there is no such arm, or it would be another one under a new name.
    """
    default = Arm(DEFAULT, recipe.student, config.labelled)
    if unknown := [name for name in config.arms if name not in ARMS]:
        raise RecipeError(f"compare.arms names {unknown}; there are: {', '.join(ARMS)}")
    if not config.transfer and (more := [n for n in config.arms if n.endswith("more text")]):
        raise RecipeError(f"the arms {more} learn from more text; set compare.transfer above 0")
    if not 0 < recipe.student.distillation.alpha < 1 and DEFAULT in config.arms:
        raise RecipeError(
            f"the arm {DEFAULT!r} needs 0 < student.distillation.alpha < 1 (given: "
            f"{recipe.student.distillation.alpha}); with 0 it is the arm 'soft', with 1 'gold'"
        )
    setting = Setting(config.transfer, teacher_layers)
    arms = [replace(ARMS[name](default, setting), name=name) for name in config.arms]
    for swept, values in config.sweeps.items():
        arms += [arm for value in values for arm in _sweep(default, swept, value)]
    return list({arm.name: arm for arm in arms}.values())


def _sweep(default: Arm, swept: Swept, value: float) -> list[Arm]:
    """The arms of one value: the recipe's student with it, and where labels or text change a student
    that learns from gold labels alone beside it."""
    student, name = default.student, f"{swept} {value:g}"
    changes: dict[str, Any] = {swept: int(value) if swept in WHOLE else value}
    if swept in ("labelled", "transfer"):
        changed = replace(default, name=name, **changes)
        gold = _GOLD(replace(changed, name=f"{name}, gold"), Setting(0, 0))
        return [changed, gold] if swept == "labelled" else [changed]
    if swept == "layers":
        return [replace(default, name=name, student=replace(student, **changes))]
    distillation = replace(student.distillation, **changes)
    return [replace(default, name=name, student=replace(student, distillation=distillation))]
