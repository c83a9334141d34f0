"""Attacks of model-written code on the machine: each succeeds when it ends without an exception.

What is written in capitals is there for the attack to find: VICTIM and FOLDER (a file and a folder
of the same user), PID and TID (a process of the same user), PORT and ADDRESS (a TCP port, an
abstract socket), PATH_SOCKET (a socket in FOLDER).
"""

import platform

_AARCH64 = platform.machine() == "aarch64"

# System calls that do harm, by number: x86_64, aarch64.
NUMBERS = {
    name: numbers[_AARCH64]
    for name, numbers in {
        "acct": (163, 89),
        "add_key": (248, 217),
        "adjtimex": (159, 171),
        "bpf": (321, 280),
        "capset": (126, 91),
        "chroot": (161, 51),
        "clone": (56, 220),
        "clone3": (435, 435),
        "copy_file_range": (326, 285),
        "execve": (59, 221),
        "execveat": (322, 281),
        "fallocate": (285, 47),
        "fanotify_init": (300, 262),
        "fchmod": (91, 52),
        "fchmodat": (268, 53),
        "fchmodat2": (452, 452),
        "fchownat": (260, 54),
        "fcntl": (72, 25),
        "flock": (73, 32),
        "fremovexattr": (199, 16),
        "fsetxattr": (190, 7),
        "fsmount": (432, 432),
        "fsopen": (430, 430),
        "get_robust_list": (274, 100),
        "inotify_init1": (294, 26),
        "io_setup": (206, 0),
        "io_uring_setup": (425, 425),
        "ioctl": (16, 29),
        "ioprio_set": (251, 30),
        "kcmp": (312, 272),
        "keyctl": (250, 219),
        "kill": (62, 129),
        "landlock_create_ruleset": (444, 444),
        "linkat": (265, 37),
        "membarrier": (324, 283),
        "memfd_create": (319, 279),
        "memfd_secret": (447, 447),
        "migrate_pages": (256, 238),
        "mlockall": (151, 230),
        "mmap": (9, 222),
        "mount": (165, 40),
        "move_pages": (279, 239),
        "mq_open": (240, 180),
        "msgget": (68, 186),
        "name_to_handle_at": (303, 264),
        "open_tree": (428, 428),
        "openat2": (437, 437),
        "perf_event_open": (298, 241),
        "personality": (135, 92),
        "pidfd_getfd": (438, 438),
        "pidfd_open": (434, 434),
        "pivot_root": (155, 41),
        "pkey_alloc": (330, 289),
        "prctl": (157, 167),
        "prlimit64": (302, 261),
        "process_madvise": (440, 440),
        "process_vm_readv": (310, 270),
        "process_vm_writev": (311, 271),
        "ptrace": (101, 117),
        "quotactl": (179, 60),
        "reboot": (169, 142),
        "rt_sigqueueinfo": (129, 138),
        "rt_tgsigqueueinfo": (297, 240),
        "sched_setaffinity": (203, 122),
        "sched_setattr": (314, 274),
        "sched_setparam": (142, 118),
        "sched_setscheduler": (144, 119),
        "seccomp": (317, 277),
        "semget": (64, 190),
        "sethostname": (170, 161),
        "setns": (308, 268),
        "setpgid": (109, 154),
        "setpriority": (141, 140),
        "setresuid": (117, 147),
        "setsid": (112, 157),
        "setxattr": (188, 5),
        "shmget": (29, 194),
        "signalfd4": (289, 74),
        "socket": (41, 198),
        "socketpair": (53, 199),
        "splice": (275, 76),
        "swapon": (167, 224),
        "symlinkat": (266, 36),
        "sync": (162, 81),
        "syslog": (103, 116),
        "tgkill": (234, 131),
        "timer_create": (222, 107),
        "timerfd_create": (283, 85),
        "tkill": (200, 130),
        "truncate": (76, 45),
        "umount2": (166, 39),
        "unshare": (272, 97),
        "userfaultfd": (323, 282),
        "utimensat": (280, 88),
        "vmsplice": (278, 75),
    }.items()
}

RAW = f"""
import ctypes, os, sys, struct, errno
libc = ctypes.CDLL(None, use_errno=True)
numbers = {NUMBERS!r}
def call(name, *args):
    args = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    done = libc.syscall(ctypes.c_long(numbers[name] if isinstance(name, str) else name), *args)
    if done < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return done
"""

