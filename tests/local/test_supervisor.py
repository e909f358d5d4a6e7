"""The supervisor against real processes: readiness, early death, restarts, order of stopping, and nothing left behind."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from ground_support import GRANDPARENT, LISTENER, SLEEPER, family_probe, gone, python, until

from local.errors import (
    ProcessExitedError,
    ProcessNameTakenError,
    ProcessNotReadyError,
    ProgramMissingError,
    UnknownProcessError,
)
from local.supervisor import (
    CallProbe,
    HttpProbe,
    ProcessSpec,
    ProcessState,
    RestartPolicy,
    Supervisor,
    TcpProbe,
    free_port,
    stopped_by_signals,
)
from local.supervisor import supervisor as supervisor_module

FAST = {"first_delay_seconds": 0.01, "longest_delay_seconds": 0.05}


def test_a_started_process_is_ready_in_a_session_of_its_own_and_stops(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Supervisor(tmp_path) as supervisor:
            process, port = await supervisor.start_on_free_port(
                lambda port: python("server", LISTENER, str(port), ready=TcpProbe(port))
            )
            assert process.state is ProcessState.READY
            pid = process.pid
            assert pid is not None and os.getsid(pid) == pid
            assert await TcpProbe(port).ready()
            await supervisor.stop("server")
            assert (process.state, process.exit_code) == (ProcessState.STOPPED, -signal.SIGTERM)
            assert gone(pid)
            assert not await TcpProbe(port).ready()
            with pytest.raises(UnknownProcessError, match="no process called server"):
                await supervisor.stop("server")

    asyncio.run(scenario())


def test_http_probe_waits_for_its_status(tmp_path: Path) -> None:
    code = """
        import http.server, sys, time
        count = 0
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                global count
                count += 1
                print("asked", count, flush=True)
                self.send_response(200 if count == 3 else 503); self.end_headers()
            def log_message(self, *_): pass
        http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
    """

    async def scenario() -> None:
        async with Supervisor(tmp_path) as supervisor:
            await supervisor.start_on_free_port(
                lambda port: python("web", code, str(port), ready=HttpProbe(f"http://127.0.0.1:{port}/ready?x=1"))
            )

    asyncio.run(scenario())
    assert (tmp_path / "web.log").read_text().split("\n")[:3] == ["asked 1", "asked 2", "asked 3"]


def test_early_death_shows_exit_code_and_the_last_lines_of_this_life(tmp_path: Path) -> None:
    log = tmp_path / "bad.log"
    log.write_text("of an earlier life\n")
    code = "import sys; [print('line', n, flush=True) for n in range(50)]; sys.exit('no such disk')"

    async def scenario() -> None:
        async with Supervisor(tmp_path) as supervisor:
            with pytest.raises(ProcessExitedError) as caught:
                await supervisor.start(python("bad", code, ready=TcpProbe(free_port())))
            assert caught.value.exit_code == 1
            assert "process bad ended with exit code 1" in str(caught.value)
            assert "no such disk" in str(caught.value) and str(log) in str(caught.value)
            assert "line 49" in caught.value.tail and "line 10\n" not in caught.value.tail
            assert "earlier life" not in caught.value.tail
            assert supervisor.processes() == []

    asyncio.run(scenario())


def test_a_process_that_never_gets_ready_is_stopped_and_named(tmp_path: Path) -> None:
    pids: list[int] = []

    async def scenario() -> None:
        async with Supervisor(tmp_path) as supervisor:
            port = free_port()
            spec = python(
                "mute",
                SLEEPER,
                ready=TcpProbe(port),
                ready_seconds=0.3,
                on_change=lambda process: pids.append(process.pid or 0),
            )
            with pytest.raises(ProcessNotReadyError, match=rf"mute was not ready within 0.3 s .*127.0.0.1:{port}"):
                await supervisor.start(spec)

    asyncio.run(scenario())
    assert gone(pids[0])


def test_a_probe_that_hangs_does_not_hold_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local.supervisor.process.ONE_PROBE_SECONDS", 0.05)
    calls = []

    async def hang_once() -> bool:
        calls.append(1)
        if len(calls) == 1:
            await asyncio.Event().wait()
        return True

    async def scenario() -> None:
        async with Supervisor(tmp_path) as supervisor:
            await supervisor.start(python("slow", SLEEPER, ready=CallProbe("a second call", hang_once)))

    asyncio.run(scenario())
    assert len(calls) == 2


def test_missing_program_and_taken_name(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Supervisor(tmp_path) as supervisor:
            with pytest.raises(ProgramMissingError, match="no-such-program is not an executable file"):
                await supervisor.start(ProcessSpec("x", ("no-such-program",)))
            first = await supervisor.start(python("x", SLEEPER))
            with pytest.raises(ProcessNameTakenError, match=f"runs already as pid {first.pid}"):
                await supervisor.start(python("x", SLEEPER))

    asyncio.run(scenario())


def test_environment_is_added_or_replaces_and_folder_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INHERITED", "yes")
    code = "import os, signal; print(os.getcwd(), os.environ.get('INHERITED'), os.environ.get('OWN'), flush=True)"

    async def scenario() -> None:
        async with Supervisor(tmp_path) as supervisor:
            specs = [
                python("added", code, env={"OWN": "1"}, cwd=tmp_path),
                python("replaced", code, env={"OWN": "2"}, inherit_environment=False, cwd=tmp_path),
            ]
            for spec in specs:
                process = await supervisor.start(spec)
                async with asyncio.timeout(10):
                    await process.wait_state(ProcessState.EXITED)

    asyncio.run(scenario())
    assert (tmp_path / "added.log").read_text() == f"{tmp_path} yes 1\n"
    assert (tmp_path / "replaced.log").read_text() == f"{tmp_path} None 2\n"


def test_a_dead_process_comes_back_and_is_counted(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Supervisor(tmp_path) as supervisor:
            process, port = await supervisor.start_on_free_port(
                lambda port: python("phoenix", LISTENER, str(port), ready=TcpProbe(port), restart=RestartPolicy(**FAST))
            )
            for death in (1, 2):
                first = process.pid
                assert first is not None
                os.kill(first, signal.SIGKILL)
                async with asyncio.timeout(10):
                    await process.wait_state(ProcessState.RESTARTING)
                    await process.wait_state(ProcessState.READY)
                assert process.restarts == death and process.pid != first
                assert process.exit_code == -signal.SIGKILL
                assert await TcpProbe(port).ready()

    asyncio.run(scenario())


def test_restarts_are_bounded(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Supervisor(tmp_path) as supervisor:
            process = await supervisor.start(
                python("doomed", "print('once more')", restart=RestartPolicy(limit=3, **FAST))
            )
            async with asyncio.timeout(10):
                await process.wait_state(ProcessState.EXITED)
            assert process.restarts == 3

    asyncio.run(scenario())
    assert (tmp_path / "doomed.log").read_text().count("once more") == 4


def test_a_restart_that_does_not_get_ready_is_tried_again(tmp_path: Path) -> None:
    ready = [True, False, True]

    async def probe() -> bool:
        return ready[0]

    async def scenario() -> None:
        async with Supervisor(tmp_path) as supervisor:
            process = await supervisor.start(
                python(
                    "lame",
                    SLEEPER,
                    ready=CallProbe("the flag", probe),
                    ready_seconds=0.2,
                    restart=RestartPolicy(**FAST),
                )
            )
            ready[0] = False
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            async with asyncio.timeout(10):
                while process.restarts < 2:
                    await process.wait_state(ProcessState.STARTING)
                    await process.wait_state(ProcessState.RESTARTING)
                ready[0] = True
                await process.wait_state(ProcessState.READY)

    asyncio.run(scenario())
    assert "supervisor: start 1 failed: process lame was not ready within 0.2 s" in (tmp_path / "lame.log").read_text()


def test_stop_of_a_process_that_waits_for_its_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Supervisor(tmp_path) as supervisor:
            process = await supervisor.start(
                python("later", "pass", restart=RestartPolicy(first_delay_seconds=60, longest_delay_seconds=60))
            )
            async with asyncio.timeout(10):
                await process.wait_state(ProcessState.RESTARTING)
                await supervisor.stop("later")
            assert process.state is ProcessState.STOPPED

    asyncio.run(scenario())


def test_a_process_that_ignores_the_stop_signal_is_killed(tmp_path: Path) -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"

    async def scenario() -> None:
        async with Supervisor(tmp_path) as supervisor:

            async def ignores() -> bool:
                return "up" in (tmp_path / "stubborn.log").read_text()

            process = await supervisor.start(
                python("stubborn", code, ready=CallProbe("its first line", ignores), stop_seconds=0.1)
            )
            await process.stop()
            assert process.exit_code == -signal.SIGKILL

    asyncio.run(scenario())


def test_stages_stop_in_order_and_with_their_signal(tmp_path: Path) -> None:
    code = """
        import signal, sys, pathlib
        order = pathlib.Path(sys.argv[1])
        def end(number, frame):
            with order.open("a") as file: file.write(f"{sys.argv[2]} {signal.Signals(number).name}\\n")
            sys.exit(0)
        signal.signal(signal.SIGTERM, end); signal.signal(signal.SIGINT, end)
        order.with_name(sys.argv[2]).touch()
        signal.pause()
    """
    order = tmp_path / "order"

    async def scenario() -> None:
        async with Supervisor(tmp_path) as supervisor:
            for name, stage, number in (
                ("low", 0, signal.SIGINT),
                ("high", 2, signal.SIGTERM),
                ("mid", 1, signal.SIGTERM),
            ):

                async def started(name: str = name) -> bool:
                    return (tmp_path / name).exists()

                await supervisor.start(
                    python(
                        name, code, str(order), name, stage=stage, stop_signal=number, ready=CallProbe("it", started)
                    )
                )

    asyncio.run(scenario())
    assert order.read_text() == "high SIGTERM\nmid SIGTERM\nlow SIGINT\n"


@pytest.mark.parametrize("end", ["stop", "death"])
def test_grandchildren_go_with_their_parent(tmp_path: Path, end: str) -> None:
    async def scenario() -> int:
        async with Supervisor(tmp_path) as supervisor:
            process = await supervisor.start(
                python("parent", GRANDPARENT, ready=family_probe(tmp_path / "parent.log"), stop_seconds=1)
            )
            grandchild = int((tmp_path / "parent.log").read_text())
            assert not gone(grandchild) and process.pid is not None
            if end == "stop":
                await process.stop()
            else:
                os.kill(process.pid, signal.SIGKILL)
                async with asyncio.timeout(10):
                    await process.wait_state(ProcessState.EXITED)
            return grandchild

    grandchild = asyncio.run(scenario())
    until(lambda: gone(grandchild), "the grandchild's end")


SUPERVISING = """
    import asyncio, sys
    from pathlib import Path
    from local.supervisor import ProcessSpec, Supervisor, stopped_by_signals
    from ground_support import GRANDPARENT, SLEEPER, family_probe, python

    async def main():
        logs = Path(sys.argv[1])
        async with stopped_by_signals(), Supervisor(logs) as supervisor:
            for spec in (python("plain", SLEEPER), python("parent", GRANDPARENT, ready=family_probe(logs / "parent.log"))):
                print((await supervisor.start(spec)).pid, flush=True)
            print((logs / "parent.log").read_text().strip(), supervisor._reaper.pid, "started", flush=True)
            await asyncio.Event().wait()

    asyncio.run(main())
