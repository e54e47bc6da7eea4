"""The arms of a comparison: students that differ from the student of the recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from newsie.data.encoding import View
from newsie.errors import RecipeError
from newsie.training.config import Recipe, StudentConfig
from newsie.training.experiment import CompareConfig, Swept

__all__ = ["ARMS", "DEFAULT", "ENSEMBLE", "Arm", "Setting", "build_arms"]

DEFAULT = "soft+gold"
"""The arm of the recipe's unchanged student."""

MISMATCH = 2.0
"""The teacher's temperature divided by the student's in the arm "two temperatures"."""

SELF_TEMPERATURE = 20.0
"""The temperature of the student that is as large as its teacher. Papernot et al. 2016 (arXiv 1511.04508) go
to 100. Their teacher learns at that temperature, too, which makes all logits larger. An attack that follows
the margin between logits, such as the one here, is not affected by their size."""

ENSEMBLE = 3
"""The number of teachers of the arm "ensemble"."""


@dataclass(frozen=True)
class Arm:
    """One way to make a student.

    Attributes:
        name: the name of the arm.
        student: the configuration of the student.
        labelled: number of articles with gold labels; 0 means all.
        transfer: number of further articles without gold labels.
        teachers: number of teachers in the ensemble.
        teacher_temperature: the teacher's softmax temperature divided by the student's.
        short: the view of an article that is shown without its body.
    """

    name: str
    student: StudentConfig
    labelled: int
    transfer: int = 0
    teachers: int = 1
    teacher_temperature: float = 1.0
    short: View = "headline"

    @property
    def view(self) -> View:
        """The view of the test articles that it is measured on, which is the one it was trained on."""
        return self.short if self.student.fit.headline_share == 1 else "full"

    @property
    def teacher_view(self) -> View:
        """The view that its teacher reads."""
        return "full" if self.student.teacher_view == "full" else self.view

    @property
    def swept(self) -> dict[Swept, float]:
        """Its position on the axis of each sweep."""
        distillation = self.student.distillation
        return {
            "temperature": distillation.temperature,
            "alpha": distillation.alpha,
            "layers": self.student.layers,
            "labelled": self.labelled,
            "transfer": self.transfer,
        }

    def to_json(self) -> dict[str, Any]:
        """Return all fields that affect the result, so not the name, as plain JSON values."""
        from pydantic import TypeAdapter

        content: dict[str, Any] = TypeAdapter(Arm).dump_python(self, mode="json")
        del content["name"]
        return content


@dataclass(frozen=True)
class Setting:
    """The settings that are shared by all arms.

    Attributes:
        transfer: number of articles without gold labels for arms with more text.
        teacher_layers: number of layers of the teacher.
        teacher_encoder: the pretrained encoder of the teacher.
    """

    transfer: int
    teacher_layers: int
    teacher_encoder: str


Change = Callable[[Arm, Setting], Arm]
"""A function that makes an arm from the default one."""


def _learning(**changes: Any) -> Change:
    """Return a change of the distillation's settings."""

    def change(arm: Arm, setting: Setting) -> Arm:
        distillation = replace(arm.student.distillation, **changes)
        return replace(arm, student=replace(arm.student, distillation=distillation))

    return change


def _with_text(first: Change) -> Change:
    """Return the same change, with further articles to learn from."""
    return lambda arm, setting: replace(first(arm, setting), transfer=setting.transfer)


def _short(
    first: Change, teacher_view: Literal["same", "full"], short: View = "headline"
) -> Change:
    """Return the same change for a student that reads only headlines, or the words of URLs."""

    def change(arm: Arm, setting: Setting) -> Arm:
        arm = first(arm, setting)
        fit = replace(arm.student.fit, headline_share=1.0)
        student = replace(arm.student, fit=fit, teacher_view=teacher_view)
        return replace(arm, student=student, short=short)

    return change


def _as_large_as_the_teacher(first: Change) -> Change:
    """Return the same change for a student with as many layers as the teacher."""

    def change(arm: Arm, setting: Setting) -> Arm:
        arm = first(arm, setting)
        return replace(arm, student=replace(arm.student, layers=setting.teacher_layers))

    return change


def _from_the_encoder(first: Change) -> Change:
    """Return the same change for a student that starts from the teacher's pretrained encoder."""

    def change(arm: Arm, setting: Setting) -> Arm:
        arm = first(arm, setting)
        if arm.student.encoder != "teacher":
            return arm
        return replace(arm, student=replace(arm.student, encoder=setting.teacher_encoder))

    return change


