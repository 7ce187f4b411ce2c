"""Cells over processes: order, errors, threads, interruptions, and no process left behind."""

import dataclasses
import functools
import math
import operator
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest

import helpers
from helpers import workers
from helpers.workers import map_cells

SRC = str(Path(helpers.__file__).parents[1])
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
both = pytest.mark.parametrize("count", [1, 2])


@dataclasses.dataclass(frozen=True)
class Cell:
    name: str
    seconds: float = 0.0


class Awkward(Exception):
    """An exception that pickles but cannot be rebuilt."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


class Pair(Exception):
    """An exception of two values, that can be rebuilt."""


def work(cell):
    time.sleep(cell.seconds)
    return cell.name, os.getpid()


def threads(_):
    before = "torch" in sys.modules
    import torch

    return before, torch.get_num_threads(), {name: os.environ.get(name) for name in workers.THREADS}


def log_order(cell):
    path, name = cell
    if name == "last":  # ends after three others have, so that another process does those
        soon(lambda: path.exists() and len(path.read_text().split()) == 3, 60)
    with open(path, "a") as file:
        file.write(f"{name} ")
    return os.getpid()


FAILURES = {
    "ValueError": lambda: ValueError("bad rate"), "EOFError": lambda: EOFError("end of data"),
    "KeyError": lambda: KeyError("seed"), "OSError": lambda: OSError(28, "No space left"),
    "Pair": lambda: Pair("a", "b"), "Awkward": lambda: Awkward("one", "two"),
}


def fail(cell):
    if cell.name in FAILURES:
        raise FAILURES[cell.name]()
    return work(cell)


def chained(cell):
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError as error:
        raise ValueError("chained") from error


def unpicklable(cell):
    return lambda: cell


def die(cell):
    os.kill(os.getpid(), signal.SIGKILL)


def leave(cell):
    sys.exit(3)


def nested(cell):
    return map_cells(os_pid, range(3), workers=2), os.getpid()


def os_pid(_):
    return os.getpid()


def holds_interrupts(_):
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def interrupt(_):
    raise KeyboardInterrupt


def python(code, *arguments, **options):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([SRC, str(Path(__file__).parent)])}
    environment.pop("TQDM_DISABLE", None)
    environment.update(options.pop("env", {}))
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    command = [sys.executable, *(["-c", code] if isinstance(code, str) else [str(code)])]
    return subprocess.Popen([*command, *map(str, arguments)], env=environment, text=True, **options)


def gone(pid):
    """Whether a process has ended (a zombie, that nobody has waited for, has)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z"


def soon(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


# --- results --------------------------------------------------------------------------------------


@both
def test_results_come_in_the_order_of_the_cells(count):
    cells = [Cell(str(i), 0.3 * (i == 0)) for i in range(7)]
    results = map_cells(work, cells, workers=count, costs=[1, 5, 2, 2, 9, 0, 1])
    assert [name for name, _ in results] == list("0123456")
    pids = {pid for _, pid in results}
    assert len(pids) == count and (os.getpid() in pids) == (count == 1)
    assert soon(lambda: all(gone(pid) for pid in pids - {os.getpid()}))


@both
def test_the_longest_cells_start_first(tmp_path, count):
    cells = [(tmp_path / "log", name) for name in "abcd"]
    if count == 1:
        map_cells(log_order, cells, workers=1, costs=[1, 3, 2, 3])
        assert (tmp_path / "log").read_text() == "b d c a "
    else:
        cells = [(tmp_path / "log", name) for name in ("a", "b", "last", "c")]
        pids = map_cells(log_order, cells, workers=2, costs=[0, 0, 1, 0])
        assert pids[0] == pids[1] == pids[3] != pids[2]
        assert (tmp_path / "log").read_text() == "a b c last "


@pytest.mark.parametrize(("cells", "count"), [([4], 8), ([4, 9], 1), ([4, 9], 0), ([], 2)])
def test_in_process(cells, count):
    # A lambda cannot be sent to a process, so this ran here.
    assert map_cells(lambda x: math.sqrt(x), cells, workers=count) == [x**0.5 for x in cells]


def test_functions_of_other_modules_and_partials():
    assert map_cells(math.sqrt, iter([1, 4]), workers=2) == [1, 2]
    assert map_cells(functools.partial(operator.add, 1), [1, 4], workers=2) == [2, 5]


def test_default_number_of_processes(monkeypatch):
    assert 1 <= workers.cpu_count() <= os.cpu_count()
    monkeypatch.setattr(workers, "cpu_count", lambda: 2)
    assert len(set(map_cells(os_pid, range(4)))) <= 2
    assert os.getpid() not in map_cells(os_pid, range(4))


def test_a_map_within_a_worker_stays_in_it():
    for pids, pid in map_cells(nested, [0, 1], workers=2):
        assert pids == [pid] * 3


def test_costs_of_another_length():
    with pytest.raises(ValueError, match="models: 1 costs for 2 cells"):
        map_cells(work, [1, 2], costs=[1], label="models")


@pytest.mark.parametrize("function", [lambda x: x, functools.partial(lambda x: x)])
def test_functions_that_a_process_cannot_import(function):
    with pytest.raises(ValueError, match="cannot be imported by a worker process"):
        map_cells(function, [1, 2], workers=2)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "count"), [
    *((name, 1) for name in FAILURES),
    *((name, 2) for name in ("ValueError", "EOFError", "OSError", "Awkward")),
])
def test_an_exception_names_its_cell(name, count):
    cells = [Cell("fine"), Cell(name), Cell("slow", 0.0 if count == 1 else 500.0)]
    kind = type(FAILURES[name]())
    if name == "Awkward" and count == 2:
        kind = RuntimeError
    began = time.monotonic()
    with pytest.raises(kind) as caught:
        map_cells(fail, cells, workers=count, label="models")
    assert time.monotonic() - began < 250  # the slow cell is not waited for
    text = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert f"models: cell 2 of 3, Cell(name='{name}', seconds=0.0)" in text
    if name in ("ValueError", "EOFError"):  # in the message itself, where that is plain text
        assert "models: cell 2 of 3" in str(caught.value)
    if name == "OSError":
        assert caught.value.errno == 28
    if name == "Awkward" and count == 2:
        assert "Awkward: one and two" in str(caught.value)
    if count == 2:
        assert "in fail" in str(caught.value.__cause__)  # the traceback over there


