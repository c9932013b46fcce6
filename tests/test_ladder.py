"""The measurements on the pages belong to the code on the pages."""

import json
import subprocess
import sys
import time

import pytest
import torch

from benchmarks import forms, growth, harness, ladder

FILES = [ladder.path_of("cpu", outputs) for outputs in ladder.PUBLISHED_OUTPUTS]
FOUND = {path.name: json.loads(path.read_text()) for path in [*FILES, growth.RESULTS]}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_measured_code_is_the_code_of_today(path):
    result = FOUND[path.name]
    assert result["code"] == harness.fingerprint(ladder.MEASURED), (
        "the measured code has changed: run `python -m benchmarks.ladder --device cpu "
        f"--outputs {result['outputs']}` again"
    )


def test_growth_is_that_of_the_code_of_today():
    assert FOUND["growth.json"]["code"] == harness.fingerprint(growth.MEASURED), (
        "the measured code has changed: run `python -m benchmarks.growth` again"
    )


@pytest.mark.parametrize("name", FOUND)
def test_the_machine_was_quiet(name):
    assert FOUND[name]["others"] <= harness.BUSY, "measure again when nothing else runs"


def test_it_was_measured_at_the_sizes_that_the_pages_name():
    for path, outputs in zip(FILES, ladder.PUBLISHED_OUTPUTS, strict=True):
        result = FOUND[path.name]
        assert (result["rows"], result["features"], result["outputs"]) == (50_000, 784, outputs)
        assert result["machine"]["threads"] == 2
    assert list(FOUND["ladder.json"]["steps"]) == [
        n for n, f in forms.FORMS.items() if "cpu" in f.devices
    ]
    for axis, points in FOUND["growth.json"]["sweeps"].items():
        along = [point["shape"]["NDM".index(axis)] for point in points]
        assert max(along) / min(along) >= 1000
        assert [tuple(point["shape"]) for point in points] == growth.SWEEPS[axis]


def test_what_the_pages_say_of_the_measurements():
    """The claims in words. Another machine may need other words."""
    steps, probes = FOUND["ladder.json"]["steps"], FOUND["ladder.json"]["probes"]
    fastest = steps["one pass, C++"]
    assert fastest["pass_over_backward"]["median"] <= 1 / 4
    assert fastest["over_copy"]["median"] <= 2.0
    assert 0.9 < steps["two matmuls"]["over_autograd"]["median"] < 1.05
    assert 0.9 < steps["two matmuls"]["backward_over_autograd"]["median"] < 1.05
    assert steps["two matmuls"]["faults"] > 38_000
    assert steps["buffers reused"]["faults"] < 1_000
    assert probes["copy X to new memory"]["median"] > 2 * probes["copy X"]["median"]
    assert probes["X @ W"]["median"] > 1.5 * probes["read X"]["median"]
    over_copy = {name: step["over_copy"]["median"] for name, step in steps.items()}
    assert 2 < over_copy["in blocks"] < over_copy["buffers reused"]
    assert 2.5 < over_copy["two matmuls"] / over_copy["buffers reused"] < 3.5
    assert 2 < over_copy["first layer, by hand"]
    by_autograd = [name for name in steps if "autograd" in name]
    assert (len(steps) - len(by_autograd), len(by_autograd)) == (9, 2)
    for path in FILES:
        best = min(
            step["over_autograd"]["median"]
            for step in FOUND[path.name]["steps"].values()
            if step["errors"][2] is not None
        )
        assert best <= 1


def test_what_the_pages_say_of_growth():
    sweeps = FOUND["growth.json"]["sweeps"]
    rows = {point["shape"][0]: point["seconds"] for point in sweeps["N"]}
    features = {point["shape"][1]: point["seconds"] for point in sweeps["D"]}
    for form in ("two matmuls", "autograd"):
        assert rows[512][form]["median"] < 4 * rows[64][form]["median"]

    def over_copy(seconds):
        return seconds["best form"]["median"] / seconds["copy of X"]["median"]

    assert over_copy(rows[65536]) < 1.4
    assert all(1.5 < over_copy(features[D]) < 2.5 for D in (2048, 4096, 8192))


