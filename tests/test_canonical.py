from __future__ import annotations

from test_spec import Needy, Probe
from wisetune.canonical import canonical, digest_of


def test_digests_of_values_that_differ_differ():
    values = [
        Probe(),
        Probe(c=0.2),
        Probe(on="0.1"),
        Probe(rate=0.1),
        Probe(alphas=()),
        Probe(alphas=(0.5, 0.0)),
        Needy("", 0),
        "probe",
        1,
        1.0,
        "1.0x",
    ]
    assert len({digest_of(value) for value in values}) == len(values)


def test_a_whole_number_in_place_of_a_float_digests_as_that_float():
    assert Probe(c=1, alphas=(0, 1), rate=2) == Probe(c=1.0, alphas=(0.0, 1.0), rate=2.0)
    assert digest_of(Probe(c=1, alphas=(0, 1), rate=2)) == digest_of(Probe(c=1.0, alphas=(0.0, 1.0), rate=2.0))
    assert Probe(folds=1).canonical()["folds"] == 1


def test_a_digest_is_sixteen_hex_digits_of_plain_json_and_does_not_change():
    # The literal guards every store on every disk: see recipe.FORMAT before you change it.
    assert digest_of(Probe()) == "aa2bd4d5b94a73cb"
    assert canonical(Needy("a", 1)) == {"spec": "test_spec:Needy", "first": "a", "second": 1, "third": 3}