def test_a_cause_is_kept():
    with pytest.raises(ValueError) as caught:
        map_cells(chained, [1], workers=1)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(ValueError) as caught:
        map_cells(chained, [1, 2], workers=2)
    assert "ZeroDivisionError" in str(caught.value.__cause__)


def test_large_cells_are_named_briefly():
    import numpy as np

    cell = (Cell("ValueError"), np.zeros((100, 100)), "x" * 10000)
    with pytest.raises(TypeError) as caught:
        map_cells(math.sqrt, [cell], workers=1)
    text = str(caught.value)
    assert "Cell(name='ValueError'" in text and len(text) < 1000 and "\n" not in text


def test_results_and_cells_that_do_not_pickle():
    with pytest.raises(RuntimeError, match=r"(?s)pickle.*cells: cell . of 2, Cell"):
        map_cells(unpicklable, [Cell("a"), Cell("b")], workers=2)
    with pytest.raises(Exception, match=r"(?s)pickle.*cells: cell 1 of 2, "):
        map_cells(work, [lambda: 0, 1], workers=2)


@posix
def test_a_process_that_dies_is_told(monkeypatch):
    with pytest.raises(RuntimeError, match=r"exit code -9 \(killed.*fewer workers.*cell . of 2"):
        map_cells(die, [Cell("a"), Cell("b")], workers=2)
    with pytest.raises(RuntimeError, match=r"exit code 3 \[cells: cell . of 2"):
        map_cells(leave, [Cell("a"), Cell("b")], workers=2)


# --- threads and what the parent keeps ------------------------------------------------------------


