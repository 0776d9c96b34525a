"""Servers on loopback or on a Unix socket, each with a directory of its own: sshd, PostgreSQL, redis."""

import os
import re
import socket
import subprocess
from pathlib import Path

from common import (
    Failed, Skipped, become_nobody, environment, expect_served, find, need, need_root, run, server, succeed, wait_until,
)

LOGINS = 50


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def logins(scratch, kmem):
    """How many of the logins succeed. Each passes the sandbox that sshd puts around connections before they are logged
    in."""
    port, folder = free_port(), scratch / f"sshd-{kmem}"
    folder.mkdir()
    for key in ("host", "user"):
        succeed(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key])
    settings = {
        "Port": port, "ListenAddress": "127.0.0.1", "HostKey": folder / "host", "PidFile": "none", "UsePAM": "no",
        "AuthorizedKeysFile": folder / "user.pub", "StrictModes": "no", "PermitRootLogin": "prohibit-password",
        "MaxStartups": "100:30:200",
    }
    (folder / "config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    log = folder / "log"
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    options = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ConnectTimeout=5", "IdentitiesOnly=yes"]
    client = ["ssh", "-F", "none", "-q", "-i", folder / "user", "-p", port, *(part for option in options for part in ("-o", option))]
    with server(["sshd", "-D", "-e", "-f", folder / "config"], kmem, log) as process:
        wait_until(lambda: answers(port), process, log)
        if kmem:
            expect_served(process)
        fine = sum(run([*client, f"{user}@127.0.0.1", f"echo {n}"], patience=20).stdout.strip() == str(n) for n in range(LOGINS))
    return fine, log.read_text(errors="replace")[-400:]


def sshd(scratch):
    need("sshd", "ssh", "ssh-keygen")
    need_root()
    # Created by the service's start: the empty directory for the process that handles the login.
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    without, log = logins(scratch, kmem=False)
    if without < LOGINS:
        raise Skipped(f"without kmem {without} logins of {LOGINS} succeed: {log}")
    fine, log = logins(scratch, kmem=True)
    if fine < LOGINS:
        raise Failed(f"{fine} logins of {LOGINS}: {log}")
    return f"{fine} logins of {LOGINS}"


def transactions(scratch, binaries, kmem):
    folder = scratch / f"postgres-{kmem}"
    folder.mkdir()
    folder.chmod(0o777)
    data, log, nobody = folder / "data", scratch / f"postgres-{kmem}.log", become_nobody()
    connection = ["-h", folder, "-U", "kmem", "postgres"]

    def tool(name, *arguments):
        return succeed([binaries / name, *arguments], kmem=kmem, cwd=folder, **nobody)

    tool("initdb", "-D", data, "-U", "kmem", "--auth=trust", "--no-sync", "--no-locale", "-E", "UTF8")
    command = [binaries / "postgres", "-D", data, "-F", "-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}"]
    with server([str(command[0]), *command[1:]], kmem, log, cwd=folder, **nobody) as process:
        ready = [binaries / "pg_isready", "-q", "-h", folder]
        wait_until(lambda: run(ready).returncode == 0, process, log)
        if kmem:
            expect_served(process)
        tool("pgbench", "-q", "-i", "-s", "2", *connection)
        said = tool("pgbench", "-n", "-T", "4", "-c", "4", "-j", "2", *connection)
        rows = tool("psql", "-At", "-h", folder, "-U", "kmem", "postgres", "-c",
                    "select (select count(*) from pgbench_accounts), (select count(*) from pgbench_history) > 0,"
                    " (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)")
    count = int(re.search(r"transactions actually processed: (\d+)", said)[1])
    if rows.strip() != "200000|t|t" or "failed transactions: 0" not in said:
        raise Failed(f"{rows.strip()}; {said.strip()[-300:]}")
    text = log.read_text(errors="replace")
    if re.search("PANIC|terminated by signal|crashed", text):
        raise Failed(text[-600:])
    return count


def postgres(scratch):
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not places:
        raise Skipped("PostgreSQL is not installed")
    counts = [transactions(scratch, places[-1].parent, kmem) for kmem in (False, True)]
    return f"{counts[1]} transactions, {counts[0]} without"


COMMANDS = ["set", "get", "incr", "lpush", "rpop", "sadd", "hset", "zadd", "lrange_100", "mset"]


def requests(scratch, kmem):
    folder = scratch / f"redis-{kmem}"
    folder.mkdir()
    path, log = folder / "socket", folder / "log"
    ask = ["redis-cli", "-s", path]
    command = ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder]
    with server(command, kmem, log) as process:
        wait_until(lambda: run([*ask, "ping"]).stdout.strip() == "PONG", process, log)
        if kmem:
            expect_served(process)
        said = succeed(["redis-benchmark", "-s", path, "-n", "5000", "-r", "10000", "-d", "100", "--csv", "-t", ",".join(COMMANDS)])
        # A child that writes everything to disk, and a heap that shrinks.
        succeed([*ask, "bgsave"])
        wait_until(lambda: "rdb_bgsave_in_progress:0" in succeed([*ask, "info", "persistence"]), process, log)
        state = succeed([*ask, "info", "persistence"]) + succeed([*ask, "flushall"]) + succeed([*ask, "dbsize"])
    rows = said.count("\n")
    if "rdb_last_bgsave_status:ok" not in state or not state.rstrip().endswith("0"):
        raise Failed(state[-600:])
    return rows


def redis(scratch):
    need("redis-server", "redis-benchmark", "redis-cli")
    rows = [requests(scratch, kmem) for kmem in (False, True)]
    if rows[0] != rows[1]:
        raise Failed(f"{rows[1]} lines of the benchmark, {rows[0]} without kmem")
    return f"{rows[1] - 1} kinds of request, a dump by a child"


def setpriv(_):
    """A program that drops its privileges: afterwards it has none, and none of kmem's threads has any."""
    need("setpriv")
    need_root()
    command = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "sh", "-c",
               "id; grep -h -e Uid -e Gid -e CapEff -e CapPrm /proc/$$/task/*/status | sort -u"]
    results = {}
    for kmem, upkeep in ((False, "glibc"), (True, "always"), (True, "off")):
        done = [run(command, kmem=kmem, variables={"KMEM_UPKEEP": upkeep}) for _ in range(10)]
        results[upkeep] = {(one.returncode, one.stdout, one.stderr) for one in done}
    if results["glibc"] != results["always"] or results["glibc"] != results["off"]:
        raise Failed(str({upkeep: list(result)[0] for upkeep, result in results.items()})[-600:])
    return "10 times each, with KMEM_UPKEEP=always and without"
