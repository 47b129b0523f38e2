from __future__ import annotations

import pytest

from wisetune.errors import UsageError
from wisetune.fit.fit import Fit


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "option 'epochs' of 'fit' is 0; it must be a whole number, at least 1"),
        ({"batch": 1}, "'batch' of 'fit' is 1; it must be a whole number, at least 2"),
        ({"lr": 0.0}, "must be a number, above 0"),
        ({"lr": float("nan")}, "must be a number, above 0"),
        ({"lr": float("inf")}, "must be a number, above 0"),
        ({"clip": 0.0}, "must be a number, above 0"),
        ({"smoothing": 1.0}, "must be a number, at least 0 and below 1"),
        ({"weight_decay": -0.1}, "'weight-decay' of 'fit' is -0.1; it must be a number, at least 0"),
        ({"warmup": -1.0}, "must be a number, at least 0"),
        ({"drop_path": 1.0}, "'drop-path' of 'fit' is 1.0; it must be a number, at least 0 and below 1"),
        ({"drop_path": -0.1}, "must be a number, at least 0 and below 1"),
        ({"select": "first"}, "option 'select' of 'fit' is 'first'; it can be last, best"),
        ({"group_lr": 10.0}, "group-lr or group-decay and no group; .* group=head."),
        ({"group_decay": 0.0}, "group-lr or group-decay and no group"),
        ({"pool_of": 64}, "pool-of=64 and pool=none; pool must be a number of at most that"),
        ({"pool_of": 64, "pool": 65}, "pool-of=64 and pool=65"),
        ({"augment": "scale-translat"}, "Did you mean 'scale-translate'"),
    ],
)
def test_options_out_of_range_are_refused_at_once(options, message):
    with pytest.raises(UsageError, match=message):
        Fit(**options)


def test_warm_up_takes_at_most_half_of_a_short_training():
    assert Fit(epochs=1).schedule.warmup == 0.5
    assert Fit(epochs=20).schedule.warmup == 1.0
    assert Fit(lr=1e-8).schedule.lr_final == 1e-8