def test_one_torch_thread_in_each_process(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    for before, count, environment in map_cells(threads, [0, 1], workers=2):
        assert not before and count == 1 and set(environment.values()) == {"1"}
    assert os.environ["OMP_NUM_THREADS"] == "2" and "MKL_NUM_THREADS" not in os.environ


def test_one_torch_thread_in_process():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert map_cells(threads, [0], workers=1)[0][1] == 1
        with pytest.raises(KeyboardInterrupt):
            map_cells(interrupt, [0], workers=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_parent_is_left_as_it_was():
    main = sys.modules["__main__"]
    before = main.__spec__, getattr(main, "__file__", None), dict(os.environ)
    masks = hasattr(signal, "pthread_sigmask")
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ()) if masks else None
    map_cells(math.sqrt, [1, 4], workers=2)
    assert (main.__spec__, getattr(main, "__file__", None), dict(os.environ)) == before
    assert not masks or signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask


def test_import_does_not_load_torch():
    code = "import sys, math; from helpers.workers import map_cells\n" \
        "map_cells(math.sqrt, [1, 4], workers=2)\nprint('torch' in sys.modules)"
    process = python(code)
    assert process.communicate(timeout=60)[0] == "False\n"


def test_a_script_without_a_main_guard(tmp_path):
    script = tmp_path / "chapter.py"
    script.write_text(
        "print('started')\nimport math\nfrom helpers.workers import map_cells\n"
        "def own(x):\n    return x\n"
        "print(map_cells(math.sqrt, [1, 4, 9], workers=2))\n"
        "try:\n    map_cells(own, [1, 2], workers=2)\n"
        "except ValueError as error:\n    print(error)\n"
    )
    out, err = python(script).communicate(timeout=60)
    started, roots, refusal = out.splitlines()
    assert (started, roots, err) == ("started", "[1.0, 2.0, 3.0]", "")
    assert "own cannot be imported" in refusal and "move it to a module" in refusal


# --- interruptions --------------------------------------------------------------------------------

INTERRUPTED = """
import sys
from helpers.workers import map_cells
from test_workers import sleep_long
map_cells(sleep_long, [sys.argv[1]] * 3, workers=int(sys.argv[2]))
print("finished")
"""


def sleep_long(directory):
    Path(directory, str(os.getpid())).touch()
    end = time.monotonic() + 40
    while time.monotonic() < end:
        pass
    return directory


def start_busy(tmp_path, count, **options):
    """Start a map; return it and the ids of its processes once all of them compute."""
    process = python(INTERRUPTED, tmp_path, count, **options)
    assert soon(lambda: len(list(tmp_path.iterdir())) == count, 60)
    return process, [int(path.name) for path in tmp_path.iterdir()]


@posix
@both
@pytest.mark.parametrize("group", [False, True], ids=["process", "group"])
def test_ctrl_c(tmp_path, count, group):
    process, children = start_busy(tmp_path, count, start_new_session=True)
    assert (process.pid in children) == (count == 1)
    began = time.monotonic()
    if group:  # as a terminal does
        os.killpg(process.pid, signal.SIGINT)
    else:  # as a notebook does
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 20
    assert process.returncode in (-signal.SIGINT, 130) and out == ""
    assert err.count("Traceback") == 1 and err.rstrip().endswith("KeyboardInterrupt")
    assert soon(lambda: all(map(gone, children))) and len(list(tmp_path.iterdir())) == count


@posix
def test_processes_leave_ctrl_c_to_the_parent():
    assert all(map_cells(holds_interrupts, [0, 1], workers=2))
    assert not holds_interrupts(0)


@pytest.mark.parametrize("calm", [False, True])
def test_after_an_error_processes_are_killed_before_they_are_waited_for(calm):
    process, pipe = mock.Mock(), mock.Mock()
    process.is_alive.return_value = False
    workers._stop([(process, pipe)], calm)
    calls = [name for name, *_ in process.method_calls]
    assert calls == (["join", "is_alive"] if calm else ["kill", "join", "is_alive"])
    pipe.close.assert_called_once()


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_processes_follow_a_killed_parent(tmp_path, number):
    process, children = start_busy(tmp_path, 2)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == -number
    assert soon(lambda: all(map(gone, children)))


@posix
def test_ctrl_c_while_processes_start(tmp_path):
    for delay in (0.3, 0.6):
        process = python(INTERRUPTED, tmp_path, 2, start_new_session=True)
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode in (-signal.SIGINT, 130, 1)
        assert soon(lambda: all(gone(int(path.name)) for path in tmp_path.iterdir()))


# --- progress -------------------------------------------------------------------------------------

PROGRESS = """
import math
from helpers.workers import map_cells
map_cells(math.sqrt, [1, 4, 9], workers=1, label="models", costs=[1, 2, 1])
"""


def on_terminal(code, **env):
    """Run a script with a pseudo-terminal as its standard error; return what was written there."""
    import pty
    import termios

    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    process = python(code, stdout=subprocess.DEVNULL, stderr=theirs, env=env)
    os.close(theirs)
    assert process.wait(60) == 0
    text = b""
    try:
        while part := os.read(ours, 4096):
            text += part
    except OSError:  # Linux says so at the end
        pass
    os.close(ours)
    return text.decode()


@posix
def test_a_bar_with_the_time_left_on_a_terminal():
    text = on_terminal(PROGRESS)
    assert "models 100%" in text and "3/3" in text and "left]" in text
    assert on_terminal(PROGRESS, TQDM_DISABLE="1") == ""


@posix
def test_no_bar_in_a_notebook_even_on_a_terminal():
    shell = (
        "import IPython\n"
        "IPython.get_ipython = lambda: type('Shell', (), {'kernel': 1})()\n"
    )
    pytest.importorskip("IPython")
    assert on_terminal(shell + PROGRESS) == ""


def test_no_bar_elsewhere_unless_asked(capfd):
    map_cells(math.sqrt, [1, 4], workers=1)
    assert capfd.readouterr() == ("", "")
    map_cells(math.sqrt, [1, 4], workers=1, label="models", progress=True, costs=[0, 0])
    assert "models 100%" in capfd.readouterr().err
    map_cells(math.sqrt, [], progress=True)
    assert capfd.readouterr() == ("", "")