_GOLD, _HARD, _SOFT = (
    _learning(alpha=1.0),
    _learning(alpha=0.0, loss="top"),
    _learning(alpha=0.0),
)

ARMS: Mapping[str, Change] = {
    # different targets
    "no teacher": _from_the_encoder(_GOLD),
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
    # different losses
    "standardised": _learning(loss="standardised"),
    "decoupled": _learning(loss="decoupled"),
    "correlation": _learning(loss="correlation"),
    "annealed": _learning(alpha=0.0, final_alpha=1.0),
    "relations": _learning(hidden="relations"),
    "projection": _learning(hidden="projection"),
    # augmented text, labelled by the teacher
    "drop words": _learning(augment=["drop_words"]),
    "swap bodies": _learning(augment=["swap_bodies"]),
    "mix words": _learning(augment=["mix_words"]),
    "mix-up": _learning(mixtures="mix_up"),
    "boundary": _learning(mixtures="boundary"),
    # only headlines
    "headline gold": _short(_GOLD, "same"),
    "headline soft": _short(_SOFT, "same"),
    "headline privileged": _short(_SOFT, "full"),
    "headline privileged, more text": _with_text(_short(_SOFT, "full")),
    # only the words of URLs
    "url gold": _short(_GOLD, "full", "url"),
    "url privileged": _short(_SOFT, "full", "url"),
    "url privileged, more text": _with_text(_short(_SOFT, "full", "url")),
    # as large as the teacher
    "self gold": _as_large_as_the_teacher(_GOLD),
    "self hard": _as_large_as_the_teacher(_HARD),
    "self": _as_large_as_the_teacher(_learning(alpha=0.0, temperature=SELF_TEMPERATURE)),
}
"""Name -> the change that makes the arm from the default arm."""


def build_arms(recipe: Recipe, config: CompareConfig, teacher_layers: int) -> list[Arm]:
    """Return the requested arms and those of the sweeps, each once.

    Args:
        recipe: the recipe; its student is the default arm.
        config: the requested arms and sweeps.
        teacher_layers: number of layers of the teacher.

    Raises:
        RecipeError: an arm does not exist, or is the same as another one with this recipe.
    """
    default = Arm(DEFAULT, recipe.student, config.labelled)
    if unknown := [name for name in config.arms if name not in ARMS]:
        raise RecipeError(f"compare.arms names {unknown}; there are: {', '.join(map(repr, ARMS))}")
    if not config.arms and not any(config.sweeps.values()):
        raise RecipeError(
            f"compare.arms is empty, and nothing is swept; there are: {', '.join(map(repr, ARMS))}"
        )
    if not config.transfer and (more := [n for n in config.arms if n.endswith("more text")]):
        raise RecipeError(f"the arms {more} learn from more text; set compare.transfer above 0")
    if not 0 < recipe.student.distillation.alpha < 1 and DEFAULT in config.arms:
        raise RecipeError(
            f"the arm {DEFAULT!r} needs 0 < student.distillation.alpha < 1 (given: "
            f"{recipe.student.distillation.alpha}); with 0 it is the arm 'soft', with 1 'gold'"
        )
    setting = Setting(config.transfer, teacher_layers, recipe.teacher.encoder)
    arms = [replace(ARMS[name](default, setting), name=name) for name in config.arms]
    sweeps = cast(Mapping[Swept, Sequence[float]], config.sweeps)
    for swept, values in sweeps.items():
        arms += [arm for value in values for arm in _sweep(default, swept, value)]
    return list({arm.name: arm for arm in arms}.values())


def _sweep(default: Arm, swept: Swept, value: float) -> list[Arm]:
    """Return the arms of one value of a sweep.

    The first is the recipe's student with that value. A sweep of `labelled` adds a student that learns from
    gold labels alone.
    """
    student, name = default.student, f"{swept} {value:g}"
    changes: dict[str, Any] = {swept: value}
    if swept in ("labelled", "transfer"):
        changed = replace(default, name=name, **changes)
        if swept == "transfer":
            return [changed]
        distillation = replace(student.distillation, alpha=1.0)
        gold = replace(student, distillation=distillation)
        return [changed, replace(changed, name=f"{name}, gold", student=gold)]
    if swept == "layers":
        return [replace(default, name=name, student=replace(student, **changes))]
    distillation = replace(student.distillation, **changes)
    return [replace(default, name=name, student=replace(student, distillation=distillation))]
