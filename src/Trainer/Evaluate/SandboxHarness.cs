namespace Z1Coder.Trainer.Evaluate;

/// <summary>
/// The trusted Python that runs first in the confined interpreter. It reads token, mode, set-up, program and tests from descriptor 3 (a sealed memory
/// file, closed before the program starts), says "started" where the program cannot take it back, runs the parts in one fresh module and, only when all came to
/// their end in the same process, writes the token to descriptor 4 and leaves at once: no atexit handler, no thread, no destructor runs after.
/// When the caller is dead already, "started" finds no reader and the interpreter ends there. Nothing is imported that is not loaded already.
/// </summary>
internal static class SandboxHarness
{
    internal const string Started = "\nstarted\n";
    internal const string Memory = "\nmemory\n";
    internal const string Failed = "\nfailed\n";
    internal const string TimedOut = "\ntimeout\n";

    /// <summary>Defines z1_run(control, begun), which never returns; begun says that the program starts.</summary>
    private const string Run = """
        def z1_run(control, begun):
            import sys, posix, builtins
            write, leave, pid = posix.write, posix._exit, posix.getpid
            shown, err, me = sys.excepthook, sys.stderr, posix.getpid()
            token, mode, before, size, rest = control.split(b"\n", 4)
            before, size, mode = int(before), int(size), mode.decode()
            setup, source, tests = rest[:before], rest[before:before + size], rest[before + size:]
            script, name = mode != "module", "solution" if mode == "module" else "__main__"
            module = type(sys)(name)
            module.__dict__["__builtins__"] = builtins
            sys.modules[name] = module
            sys.argv = ["program.py"]
            builtins.exit = builtins.quit = sys.exit
            begun()
            def finish(text, code):
                try:
                    sys.stdout.flush()
                except BaseException:
                    pass
                try:
                    err.flush()
                except BaseException:
                    pass
                if pid() == me:
                    try:
                        write(4, text)
                    except BaseException:
                        code = 1
                leave(code)
            try:
                if setup:
                    exec(compile(setup, "<setup>", "exec", dont_inherit=True), module.__dict__)
                exec(compile(source, "<program>", "exec", dont_inherit=True), module.__dict__)
                if tests:
                    exec(compile(tests, "<tests>", "exec", dont_inherit=True), module.__dict__)
            except SystemExit as e:
                code = e.code if isinstance(e.code, int) else 0 if e.code is None else 1
                finish(b"\n" + token + b"\n" if script and (code == 0 or mode == "any") else b"\n", 0 if script and mode == "any" else code & 255)
            except MemoryError:
                finish(b"\nmemory\n", 1)
            except BaseException as e:
                if type(e).__name__ == "Z1TimeOut":
                    finish(b"\ntimeout\n", 1)
                try:
                    shown(*sys.exc_info())
                except BaseException:
                    pass
                finish(b"\nfailed\n", 1)
            finish(b"\n" + token + b"\n", 0)

        """;

    /// <summary>One program: the control text is on descriptor 3. The proof is a socket: unlike a pipe, /proc/self/fd cannot open it for reading.</summary>
    internal const string Source = Run + """
        def z1():
            import posix
            parts = []
            while True:
                part = posix.read(3, 1 << 20)
                if not part:
                    break
                parts.append(part)
            posix.close(3)
            z1_run(b"".join(parts), lambda: posix.write(4, b"\nstarted\n"))
        z1()
        """;

