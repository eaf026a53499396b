"""A PostgreSQL server of one's own on 127.0.0.1, for tests and benchmarks of searches.

It needs Debian's package postgresql, psycopg, and no server that runs already.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path


def find_initdb():
    """Path of the program that makes a cluster; None where it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return shutil.which("initdb") or (str(found[-1]) if found else None)


@contextmanager
def postgres_server():
    """Start a server, and give the URL that names of databases are put behind."""
    programs = Path(find_initdb()).resolve().parent
    # The server refuses to run as root.
    become = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    folder = tempfile.mkdtemp(prefix="skmedimg-pg-")
    if become:
        shutil.chown(folder, "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(program, *args):
        subprocess.run(
            [*become, str(programs / program), "-D", f"{folder}/data", *args],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
        )

    try:
        run("initdb", "-A", "trust", "-U", "tester")
        options = f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off"
        run("pg_ctl", "-w", "-l", f"{folder}/log", "-o", options, "start")
        try:
            yield f"postgresql://tester@127.0.0.1:{port}"
        finally:
            run("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def make_database(server):
    """Make an empty database, and give its URL."""
    import psycopg

    name = f"test_{time.time_ns()}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{server}/{name}"