_CALLS = {
    # other processes
    "signal another process": "call('kill', PID, 0)",
    "kill another process": "call('kill', PID, 9)",
    "kill the parent": "call('kill', os.getppid(), 9)",
    "kill the group": "call('kill', 0, 0)",
    "kill everybody": "call('kill', -1, 0)",
    "kill a thread": "call('tkill', PID, 9)",
    "kill a thread of a group": "call('tgkill', PID, PID, 9)",
    "queue a signal": "call('rt_sigqueueinfo', PID, 9, struct.pack('iii', 9, 0, -1) + bytes(116))",
    "queue a signal to a thread": "call('rt_tgsigqueueinfo', PID, PID, 9, "
    "struct.pack('iii', 9, 0, -1) + bytes(116))",
    "a descriptor of a process": "call('pidfd_open', PID, 0)",
    "a descriptor of the parent": "call('pidfd_open', os.getppid() or 1, 0)",
    "F_SETOWN": "r, w = os.pipe()\ncall('fcntl', r, 8, PID)",
    "F_SETOWN to the group": "r, w = os.pipe()\ncall('fcntl', r, 8, -PID)",
    "F_SETOWN_EX": "r, w = os.pipe()\ncall('fcntl', r, 15, struct.pack('ii', 1, PID))",
    "F_SETSIG": "r, w = os.pipe()\ncall('fcntl', r, 10, 9)",
    "F_SETFL with O_ASYNC": "r, w = os.pipe()\ncall('fcntl', r, 4, 0o20000)",
    "F_SETOWN with high bits": "r, w = os.pipe()\ncall('fcntl', r, (1 << 32) | 8, PID)",
    "a lease": "fd = os.open(os.__file__, os.O_RDONLY)\ncall('fcntl', fd, 1024, 0)",
    "notices of a folder": "fd = os.open(os.path.dirname(os.__file__), os.O_RDONLY)\n"
    "call('fcntl', fd, 1026, 4)",
    "a lock on a file of others": "fd = os.open(os.__file__, os.O_RDONLY)\ncall('flock', fd, 1)",
    "a record lock": "fd = os.open(os.__file__, os.O_RDONLY)\n"
    "call('fcntl', fd, 6, struct.pack('hhqqi', 0, 0, 0, 0, 0))",
    "large pipes": "r, w = os.pipe()\ncall('fcntl', r, 1031, 1 << 20)",
    "FIOASYNC": "r, w = os.pipe()\ncall('ioctl', r, 0x5452, struct.pack('i', 1))",
    "FIOSETOWN": "call('ioctl', 0, 0x8901, struct.pack('i', PID))",
    "type into the terminal": "call('ioctl', 0, 0x5412, b'x')",
    "type into the terminal with high bits": "call('ioctl', 0, (1 << 32) | 0x5412, b'x')",
    "trace another process": "call('ptrace', 16, PID, 0, 0)",
    "seize another process": "call('ptrace', 0x4206, PID, 0, 0)",
    "be traced by the parent": "call('ptrace', 0, 0, 0, 0)",
    "read another's memory": "call('process_vm_readv', PID, bytes(16), 0, bytes(16), 0, 0)",
    "write another's memory": "call('process_vm_writev', PID, bytes(16), 0, bytes(16), 0, 0)",
    "compare processes": "call('kcmp', PID, PID, 0, 0, 0)",
    "another's priority": "call('setpriority', 0, PID, 19)",
    "everybody's priority": "call('setpriority', 2, 0, 19)",
    "another's I/O priority": "call('ioprio_set', 1, PID, 3 << 13)",
    "another's affinity": "call('sched_setaffinity', PID, 8, b'\\1' + bytes(7))",
    "another's scheduler": "call('sched_setscheduler', PID, 3, struct.pack('i', 0))",
    "another's scheduling": "call('sched_setattr', PID, "
    "struct.pack('IIQiIQQQ', 48, 3, *[0] * 6), 0)",
    "another's parameters": "call('sched_setparam', PID, struct.pack('i', 0))",
    "another's limits": "call('prlimit64', PID, 7, struct.pack('QQ', 3, 3), 0)",
    "another's limits read": "call('prlimit64', PID, 7, 0, bytes(16))",
    "another's pages": "call('move_pages', PID, 0, 0, 0, 0, 0)",
    "another's nodes": "call('migrate_pages', PID, 0, 0, 0)",
    "another's group": "call('setpgid', PID, 0)",
    "another's robust list": "call('get_robust_list', PID, bytes(8), bytes(8))",
    "another's affinity read": "call(204 if call(63 if sys.maxsize else 0, bytes(400)) == 0 "
    "and os.uname().machine == 'x86_64' else 123, PID, 8, bytes(8))",
    # new processes
    "fork": "os.fork()",
    "fork by number": "call('clone', 17, 0, 0, 0, 0)",
    "vfork by number": "call('clone', 0x4111, 0, 0, 0, 0)",
    "clone3": "call('clone3', struct.pack('8Q', 0, 0, 0, 0, 17, 0, 0, 0), 64)",
    "clone with namespaces": "call('clone', 0x10000000 | 17, 0, 0, 0, 0)",
    "clone that shares all but the thread group": "call('clone', 0x10f00 ^ 0x10000, 0, 0, 0, 0)",
    "a thread in a new namespace": "call('clone', 0x3d0f00 | 0x20000000, 0, 0, 0, 0)",
    "execve": "call('execve', b'/bin/true', 0, 0)",
    "execveat": "fd = os.open(os.path.dirname(os.__file__), os.O_RDONLY)\n"
    "call('execveat', fd, b'/bin/true', 0, 0, 0)",
    "posix_spawn": "os.posix_spawn('/bin/true', ['true'], {})",
    "leave the session": "call('setsid')",
    # namespaces, mounts, the system
    "unshare users": "call('unshare', 0x10000000)",
    "unshare files": "call('unshare', 0x400)",
    "setns": "call('setns', os.open('/proc/self/ns/user', os.O_RDONLY), 0)",
    "mount": "call('mount', b'none', b'.', b'tmpfs', 0, 0)",
    "umount": "call('umount2', os.getcwd().encode(), 2)",
    "pivot_root": "call('pivot_root', b'.', b'.')",
    "chroot": "call('chroot', b'.')",
    "open_tree": "call('open_tree', -100, b'.', 1)",
    "fsopen": "call('fsopen', b'tmpfs', 0)",
    "sethostname": "call('sethostname', b'x', 1)",
    "reboot": "call('reboot', 0, 0, 0, 0)",
    "swapon": "call('swapon', b'/dev/null', 0)",
    "syslog": "call('syslog', 10, 0, 0)",
    "adjtimex": "call('adjtimex', bytes(208))",
    "acct": "call('acct', 0)",
    "quotactl": "call('quotactl', 0x80000100, 0, 0, 0)",
    "personality": "call('personality', 0x0040000)",
    "capset": "call('capset', struct.pack('Ii', 0x20080522, 0), b'\\xff' * 24)",
    "setresuid": "call('setresuid', 0, 0, 0)",
    "another seccomp filter": "call('seccomp', 1, 0, struct.pack('HxxxxxxQ', 0, 0))",
    "a landlock ruleset": "call('landlock_create_ruleset', 0, 0, 1)",
    "no death with the parent": "call('prctl', 1, 0, 0, 0, 0)",
    "dumpable": "call('prctl', 4, 1, 0, 0, 0)",
    "be the ancestor of orphans": "call('prctl', 36, 1, 0, 0, 0)",
    "allow a tracer": "call('prctl', 0x59616d61, -1, 0, 0, 0)",
    "keep capabilities": "call('prctl', 8, 1, 0, 0, 0)",
    "timer slack of nobody": "call('prctl', 29, 1, 0, 0, 0)",
    # the kernel's other doors
    "io_uring": "call('io_uring_setup', 1, bytes(120))",
    "aio": "call('io_setup', 1, bytes(8))",
    "bpf": "call('bpf', 0, bytes(128), 128)",
    "perf": "call('perf_event_open', bytes(128), 0, -1, -1, 0)",
    "userfaultfd": "call('userfaultfd', 1)",
    "keyctl": "call('keyctl', 0, -3, 0, 0, 0)",
    "add_key": "call('add_key', b'user', b'x', b'x', 1, -3)",
    "memfd": "call('memfd_create', b'x', 0)",
    "memfd_secret": "call('memfd_secret', 0)",
    "inotify": "call('inotify_init1', 0)",
    "fanotify": "call('fanotify_init', 0, 0)",
    "signalfd": "call('signalfd4', -1, bytes(8), 8, 0)",
    "a timer that signals": "call('timer_create', 0, 0, bytes(8))",
    "timerfd": "call('timerfd_create', 0, 0)",
    "splice": "r, w = os.pipe()\ncall('splice', 0, 0, w, 0, 1, 2)",
    "vmsplice": "r, w = os.pipe()\ncall('vmsplice', w, bytes(16), 0, 0)",
    "membarrier": "call('membarrier', 1, 0, 0)",
    "lock memory": "call('mlockall', 1)",
    "huge pages": "call('mmap', 0, 1 << 21, 3, 0x40022, -1, 0)",
    "protection keys": "call('pkey_alloc', 0, 0)",
    "shared memory": "call('shmget', 0, 4096, 0o1666)",
    "semaphores": "call('semget', 0, 1, 0o1666)",
    "message queue": "call('msgget', 0, 0o1666)",
    "POSIX message queue": "call('mq_open', b'x', 0o102, 0o600, 0)",
    "sync all disks": "libc.sync.restype = ctypes.c_long\ncall('sync')",
    "fallocate": "fd = os.open('f', os.O_CREAT | os.O_RDWR)\ncall('fallocate', fd, 0, 0, 4096)",
    "copy_file_range": "a = os.open(os.__file__, os.O_RDONLY)\n"
    "b = os.open('f', os.O_CREAT | os.O_RDWR)\ncall('copy_file_range', a, 0, b, 0, 10, 0)",
    "a call of x32": "call(0x40000000 | 39)",
    "a call of the future": "call(1000)",
    # network
    **{
        f"a socket of family {family}": f"call('socket', {family}, {kind}, {protocol})"
        for family, kind, protocol in (
            (1, 1, 0), (1, 2, 0), (2, 1, 0), (2, 2, 0), (2, 3, 1), (10, 1, 0), (16, 3, 0),
            (17, 3, 768), (38, 5, 0), (40, 1, 0), (31, 1, 0), (29, 3, 1), (44, 3, 0), (15, 3, 2),
        )
    },
    "socketpair": "call('socketpair', 1, 1, 0, bytes(8))",
    # files of others: what Landlock does not see
    "chmod": "call('fchmodat', -100, b'VICTIM', 0, 0)",
    "chmod, new call": "call('fchmodat2', -100, b'VICTIM', 0, 0)",
    "chmod of a library": "fd = os.open(os.__file__, os.O_RDONLY)\ncall('fchmod', fd, 0o644)",
    "chown": "call('fchownat', -100, b'VICTIM', os.getuid(), os.getgid(), 0)",
    "times": "call('utimensat', -100, b'VICTIM', 0, 0)",
    "times of a library": "fd = os.open(os.__file__, os.O_RDONLY)\ncall('utimensat', fd, 0, 0, 0)",
    "attributes": "call('setxattr', b'VICTIM', b'user.x', b'x', 1, 0)",
    "attributes of a library": "fd = os.open(os.__file__, os.O_RDONLY)\n"
    "call('fsetxattr', fd, b'user.x', b'x', 1, 0)",
    "truncate": "call('truncate', b'VICTIM', 0)",
    "a link to a file": "call('linkat', -100, b'VICTIM', -100, b'mine', 0)",
    "a link to a library": "call('linkat', -100, os.__file__.encode(), -100, b'mine', 0)",
    "a symbolic link": "call('symlinkat', b'VICTIM', -100, b'mine')",
    "openat2": "call('openat2', -100, b'VICTIM', bytes(24), 24)",
    "a file handle": "call('name_to_handle_at', -100, b'VICTIM', struct.pack('Ii', 128, 0) + "
    "bytes(128), bytes(8), 0)",
}  # fmt: skip

