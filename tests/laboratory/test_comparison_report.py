from __future__ import annotations

from dataclasses import replace

from newsie.laboratory.arms import DEFAULT, Arm
from newsie.laboratory.comparison_report import ArmFindings, Findings
from newsie.laboratory.contrasts import MEASURES, Contrast
from newsie.laboratory.plots import sweep_lines
from newsie.metrics.estimates import Estimate
from newsie.training.config import DistillationConfig, StudentConfig
from newsie.training.experiment import Swept


def contrasts(first: str, second: str, low: float, high: float) -> list[Contrast]:
    difference = Estimate((low + high) / 2, low, high)
    return [Contrast(first, second, measure, difference, 0.5, 3, 5) for measure in MEASURES]


def arm(name: str, **swept: float) -> ArmFindings:
    own: dict[Swept, float] = Arm(name, StudentConfig(), labelled=100).swept
    return ArmFindings(
        name=name,
        labelled=100,
        articles=100,
        layers=3,
        steps=0,
        minutes=0.0,
        scores={measure: Estimate(0.5, 0.4, 0.6) for measure in MEASURES},
        by_task={},
        calibration_error=0.1,
        calibrated_error=0.1,
        agreement=1.0,
        attacks={},
        swept=own | swept,  # type: ignore[arg-type]
        cost=None,
    )


def findings(found: list[Contrast], *arms: ArmFindings) -> Findings:
    names = {name for c in found for name in (c.first, c.second)}
    made = arms or tuple(arm(name) for name in sorted(names))
    return Findings({}, 5, 5, 1_000, made, tuple(found))


def test_it_says_plainly_when_soft_labels_do_not_win() -> None:
    better = contrasts("soft", "hard", 0.01, 0.03)
    assert "Soft labels win against hard labels." in findings(better).sentences()
    close = [*better, *contrasts("soft", "gold", -0.01, 0.03)]
    first, *claims = findings(close).sentences()
    assert first == "Soft labels do not clearly win: against gold labels it is too close to call."
    assert "**holds** (macro-F1 +2.00 [+1.00, +3.00], accuracy" in claims[0]
    assert "**too close to call** (macro-F1 +1.00 [-1.00, +3.00]" in claims[1]
    lost = [*better, *contrasts("soft", "gold", -0.03, -0.01)]
    first, *claims = findings(lost).sentences()
    assert first == "Soft labels do not win: gold labels are better."
    assert "**does not hold** (macro-F1 -2.00" in claims[1]


def test_harmful_changes_are_named() -> None:
    found = [
        *contrasts("relations", DEFAULT, -0.01, 0.01),
        *contrasts("mix-up", DEFAULT, -0.03, -0.01),
        *contrasts("decoupled", DEFAULT, 0.01, 0.02),
        *contrasts("ensemble", DEFAULT, 0.02, 0.04),
    ]
    assert findings(found).sentences()[0] == (
        "Changes of `soft+gold`, the largest gain first. Better: ensemble, decoupled; harmful: mix-up; too "
        "close to call: relations."
    )
    assert "harmful" not in " ".join(findings(found[:2]).sentences())  # a ladder has rungs


def test_the_recipe_is_a_point_of_its_sweeps() -> None:
    made = findings(
        [],
        arm("gold"),
        arm(DEFAULT),
        arm(f"{DEFAULT}, more text", transfer=800),
        arm("labelled 20", labelled=20),
        arm("labelled 20, gold", labelled=20),
        arm("transfer 400", transfer=400),
    )
    lines = {
        name: {line: [x for x, _ in points] for line, points in sweep_lines(made, name).items()}
        for name in ("labelled", "transfer", "temperature")
    }
    assert lines["labelled"] == {"the recipe's student": [20, 100], "gold labels alone": [20, 100]}
    assert lines["transfer"] == {"the recipe's student": [0, 400, 800]}
    assert lines["temperature"] == {}  # not swept


def test_an_arm_knows_its_place_in_a_sweep() -> None:
    student = replace(StudentConfig(), layers=2, distillation=DistillationConfig(temperature=4.0))
    swept = Arm("temperature 4", student, 100, transfer=50).swept
    assert swept == {
        "temperature": 4,
        "alpha": 0.1,
        "layers": 2,
        "labelled": 100,
        "transfer": 50,
    }
