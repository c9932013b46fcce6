"""The digits notebook on data in the shape of MNIST, without a download."""

import runpy

import numpy as np
import pytest
import sklearn.datasets

from tests.checks import ROOT

NOTEBOOK = ROOT / "docs/notebooks/digits.py"


def run(monkeypatch, data):
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("DIGITS", data)
    return runpy.run_path(str(NOTEBOOK))


def test_it_takes_mnist(monkeypatch):
    """28 x 28 pixels from 0 to 255, and labels that are strings, as fetch_openml returns them."""
    asked = []
    pixels, digits = sklearn.datasets.load_digits(return_X_y=True)
    large = np.kron(pixels[:400].reshape(-1, 8, 8), np.ones((1, 3, 3)))
    large = np.pad(large, ((0, 0), (2, 2), (2, 2))).reshape(-1, 784) * 255 / 16

    def fetch_openml(name, **settings):
        asked.append((name, settings))
        return large, digits[:400].astype(str).astype(object)

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch_openml)
    names = run(monkeypatch, "mnist")
    assert asked == [("mnist_784", {"return_X_y": True, "as_frame": False})]
    assert names["X"].shape == (400, 784)
    assert names["side"] == 28
    assert names["by_hand"][-1] == pytest.approx(names["by_autograd"][-1], rel=1e-9)


def test_it_names_an_unknown_data_set(monkeypatch):
    with pytest.raises(ValueError, match="DIGITS must be 'digits' or 'mnist', got 'cifar'"):
        run(monkeypatch, "cifar")