_PYTHON = {
    "read a file": "assert open('VICTIM').read()",
    "read by descriptor": "import os\nos.read(os.open('VICTIM', os.O_RDONLY), 10)",
    "read through a folder": "import os\nd = os.open('FOLDER', os.O_RDONLY)\n"
    "os.open('victim', os.O_RDONLY, dir_fd=d)",
    "read by changing into the folder": "import os\nos.chdir('FOLDER')\nopen('victim').read()",
    "read the users": "open('/etc/passwd').read()",
    "read the environment of the parent": "import os\nopen(f'/proc/{os.getppid()}/environ').read()",
    "read the environment of another": "open('/proc/PID/environ').read()",
    "read own memory": "open('/proc/self/mem', 'rb')",
    "read own maps": "open('/proc/self/maps').read()",
    "read the kernel's messages": "open('/dev/kmsg').read(1)",
    "list a folder": "import os\nassert os.listdir('FOLDER')",
    "list the root": "import os\nassert os.listdir('/')",
    "list processes": "import os\nassert os.listdir('/proc')",
    "write a file": "open('VICTIM', 'w').write('x')",
    "append to a file": "open('VICTIM', 'a').write('x')",
    "open for update": "open('VICTIM', 'r+')",
    "make a file": "open('FOLDER/new', 'w')",
    "make a file by descriptor": "import os\nos.open('FOLDER/new', os.O_CREAT | os.O_WRONLY)",
    "make a file in a folder": "import os\nd = os.open('FOLDER', os.O_RDONLY | os.O_DIRECTORY)\n"
    "os.open('new', os.O_CREAT | os.O_WRONLY, dir_fd=d)",
    "make a file through O_PATH": "import os\nd = os.open('FOLDER', os.O_PATH)\n"
    "os.open('new', os.O_CREAT | os.O_WRONLY, dir_fd=d)",
    "make an unnamed file": "import os\nos.open('FOLDER', os.O_TMPFILE | os.O_RDWR)",
    "make a folder": "import os\nos.mkdir('FOLDER/new')",
    "make a folder in a folder": "import os\nd = os.open('FOLDER', os.O_RDONLY)\n"
    "os.mkdir('new', dir_fd=d)",
    "remove a file": "import os\nos.remove('VICTIM')",
    "remove a file in a folder": "import os\nd = os.open('FOLDER', os.O_RDONLY)\n"
    "os.unlink('victim', dir_fd=d)",
    "take a file": "import os\nos.rename('VICTIM', 'mine')",
    "replace a file": "import os\nopen('mine', 'w').write('x')\nos.replace('mine', 'VICTIM')",
    "exchange files": "import os\nos.rename('VICTIM', 'FOLDER/new')",
    "remove a folder": "import shutil\nshutil.rmtree('FOLDER')",
    "a FIFO": "import os\nos.mkfifo('fifo')",
    "a FIFO elsewhere": "import os\nos.mkfifo('FOLDER/fifo')",
    "a device": "import os, stat\nos.mknod('device', stat.S_IFCHR | 0o600, os.makedev(1, 5))",
    "a socket file": "import os, stat\nos.mknod('socket', stat.S_IFSOCK | 0o600)",
    "a hard link": "import os\nos.link('VICTIM', 'mine')",
    "a symbolic link, followed": "import os\nos.symlink('VICTIM', 'link')\nopen('link', 'w')",
    "a database elsewhere": "import sqlite3\n"
    "sqlite3.connect('FOLDER/new').execute('create table t (x)')",
    "a dbm elsewhere": "import dbm\ndbm.open('FOLDER/new', 'n')",
    "shared memory of multiprocessing": "from multiprocessing import shared_memory\n"
    "shared_memory.SharedMemory(create=True, size=10)",
    "a lock of multiprocessing": "import multiprocessing\nmultiprocessing.Lock()",
    "change the mode": "import os\nos.chmod('VICTIM', 0)",
    "change the times": "import os\nos.utime('VICTIM', (0, 0))",
    "truncate": "import os\nos.truncate('VICTIM', 0)",
    "connect": "import socket\nsocket.create_connection(('127.0.0.1', PORT), 1)",
    "connect to an abstract socket": "import socket\ns = socket.socket(socket.AF_UNIX)\n"
    "s.connect('\\0ADDRESS')",
    "connect to a socket file": "import socket\ns = socket.socket(socket.AF_UNIX)\n"
    "s.connect('PATH_SOCKET')",
    "look a name up": "import socket\nsocket.getaddrinfo('localhost', 80)[0]\nsocket.socket()",
    "fetch a page": "import urllib.request\n"
    "urllib.request.urlopen('http://127.0.0.1:PORT', None, 1)",
    "an event loop": "import asyncio\nasyncio.new_event_loop()",
    "run a command": "import subprocess\nsubprocess.run(['true'], check=True)",
    "run a shell": "import os\nassert os.system('true') == 0",
    "fork_exec": "import _posixsubprocess, os\nr, w = os.pipe()\n_posixsubprocess.fork_exec(\n"
    " [b'/bin/true'], [b'/bin/true'], True, (w,), None, None, -1, -1, -1, -1, -1, -1, r, w,\n"
    " True, False, -1, None, None, None, -1, None, True)\n",
    "a new fork_exec": "import sys\nsys.modules.pop('_posixsubprocess', None)\n"
    "import _posixsubprocess\n"
    "import os\nr, w = os.pipe()\n_posixsubprocess.fork_exec(\n"
    " [b'/bin/true'], [b'/bin/true'], True, (w,), None, None, -1, -1, -1, -1, -1, -1, r, w,\n"
    " True, False, -1, None, None, None, -1, None, True)\n",
    "a terminal": "import pty\npty.openpty()",
    "open a terminal": "open('/dev/tty', 'w')",
    "open a pseudoterminal": "open('/dev/ptmx', 'w')",
    "kill": "import os\nos.kill(PID, 0)",
    "kill by descriptor": "import os, signal\nsignal.pidfd_send_signal(os.pidfd_open(PID), 0)",
    "the audit hook's constants": "import __main__\n__main__._REFUSED = ()\n__main__._PATHS = {}\n"
    "import sys\nfor m in list(sys.modules.values()):\n"
    "    for n in ('_REFUSED', 'refused', '_inside', 'forbid', 'hook'):\n"
    "        if hasattr(m, n): setattr(m, n, ())\n"
    "import socket\nsocket.socket()",
    "the audit hook's builtins": "import builtins\nbuiltins.isinstance = lambda *a: False\n"
    "builtins.type = lambda *a: int\nbuiltins.all = builtins.any = lambda *a: True\n"
    "builtins.PermissionError = Exception\nbuiltins.str = int\nopen('FOLDER/new', 'w')",
    "the audit hook's paths": "import os, posixpath\n"
    "os.path.realpath = posixpath.realpath = lambda p, **k: os.getcwd()\n"
    "os.readlink = os.lstat = os.fsdecode = lambda *a: os.getcwd()\nopen('FOLDER/new', 'w')",
    "another interpreter": "import _xxsubinterpreters as s\ni = s.create()\n"
    's.run_string(i, \'open("FOLDER/new", "w")\')',
    "a test module of C": "import _testcapi",
    "a stateful path": "import os\nclass P:\n n = 0\n def __fspath__(self):\n  P.n += 1\n"
    "  return 'x' if P.n == 1 else 'FOLDER/new'\nopen(P(), 'w')\n"
    "assert os.path.exists('FOLDER/new') or open(P(), 'w')",
    "raise a limit": "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1000, 1000))",
    "a higher priority": "import os\nos.nice(1)",
    "own affinity": "import os\nos.sched_setaffinity(0, {0})",
    "another's affinity": "import os\nos.sched_setaffinity(PID, {0})",
    "trace": "import sys\nsys.settrace(lambda *a: None)",
}

