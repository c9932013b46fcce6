"""A batch that is cut anywhere gives the gradient of the whole, also when a process is lost."""

import argparse
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time

import markdown
import psutil
import pytest
import torch
import torch.distributed as dist

from benchmarks import failures, harness, machines
from extensions import diagnosis
from extensions import machines as shown_machines
from proofread.signatures import draw
from snippets import network
from snippets.layers import Linear, Model, Mse, Relu
from snippets.machines import accumulate, mean, part
from tests.checks import ROOT

EXACT = {"rtol": 1e-12, "atol": 1e-14}


def data(rows, seed=0):
    return list(draw(network.forward, {"N": rows}, seed).values())


def expected(X, W, b, Y):
    """J, dJ/dW and dJ/db of the whole batch, from the derivation's own code."""
    return list(network.forward_and_backward(X, W, b, Y)[:3])


# Micro-batches.


@pytest.mark.parametrize(
    "sizes", [[11], [1] * 11, [5, 5, 1], [0, 11], [3, 0, 0, 8, 0], [10, 1]], ids=str
)
def test_micro_batches_are_the_whole_batch(sizes):
    X, W, b, Y = data(11)
    batches = zip(X.split(sizes), Y.split(sizes), strict=True)
    sums = accumulate(batches, W, b)
    torch.testing.assert_close(sums, part(X, W, b, Y), **EXACT)
    torch.testing.assert_close(list(mean(*sums)), expected(X, W, b, Y), **EXACT)


def test_float32_agrees_to_its_rounding():
    X, W, b, Y = data(1000)
    single = [T.float() for T in (X, W, b, Y)]
    batches = zip(single[0].split(64), single[3].split(64), strict=True)
    found = [T.double() for T in mean(*accumulate(batches, *single[1:3]))]
    torch.testing.assert_close(found, expected(X, W, b, Y), rtol=1e-4, atol=1e-5)


def test_no_rows_add_nothing():
    X, W, b, Y = data(4)
    for terms in (part(X[:0], W, b, Y[:0]), accumulate([], W, b)):
        assert [T.abs().sum().item() for T in terms] == [0, 0, 0, 0]
        assert [T.shape for T in terms] == [T.shape for T in part(X, W, b, Y)]
        with pytest.raises(ValueError, match="no shard has a row"):
            mean(*terms)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused(dtype):
    """In float16, NM = 70,000 is inf; in bfloat16 it is 70,144."""
    X, W, b, Y = (T.to(dtype) for T in data(4))
    with pytest.raises(ValueError, match=f"W is {dtype}, needed is one of torch.float32"):
        part(X, W, b, Y)
    with pytest.raises(ValueError, match=f"W is {dtype}"):
        accumulate([(X, Y)], W, b)


def test_the_data_is_left_alone():
    X, W, b, Y = data(4)
    before = [T.clone() for T in (X, W, b, Y)]
    accumulate([(X, Y), (X, Y)], W, b)
    torch.testing.assert_close([X, W, b, Y], before, rtol=0, atol=0)


def test_the_mean_of_means_sleeps_while_shards_are_even():
    found = {N: diagnosis.examine("network", "grad_W_mean_of_means", {"N": N}) for N in (5, 6)}
    assert [mistake.label for mistake in found[5].mistakes] == ["unexplained"]
    assert found[6].ok