def test_every_form_gives_the_gradients_of_autograd():
    data = forms.draw(48, 7, 1)
    chosen = {n: f for n, f in forms.FORMS.items() if f.fits(48, 7, 1, "cpu", 1e9)}
    del chosen["compiled"]  # takes long, and has its own test
    for name, errors in ladder.errors(chosen, data).items():
        assert all(error is None or error < 1e-5 for error in errors), name


def test_errors_are_seen(monkeypatch):
    """The check that the table of rounding rests on can fail."""
    monkeypatch.setattr(forms.ByHand, "grad_W", staticmethod(lambda X, g: 1.001 * X.T @ g))
    errors = ladder.errors({"two matmuls": forms.FORMS["two matmuls"]}, forms.draw(48, 7, 1))
    assert errors["two matmuls"][0] == pytest.approx(1e-3, rel=0.1)


def test_a_comment_changes_no_fingerprint_and_code_does(tmp_path):
    path = tmp_path / "code.py"
    prints = []
    for text in ("x = 1\n", "x = 1  # one\n", '"""Said."""\nx = 1\n', "x = 2\n"):
        path.write_text(text)
        prints.append(harness.fingerprint([path]))
    assert len(set(prints[:3])) == 1 and prints[3] != prints[0]


def test_forms_take_turns_in_changing_order():
    calls = []
    actions = {n: lambda n=n: calls.append(n) or {"pass": 1.0} for n in "abc"}
    measured = harness.interleave(actions, rounds=20, quiet=True)
    assert {name: len(results) for name, results in measured.items()} == dict.fromkeys("abc", 20)
    rounds = ["".join(calls[i : i + 3]) for i in range(0, len(calls), 3)]
    assert len(rounds) == 20 + harness.WARM_UP
    assert {"".join(sorted(turn)) for turn in rounds} == {"abc"} and len(set(rounds)) > 3


def test_ratios_are_within_rounds():
    assert harness.ratio([2.0, 20.0, 200.0], [1.0, 10.0, 100.0])["median"] == 2.0


def test_time_of_a_pass_is_that_of_its_parts(monkeypatch):
    now = 0

    def takes(seconds):
        nonlocal now
        now += seconds

    class Slow(forms.Pass):
        def forward(self):
            takes(20)

        def backward(self):
            takes(10)
            return ()

        def release(self):
            takes(5)

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    took = forms.time_pass(Slow(forms.draw(2, 2, 1)), harness.Clock("cpu"))
    assert (took["pass"], took["backward"]) == (35, 10)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells the peak")
def test_peak_memory_sees_an_allocation():
    assert harness.peak_bytes(lambda: torch.ones(20_000_000), "cpu") == pytest.approx(8e7, rel=0.1)


def test_forms_that_do_not_fit_are_left_out():
    rows, fused = forms.FORMS["row loops"], forms.FORMS["one pass, C++"]
    assert rows.fits(50_000, 784, 1, "cpu", room=1e9)
    assert not rows.fits(50_000, 784, 64, "cpu", room=1e9)
    assert fused.fits(5, 3, 1, "cpu", room=1e9)
    assert not fused.fits(5, 3, 2, "cpu", room=1e9)
    assert not fused.fits(5, 3, 1, "cuda:0", room=1e9)


def test_results_stand_side_by_side():
    here, there = FOUND["ladder.json"], json.loads(json.dumps(FOUND["ladder.json"]))
    there["steps"].pop("compiled")
    lines = ladder.table(here, there).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert len(lines) == 2 + len(here["steps"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "0"], "--rows needs to be 1 or more: 0"),
        (["--compare", "nowhere.json"], "--compare: there is no nowhere.json"),
    ],
)
def test_bad_input_gets_a_sentence(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ladder", "--device", "cpu", *arguments])
    with pytest.raises(SystemExit):
        ladder.main()
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_gets_a_sentence(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ladder", "--device", "cuda"])
    with pytest.raises(SystemExit):
        ladder.main()
    assert "PyTorch sees no GPU here, use --device cpu" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_that_readers_run():
    sizes = ["--rows", "200", "--features", "20", "--outputs", "2", "--rounds", "2"]
    command = [sys.executable, "-m", "benchmarks.ladder", "--device", "cpu", *sizes]
    done = subprocess.run(
        [*command, "--compare", str(FILES[1])],
        capture_output=True,
        text=True,
        cwd=harness.ROOT,
        check=True,
    )
    assert "in blocks" in done.stdout and "right: " in done.stdout