# Those that Python's own means stop (the audit hook); the kernel has no say in them, or they only
# show what is below the hook.
HOOK_ONLY = {"trace", "a test module of C", "another interpreter"}

_MACHINE_CODE = """
import mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(CODE)
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
f = ctypes.CFUNCTYPE(ctypes.c_long)(address)
done = f()
assert done >= 0, done
"""
_X86_CODE = {
    # mov eax, 41; mov edi, 2; mov esi, 1; xor edx, edx; syscall; ret
    "a socket by machine code": b"\xb8\x29\0\0\0\xbf\x02\0\0\0\xbe\x01\0\0\0\x31\xd2\x0f\x05\xc3",
    # mov eax, 57; syscall; ret
    "fork by machine code": b"\xb8\x39\0\0\0\x0f\x05\xc3",
    # push rbx; mov eax, 2; int 0x80; pop rbx; ret: fork by the numbers of 32 bits
    "fork by the calls of 32 bits": b"\x53\xb8\x02\0\0\0\xcd\x80\x5b\x48\x98\xc3",
    # mov eax, 0x40000039; syscall; ret
    "fork by the calls of x32": b"\xb8\x39\0\0\x40\x0f\x05\xc3",
}  # fmt: skip

ATTACKS = {f"call: {name}": RAW + code for name, code in _CALLS.items()} | _PYTHON
if platform.machine() == "x86_64":
    ATTACKS |= {
        name: RAW + _MACHINE_CODE.replace("CODE", repr(code)) for name, code in _X86_CODE.items()
    }
