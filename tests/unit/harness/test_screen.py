import io

import pytest

from harness.screen import Mark, Screen


def test_lines_have_the_time_and_no_colour_where_there_is_no_terminal() -> None:
    stream, now = io.StringIO(), 100.0
    screen = Screen(stream, clock=lambda: now)
    now = 112.34
    screen.line(Mark.DONE, "cluster", "Kubernetes v1")
    screen.restart_clock()
    screen.line(Mark.BROKEN, "fault")
    screen.status("is not shown")

    assert stream.getvalue() == "    12.3 s  ✔ cluster        Kubernetes v1\n    +0.0 s  ✖ fault\n"


def test_a_step_that_fails_says_so_and_does_not_hide_it() -> None:
    stream = io.StringIO()
    screen = Screen(stream)

    def fail() -> None:
        with screen.step("images", "building"):
            raise ValueError("no space left")

    with pytest.raises(ValueError, match="no space left"):
        fail()
    assert "✖ images         not done" in stream.getvalue()
