import numpy as np
import pytest

from bnrepro.analysis.figures import step_by_step as draw

RNG = np.random.default_rng(0)


def test_a_cloud_is_drawn_with_equal_axes_and_the_origin_in_sight():
    data = RNG.random((200, 2)) * [60, 200] - [0, 200]
    standard = (data - data.mean(axis=0)) / data.std(axis=0)
    for ax in draw.clouds({"data": data, "standard": standard}).axes:
        assert ax.get_aspect() == 1
        assert ax.get_xlim() == ax.get_ylim()
        assert ax.get_xlim()[0] < 0 < ax.get_xlim()[1]


def test_the_sigmoid_and_its_tangent_agree_within_the_part_called_linear():
    y = np.linspace(-draw.LINEAR, draw.LINEAR, 101)
    assert np.abs(draw.sigmoid(y) - (0.5 + y / 4)).max() < 0.02


def test_gamma_and_beta_make_the_used_part_of_the_sigmoid_less_straight():
    x_hat = RNG.standard_normal(2000)
    assert draw.straightness(x_hat) > 0.98 > draw.straightness(3 * x_hat) > draw.straightness(x_hat + 4)


def test_every_setting_has_a_curve_with_all_inputs_below_and_all_outputs_at_its_right():
    fig = draw.on_the_sigmoid(RNG.uniform(-1.7, 1.7, 500), [(1, 0), (3, 2)])
    before, below, right, after, *_ = fig.axes
    assert before.get_title().startswith("before")
    assert after.get_title().startswith("after")
    assert sum(bar.get_height() for bar in below.containers[0]) == pytest.approx(1)
    assert sum(bar.get_width() for bar in right.containers[0]) == pytest.approx(1)


def test_the_noise_of_each_batch_size_is_labelled_with_its_spread_and_its_own_theory_and_drawn_to_one_scale():
    panels = {
        name: {m: RNG.standard_normal(4000) * s / m**0.5 for m in (4, 16, 64)}
        for name, s in (("a", 1), ("b", 2))
    }
    left, right = draw.batch_noise(panels, exact=[0, 0], theory={"one": 1.0, "two": 2.0}).axes
    assert np.ptp(left.get_xlim()) == pytest.approx(np.ptp(right.get_xlim()))
    legend = right.get_legend()
    assert legend is not None and legend.get_title().get_text().endswith("(two)")
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == [f"{m}: {draws.std():.3f} ({2 * m**-0.5:.3f})" for m, draws in panels["b"].items()]