    /// <summary>
    /// Many programs, one after the other. The server is process 1 of the confinement, keeps the right to mount, and never runs a program itself: it
    /// forks each, and the child gives up every right, takes the limits and the system call filter on, and only then reads the program. When the
    /// program has ended the server kills whatever else is in its process namespace and waits until it has no child: every orphan is its child, so
    /// then nothing is alive. /tmp and /dev/shm are mounted afresh unless they are as empty and as they were made. What a program of the same user
    /// could have changed in the server itself (limits, scheduling) and what outlives a process in a network namespace (closed TCP connections) is looked
    /// for; where it is found the server serves no further program. A process namespace per program would need none of this, but the kernel takes tens
    /// of milliseconds to end one. Descriptors: 0 requests, 1 and 2 output, 3 status, closed when it has said that a program starts, 4 proof, 6 the filter.
    /// The proof is a pipe: a program could shut a socket down for those that follow.
    /// </summary>
    internal const string Server = Run + """
        def z1():
            import ctypes, gc, posix, resource, signal, sys
            libc = ctypes.CDLL(None, use_errno=True)
            def call(name, *arguments):
                if getattr(libc, name)(*arguments) != 0:
                    raise OSError(ctypes.get_errno(), posix.strerror(ctypes.get_errno()) + " in " + name)
            class Filter(ctypes.Structure):
                _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
            raw = posix.pread(6, 1 << 16, 0)
            code = ctypes.create_string_buffer(raw, len(raw))
            filter = Filter(len(raw) // 8, ctypes.addressof(code))
            posix.close(6)
            call("prctl", 15, b"z1-server", 0, 0, 0)
            posix.set_blocking(0, True)
            signal.signal(signal.SIGINT, signal.SIG_DFL)          # process 1: what has no handler cannot hit it from inside
            for name in sys.argv[1].split():
                __import__(name)

            def exactly(size):
                parts = []
                while size > 0:
                    part = posix.read(0, min(size, 1 << 20))
                    if not part:
                        posix._exit(0)
                    parts.append(part)
                    size -= len(part)
                return b"".join(parts)

            def line():
                text = b""
                while not text.endswith(b"\n"):
                    text += exactly(1)
                return text.split()

            places, mounted = ("/tmp", "/dev/shm"), {}
            def state(place):
                found = posix.stat(place)
                return found.st_dev, found.st_mode, found.st_uid, found.st_gid, found.st_nlink, posix.listxattr(place)

            def fresh(files):
                for place in places:
                    if mounted.get(place) == (files, state(place)) and not posix.listdir(place):
                        continue
                    if place in mounted:
                        call("umount2", place.encode(), 2)
                    call("mount", b"tmpfs", place.encode(), b"tmpfs", 2 | 4, b"mode=1777,size=%d" % files)
                    mounted[place] = files, state(place)
                posix.chdir("/tmp")

            def own():
                return ([resource.getrlimit(i) for i in range(16)], posix.sched_getaffinity(0), posix.sched_getscheduler(0), posix.getpriority(0, 0),
                    posix.umask(0o22))

            def connections():
                try:
                    file = posix.open("/proc/self/net/sockstat", posix.O_RDONLY)
                except FileNotFoundError:
                    return True
                words = posix.read(file, 4096).split()
                posix.close(file)
                return b"tw" not in words or words[words.index(b"tw") + 1] != b"0"

            def run(user, limits, stdin, control):
                posix.setsid()
                call("prctl", 15, b"z1-program", 0, 0, 0)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                given = posix.memfd_create("stdin", 2)
                while stdin:
                    stdin = stdin[posix.write(given, stdin):]
                posix.lseek(given, 0, 0)
                call("fcntl", given, 1033, 15)                    # sealed
                posix.dup2(given, 0)
                posix.closerange(5, 64)
                for right in range(64):
                    if libc.prctl(24, right, 0, 0, 0) != 0:       # out of the bounding set
                        break
                if user:
                    posix.setgroups([])
                    posix.setresgid(user, user, user)
                    posix.setresuid(user, user, user)
                call("prctl", 47, 4, 0, 0, 0)                     # no ambient rights
                header = (ctypes.c_uint32 * 2)(0x20080522, 0)
                nothing = (ctypes.c_uint32 * 6)()
                call("capset", ctypes.byref(header), ctypes.byref(nothing))
                call("prctl", 4, 1, 0, 0, 0)                      # its own /proc entries belong to it
                for limit, soft, hard in zip((
                    resource.RLIMIT_NPROC, resource.RLIMIT_AS, resource.RLIMIT_DATA, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE,
                    resource.RLIMIT_CORE, resource.RLIMIT_MSGQUEUE, resource.RLIMIT_STACK), limits[0::2], limits[1::2]):
                    resource.setrlimit(limit, (soft, hard))
                call("prctl", 38, 1, 0, 0, 0)
                call("prctl", 22, 2, ctypes.byref(filter), 0, 0)
                sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)
                def begun():
                    posix.write(3, b"\nstarted\n")
                    posix.close(3)
                z1_run(control, begun)

            posix.umask(0o22)
            before = own()
            gc.collect()
            gc.freeze()
            posix.write(3, b"\nready\n")
            keep = 1
            while keep:
                user, files, given, told, *limits = map(int, line())
                stdin, control = exactly(given), exactly(told)
                fresh(files)
                program = posix.fork()
                if program == 0:
                    try:
                        run(user, limits, stdin, control)
                    except BaseException as e:
                        posix.write(2, repr(e).encode())
                    posix._exit(120)
                microseconds, ended, child = 0, 120, 0
                while True:
                    try:
                        child, status, usage = posix.wait4(-1, 0)
                    except ChildProcessError:
                        break
                    microseconds += int(1e6 * (usage.ru_utime + usage.ru_stime))
                    if child == program:
                        ended = posix.WEXITSTATUS(status) if posix.WIFEXITED(status) else 128 + posix.WTERMSIG(status)
                        try:
                            posix.kill(-1, 9)
                        except ProcessLookupError:
                            pass
                for pipe in (1, 2, 4):
                    call("fcntl", pipe, 4, 0)                     # whatever mode the program left
                    libc.fcntl(pipe, 1031, 65536)
                keep = int(own() == before and not connections())
                posix.write(3, b"\nended %d %d %d\n" % (ended, microseconds, keep))
        z1()
        """;
}
