"""The node as a family of processes: how it starts, stops and refuses, what a kill leaves."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from support.peers import Ports, children, node, node_settings, run_command, wait_until, write_node


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False


def test_a_node_is_alone_on_its_storage_and_leaves_no_part_behind(tmp_path: Path) -> None:
    ports = Ports()
    config = write_node(tmp_path, node_settings(ports))
    with node(config, ports.node) as process:
        parts = children(process.popen.pid)
        assert set(parts) == {"receive", "work", "deliver", "serve"}
        assert not any("torch" in line for line in loaded(parts["receive"]))

        second = run_command("start", "-c", config)
        assert second.returncode == 2
        assert "Another node runs on the storage folder" in second.stderr
        assert "Traceback" not in second.stderr

        process.kill()
        wait_until("every part has ended", lambda: not any(map(alive, parts.values())))

    with node(config, ports.node) as process:
        parts = children(process.popen.pid)
        assert process.stop() == 0, process.output
    assert not any(map(alive, parts.values()))


def test_a_part_that_refuses_its_configuration_ends_the_node(tmp_path: Path) -> None:
    ports = Ports()
    config = write_node(tmp_path, node_settings(ports))
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", ports.node))
        holder.listen()
        ended = run_command("start", "-c", config)
    assert ended.returncode == 2
    assert f"Port {ports.node} on 127.0.0.1 is in use" in ended.stderr
    assert "its part `receive` says why above" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_commands_load_no_torch_until_they_need_it() -> None:
    code = "import sys, dicom_node.cli.entry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def loaded(pid: int) -> list[str]:
    """The files a process has mapped into its memory."""
    return Path(f"/proc/{pid}/maps").read_text().splitlines()