# The script, without other processes.


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("digits_script", ROOT / failures.SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def alone():
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def options(folder, **changed):
    settings = {"checkpoint": folder / "run.pt", "steps": 20, "every": 7, "rows": 100}
    return argparse.Namespace(**settings | changed)


def by_layers(script, steps):
    """Return the curve that the layers of the site make, in the manner of the notebook."""
    X, Y = script.load()
    state = script.start(X.shape[1], Y.shape[1])
    linear = Linear(state["W"], state["b"])
    model = Model([linear, Relu()], Mse())
    rate = Y.shape[1] / (X.square().sum(1).mean() + 1).item()
    curve = []
    for _ in range(steps):
        curve.append(model(X, Y).item())
        model.backward()
        linear.W -= rate * linear.dJ_dW
        linear.b -= rate * linear.dJ_db
    return curve


def test_one_process_learns_as_the_layers_do(script, alone, tmp_path):
    script.train(options(tmp_path), torch.device("cpu"))
    found = failures.curve(tmp_path / "run.pt")
    assert failures.largest_difference(found, by_layers(script, 20)) < 1e-12
    assert found[-1] < 0.6 * found[0]


def test_it_goes_on_from_a_checkpoint(script, alone, tmp_path, capsys):
    script.train(options(tmp_path, steps=8), torch.device("cpu"))
    script.train(options(tmp_path), torch.device("cpu"))
    assert "first step: 8" in capsys.readouterr().out
    found = failures.curve(tmp_path / "run.pt")
    assert failures.largest_difference(found, by_layers(script, 20)) < 1e-12


def test_a_checkpoint_cut_short_leaves_the_last_one(script, tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    script.save({"curve": [1.0]}, path)

    def cut_short(state, new):
        new.write_bytes(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", cut_short)
    with pytest.raises(OSError, match="no space"):
        script.save({"curve": [1.0, 0.5]}, path)
    assert failures.curve(path) == [1.0]


def test_more_processes_than_rows_are_refused(script, alone, tmp_path, monkeypatch):
    monkeypatch.setattr(dist, "get_world_size", lambda: 2000)
    with pytest.raises(ValueError, match="2000 processes for 1437 rows"):
        script.train(options(tmp_path), torch.device("cpu"))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--checkpoint", "x.pt"], "start it with torchrun"),
        ([], "--checkpoint"),
        (["--checkpoint", "x.pt", "--rows", "0"], "argument --rows: invalid positive value: '0'"),
        (["--checkpoint", "no/where/x.pt"], "there is no folder no/where"),
    ],
)
def test_a_wrong_start_is_one_sentence(script, arguments, reason, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["digits.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        script.main.__wrapped__()
    assert ended.value.code == 2
    assert reason in capsys.readouterr().err.splitlines()[-1]


# Several processes. Everything that waits has an end.


def launch(folder, processes):
    """Let each process compute the gradients of its shards in all cases; return what they found."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}", "tests/machines_worker.py", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, cwd=ROOT, env=environment, timeout=120)
    return [torch.load(folder / f"{rank}.pt") for rank in range(processes)]


SHARDS = {
    2: [[6, 6], [7, 5], [12, 0], [0, 12], [1, 11]],
    4: [[3, 3, 3, 3], [4, 3, 3, 2], [9, 0, 3, 0], [0, 0, 0, 12], [1, 1, 0, 10]],
}


@pytest.mark.slow
@pytest.mark.parametrize("processes", SHARDS)
def test_shards_are_the_whole_batch(processes, tmp_path):
    cases = [(data(12, seed), sizes) for seed, sizes in enumerate(SHARDS[processes])]
    torch.save(cases, tmp_path / "cases.pt")
    found = launch(tmp_path, processes)
    for number, (tensors, sizes) in enumerate(cases):
        right = expected(*tensors)
        for form in ("whole", "in_micro_batches"):
            of_rank = [one[number][form] for one in found]
            torch.testing.assert_close(of_rank[0], right, **EXACT)
            # Not a bit apart, or the weights of the processes would drift.
            assert all(
                torch.equal(a, b)
                for other in of_rank[1:]
                for a, b in zip(of_rank[0], other, strict=True)
            )
        apart = {
            form: max(
                (a - b).abs().max().item()
                for a, b in zip(found[0][number][form], right, strict=True)
            )
            for form in ("mean_of_means", "lost_row", "added_twice")
        }
        assert apart["added_twice"] > 1e-2
        assert apart["lost_row"] > 1e-2
        # Shards of one size hide it.
        assert (apart["mean_of_means"] > 1e-2) == (len(set(sizes)) > 1)


STEPS = 150
# Steps of 45 small micro-batches leave time to be in the middle of them.
SLOW = {"steps": STEPS, "every": 10, "rows": 16}
MIDDLE = 40
LIMIT = failures.LIMIT


@pytest.fixture(scope="module")
def curve_alone(script):
    return by_layers(script, STEPS)


def same(checkpoint, curve_alone):
    found = failures.curve(checkpoint)
    return failures.largest_difference(found, curve_alone) < 1e-12


@pytest.mark.slow
def test_the_curve_of_four_processes_is_that_of_one(curve_alone, tmp_path):
    failures.run(4, tmp_path / "run.pt", {"steps": STEPS})
    assert same(tmp_path / "run.pt", curve_alone)


@pytest.mark.slow
def test_two_machines_meet_as_the_page_says(curve_alone, tmp_path):
    """Two torchruns that know each other by an address only; either can become the first."""
    with socket.create_server(("localhost", 0)) as free:
        address = f"localhost:{free.getsockname()[1]}"
    checkpoint = tmp_path / "run.pt"
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    command += ["--rdzv-backend=c10d", f"--rdzv-endpoint={address}", failures.SCRIPT]
    command += [f"--checkpoint={checkpoint}", f"--steps={STEPS}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen(command, cwd=ROOT, env=environment) for _ in range(2)]
    try:
        assert [machine.wait(timeout=LIMIT) for machine in both] == [0, 0]
    finally:
        for machine in both:
            machine.kill()
    assert same(checkpoint, curve_alone)


ROOT_CAUSE = "Root Cause (first observed failure):"


def wait_for(agent, words):
    """Read what torchrun and the processes print, until these words are in a line."""
    for line in agent.stderr:
        if words in line:
            return
    pytest.fail(f"nobody said {words!r}")


@pytest.mark.slow
def test_a_killed_process_ends_the_run_and_the_next_run_goes_on(curve_alone, tmp_path):
    checkpoint = tmp_path / "run.pt"
    with failures.torchrun(2, checkpoint, settings=SLOW) as agent:
        # The neighbour sleeps until torchrun has looked; else both could be gone by then.
        neighbour = failures.worker(agent, 0, checkpoint, MIDDLE)
        neighbour.suspend()
        failures.worker(agent, 1, checkpoint, MIDDLE).kill()
        wait_for(agent, "closing signal SIGTERM")
        neighbour.send_signal(signal.SIGCONT)
        _, error = agent.communicate(timeout=LIMIT)
    assert agent.returncode == 1
    said = failures.essence(error)
    assert any("-9" in line and "SIGKILL" in line for line in said[said.index(ROOT_CAUSE) :])
    saved = len(failures.curve(checkpoint))
    assert MIDDLE <= saved < STEPS
    assert f"first step: {saved}\n" in failures.run(2, checkpoint, {"steps": STEPS})
    assert same(checkpoint, curve_alone)


@pytest.mark.slow
def test_the_killed_process_is_under_failures_where_its_neighbour_fell_too(tmp_path):
    checkpoint = tmp_path / "run.pt"
    with failures.torchrun(2, checkpoint, settings=SLOW) as agent:
        both = [failures.worker(agent, rank, checkpoint, MIDDLE) for rank in range(2)]
        # torchrun sleeps, and finds both gone when it looks again.
        agent.send_signal(signal.SIGSTOP)
        both[1].kill()
        end = time.monotonic() + LIMIT
        while any(process.status() != psutil.STATUS_ZOMBIE for process in both):
            assert time.monotonic() < end, "the neighbour still runs"
            time.sleep(0.05)
        agent.send_signal(signal.SIGCONT)
        _, error = agent.communicate(timeout=LIMIT)
    assert agent.returncode == 1
    said = failures.essence(error)
    cause = said.index(ROOT_CAUSE)
    assert any("SIGKILL" in line for line in said[said.index("Failures:") : cause])
    assert any("rank      : 0" in line for line in said[cause:])


@pytest.mark.slow
def test_torchrun_starts_them_again_and_the_curve_is_the_same(curve_alone, tmp_path):
    checkpoint = tmp_path / "run.pt"
    once = "--max-restarts=1"
    with failures.torchrun(2, checkpoint, once, settings=SLOW, **failures.OWN_STORE) as agent:
        failures.worker(agent, 0, checkpoint, MIDDLE).kill()
        out, error = agent.communicate(timeout=LIMIT)
    assert agent.returncode == 0, error
    assert out.count("processes: 2, first step") == 2
    assert same(checkpoint, curve_alone)


@pytest.mark.slow
def test_patience_with_a_slow_process_ends(tmp_path):
    checkpoint = tmp_path / "run.pt"
    with failures.torchrun(2, checkpoint, settings=SLOW | {"timeout": 2}) as agent:
        slow = failures.worker(agent, 1, checkpoint, MIDDLE)
        slow.suspend()
        wait_for(agent, "Timed out waiting 2000ms")
        # torchrun's order to end waits for it; left asleep it would be killed in 30 s.
        slow.send_signal(signal.SIGCONT)
        agent.communicate(timeout=LIMIT)
    assert agent.returncode == 1


# What was measured belongs to the code of today.


@pytest.mark.parametrize("measured", [machines, failures])
def test_measured_code_is_the_code_of_today(measured):
    result = json.loads(measured.RESULTS.read_text())
    name = measured.__name__
    assert result["code"] == harness.fingerprint(measured.MEASURED), (
        f"the code has changed: run `python -m {name}` again"
    )


def test_the_machine_was_quiet():
    others = json.loads(machines.RESULTS.read_text())["others"]
    assert others <= harness.BUSY, "measure again when nothing else runs"


def test_the_recorded_runs_went_as_the_page_says():
    result = json.loads(failures.RESULTS.read_text())
    assert (result["steps"], result["every"], result["killed"]["saved"]) == (3000, 100, 1000)
    assert max(result["differences"].values()) < 1e-12
    assert result["killed"]["status"] == result["stopped"]["status"] == 1
    assert result["killed"]["seconds"] < 10
    assert result["stopped"]["seconds"] < result["timeout"] + 40
    for difference in ("difference_1", "difference_2"):
        assert result["killed"][difference] < 1e-12
    assert result["restarted"]["status"] == 0 and result["restarted"]["difference"] < 1e-12
    assert result["paused"]["status"] == 0 and result["paused"]["difference"] < 1e-12
    assert result["restarts"]["own_store"] == [0] * failures.RESTARTS


def test_the_measurements_are_as_the_page_says():
    result = json.loads(machines.RESULTS.read_text())
    batches = {int(rows): batch for rows, batch in result["batches"].items()}
    largest = batches[max(batches)]
    assert all(batches[rows]["processes_over_one"]["high"] < 1 for rows in (16, 64, 256))
    assert largest["processes_over_one"]["median"] > 1.5

    def median(batch, form):
        return batch[form]["median"]

    for rows in (16, 64, 256, 1024):
        assert median(batches[rows], "two_threads") < median(batches[rows], "two_processes")
    assert median(largest, "two_processes") < median(largest, "two_threads")
    close = {}
    for rows, batch in batches.items():
        half, message = median(batch, "one_thread") / 2, median(batch, "message_alone")
        assert (message > half) == (batch["processes_over_one"]["median"] < 1)
        close[rows] = (half + message) / median(batch, "two_processes")
    assert all(0.75 < ratio < 1.1 for ratio in close.values()), close
    messages = result["messages"]
    assert messages["64"]["median"] > 10 * messages["1"]["median"]
    micro = result["micro_batches"]
    assert micro["16"]["median"] > 1.5 * micro["256"]["median"]
    assert micro["256"]["peak_bytes"] < micro["65536"]["peak_bytes"] / 10
    assert max(found["errors"]["float64"] for found in micro.values()) < 1e-12
    # To a megabyte, which two runs can differ by.
    assert micro["16"]["peak_bytes"] < micro["256"]["peak_bytes"] + 1e6


def test_what_was_counted_is_the_ring():
    for sent in json.loads(machines.RESULTS.read_text())["bytes"].values():
        assert sent["formula"] <= sent["counted"] < 1.02 * sent["formula"]


def test_every_part_is_drawn_and_another_is_a_warning(caplog):
    for name in shown_machines.PARTS:
        html = markdown.markdown(f"/// machines | {name}\n///", extensions=["extensions.machines"])
        assert "<figcaption>" in html, name
    assert caplog.records == []
    markdown.markdown("/// machines | batchs\n///", extensions=["extensions.machines"])
    assert "there is no part 'batchs', but batches, " in caplog.text


def test_what_is_shown_of_a_failure_has_no_paths():
    said = failures.essence(
        "E1121 09:56:58.08 15714 torch/x/api.py:10] failed (exitcode: -9) of binary: /a/python\n"
        '[rank0]:   File "/home/me/x.py", line 1, in main\n'
        "[rank0]: RuntimeError: [/__w/pytorch/gloo/gloo/tcp/pair.cc:5] Read error: reset.\n"
    )
    assert said == [
        "torchrun: failed (exitcode: -9)",
        "[rank0]: RuntimeError: Read error: reset.",
    ]