"""


# A supervised process that supervises others, as a cloud's process under the ground's daemon does.
NESTED = """
    import asyncio, os, sys
    from pathlib import Path
    from ground_support import family_probe
    from local.supervisor import CallProbe, ProcessSpec, Supervisor, stopped_by_signals

    async def main():
        logs, inner = Path(sys.argv[1]), Path(sys.argv[1]) / "inner"
        async def started():
            return "started" in (logs / "middle.log").read_text()
        async with stopped_by_signals(), Supervisor(logs) as supervisor:
            command = (sys.executable, "-c", sys.argv[2], str(inner))
            middle = await supervisor.start(ProcessSpec("middle", command, ready=CallProbe("the inner ones", started)))
            print(middle.pid, supervisor._reaper.pid, (logs / "middle.log").read_text(), flush=True)
            await asyncio.Event().wait()

    asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
def test_nothing_survives_the_supervisor(tmp_path: Path, number: signal.Signals, nested: bool) -> None:
    inner = textwrap.dedent(SUPERVISING)
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(NESTED) if nested else inner, str(tmp_path), inner],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        text=True,
    )
    assert process.stdout is not None
    words: list[str] = []
    while "started" not in words:
        line = process.stdout.readline()
        assert line, "the supervising process ended early"
        words += line.split()
    pids = [int(word) for word in words if word != "started"]
    assert len(pids) == (6 if nested else 4) and not any(gone(pid) for pid in pids)
    process.send_signal(number)
    code = process.wait(20)
    process.stdout.close()
    assert code == (-signal.SIGKILL if number is signal.SIGKILL else 0)
    for pid in pids:
        until(lambda pid=pid: gone(pid), f"the end of process {pid}")  # type: ignore[misc]


