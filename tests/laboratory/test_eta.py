from __future__ import annotations

from newsie.laboratory.eta import Course


def test_what_is_left_is_what_the_like_of_it_took() -> None:
    course = Course(["gold", "soft"], seeds=3)
    assert course.describe() == "0 of 6 students"
    course.note("gold", {"seconds_in_all": 600.0})
    # Nothing is known of "soft": as long as the others. 2 more of gold and 3 of soft.
    assert course.seconds_left == 5 * 600
    course.note("soft", {"seconds_in_all": 60.0})
    assert course.seconds_left == 2 * 600 + 2 * 60
    assert course.describe() == "2 of 6 students, about 22 min left in all"
    course.note("gold", {"seconds_in_all": 9_000.0})
    assert course.describe() == "3 of 6 students, about 1 h 22 left in all"


def test_nothing_is_left_at_the_end() -> None:
    course = Course(["gold"], seeds=2)
    for _ in range(2):
        course.note("gold", {"seconds_in_all": 5.0})
    assert course.seconds_left == 0
