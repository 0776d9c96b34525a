"""Interpreters: CPython's own tests, a fork that warns of threads, PHP with its extensions."""

import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from common import HERE, Failed, Skipped, find, need, run, same, succeed

# The tests of CPython for memory, threads, processes and signals that do not take long.
MODULES = """
test_array test_bytes test_codecs test_collections test_csv test_ctypes test_deque test_dict test_exceptions
test_fork1 test_functools test_gc test_generators test_hashlib test_heapq test_itertools test_json test_list test_long
test_memoryio test_memoryview test_mmap test_os test_pickle test_posix test_pyexpat test_queue test_random test_re
test_set test_struct test_subprocess test_sys test_tempfile test_thread test_threading test_threadsignals test_tuple
test_unicode test_userdict test_wait3 test_wait4 test_weakref test_xml_etree_c test_zlib
""".split()


def outcomes(report):
    """Each test of a report, and whether it passed."""
    return {
        (case.get("classname") or "") + " " + case.get("name"): case.find("failure") is None and case.find("error") is None
        for case in ElementTree.parse(report).iter("testcase")
    }


def cpython(scratch):
    python = "/usr/bin/python3"
    if not Path(python).exists() or run([python, "-c", "import test.test_dict"]).returncode:
        raise Skipped("the system's Python has no tests of its own (libpython3-testsuite)")
    results = {}
    for kmem in (False, True):
        report = scratch / f"report-{kmem}.xml"
        # All objects use malloc; otherwise most would come from Python's own allocator.
        command = [python, "-m", "test", "-j2", "--timeout=100", f"--tempdir={scratch}", f"--junit-xml={report}", *MODULES]
        said = run(command, kmem=kmem, patience=300, variables={"PYTHONMALLOC": "malloc"}, cwd=scratch)
        if not report.exists():
            raise Failed(f"no report, exit code {said.returncode}: {(said.stdout + said.stderr)[-600:]}")
        results[kmem] = outcomes(report)
    passed = [name for name, fine in results[False].items() if fine]
    worse = [name for name in passed if not results[True].get(name)]
    if worse:
        raise Failed(f"{len(worse)} of {len(passed)} tests fail with kmem: {', '.join(worse[:8])}")
    if len(passed) < 3000:
        raise Failed(f"only {len(passed)} tests passed without kmem")
    return f"{len(passed)} tests pass as without"


# A heap of 64 MiB, held long enough for upkeep to start; then a fork, which from Python 3.12 on warns if there are
# threads.
FORK = """
import os, time
begun = time.monotonic()
heap = [bytes(1000) for _ in range(65536)]
while time.monotonic() - begun < 1:
    heap[::7] = [bytes(1000) for _ in heap[::7]]
child = os.fork()
if child == 0:
    os._exit(len(os.listdir('/proc/self/task')))
print(len(os.listdir('/proc/self/task')), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def newest_python():
    """Python 3.12 or newer, wherever it is installed; otherwise the one that is found."""
    installed = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    there = [*sorted(installed.glob("3.1[2-9]*/bin/python3"), reverse=True), *map(find, ("python3.14", "python3.13", "python3.12"))]
    warns = [str(python) for python in there if python and run([python, "-c", "import sys; sys.exit(sys.version_info < (3, 12))"]).returncode == 0]
    return (warns[0], "which warns of threads") if warns else (find("python3"), "which does not warn of threads, so they are counted")


def fork_with_a_heap(_):
    need("python3")
    python, how = newest_python()
    said = same([python, "-W", "error", "-c", FORK], variables={"PYTHONMALLOC": "malloc"})
    if said.split() != ["1", "1"]:
        raise Failed(f"threads of the parent and of the child: {said.strip()}")
    return f"{succeed([python, '--version']).strip()}, {how}"


def php(_):
    need("php")
    extensions = same(["php", "-r", "echo count(get_loaded_extensions());"], variables={"USE_ZEND_ALLOC": "0"})
    for zend in ("0", "1"):
        said = same(["php", HERE / "elements.php"], variables={"USE_ZEND_ALLOC": zend})
    return f"{extensions} extensions; {said.strip()}"