def test_a_child_whose_parent_died_before_it_could_ask_for_its_own_death_does_not_start() -> None:
    trampoline = Path(supervisor_module.__file__).with_name("trampoline.py")
    nobody = os.getpid() + 1
    orphan = subprocess.run(
        [sys.executable, str(trampoline), str(nobody), "echo", "x"], capture_output=True, check=False
    )
    assert (orphan.returncode, orphan.stdout) == (113, b"")
    child = subprocess.run(
        [sys.executable, str(trampoline), str(os.getpid()), "echo", "x"], capture_output=True, check=False
    )
    assert (child.returncode, child.stdout) == (0, b"x\n")


def test_a_dead_reaper_is_replaced(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Supervisor(tmp_path) as supervisor:
            await supervisor.start(python("one", SLEEPER))
            first = supervisor._reaper
            assert first is not None
            first.kill()
            first.wait()
            await supervisor.start(python("two", SLEEPER))
            assert supervisor._reaper is not first

    asyncio.run(scenario())


def test_a_taken_port_is_tried_once_more_with_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        given = iter([taken, free_port()])
        monkeypatch.setattr(supervisor_module, "free_port", lambda: next(given))

        async def never_by_another() -> bool:
            return False

        async def scenario() -> int:
            async with Supervisor(tmp_path) as supervisor:

                def spec(port: int) -> ProcessSpec:
                    # The port that somebody has answers too: only the process's own end tells.
                    probe = CallProbe("nobody", never_by_another) if port == taken else TcpProbe(port)
                    return python("server", LISTENER, str(port), ready=probe)

                process, port = await supervisor.start_on_free_port(spec)
                assert process.state is ProcessState.READY
                return port

        assert asyncio.run(scenario()) != taken


def test_free_ports_differ_and_lie_below_the_outgoing_range() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    assert all(18_000 <= port <= 32_000 for port in ports)


def test_signals_end_the_body_only() -> None:
    async def scenario() -> str:
        async with stopped_by_signals():
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()
        return "after"

    assert asyncio.run(scenario()) == "after"


def test_a_cancelled_stop_still_stops_everything(tmp_path: Path) -> None:
    async def scenario() -> None:
        supervisor = Supervisor(tmp_path)
        code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"

        async def ignores() -> bool:
            return "up" in (tmp_path / "slow.log").read_text()

        process = await supervisor.start(python("slow", code, ready=CallProbe("it", ignores), stop_seconds=0.2))
        pid = process.pid
        assert pid is not None
        stopping = asyncio.create_task(supervisor.stop_all())
        await asyncio.sleep(0)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        assert gone(pid) and supervisor.processes() == []

    asyncio.run(scenario())
