namespace Z1Coder.Trainer.Evaluate;

/// <summary>
/// The trusted Python that runs first in the confined interpreter. It reads token, mode, program and tests from descriptor 3 (a sealed memory
/// file, closed before the program starts), says "started" on descriptor 4, runs both parts in one fresh module and, only when both came to
/// their end in the same process, writes the token to descriptor 4 and leaves at once: no atexit handler, no thread, no destructor runs after.
/// When the caller is dead already, "started" finds no reader and the interpreter ends there. Nothing is imported that is not loaded already.
/// </summary>
internal static class SandboxHarness
{
    internal const string Started = "\nstarted\n";
    internal const string Memory = "\nmemory\n";
    internal const string Failed = "\nfailed\n";

    internal const string Source = """
        def z1():
            import sys, posix, builtins
            read, write, leave, pid = posix.read, posix.write, posix._exit, posix.getpid
            parts, shown, err, me = [], sys.excepthook, sys.stderr, posix.getpid()
            while True:
                part = read(3, 1 << 20)
                if not part:
                    break
                parts.append(part)
            posix.close(3)
            token, name, size, rest = b"".join(parts).split(b"\n", 3)
            size = int(size)
            source, tests, name = rest[:size], rest[size:], name.decode()
            script = name == "__main__"
            module = type(sys)(name)
            module.__dict__["__builtins__"] = builtins
            sys.modules[name] = module
            sys.argv = ["program.py"]
            builtins.exit = builtins.quit = sys.exit
            write(4, b"\nstarted\n")
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
                exec(compile(source, "<program>", "exec", dont_inherit=True), module.__dict__)
                if tests:
                    exec(compile(tests, "<tests>", "exec", dont_inherit=True), module.__dict__)
            except SystemExit as e:
                code = e.code if isinstance(e.code, int) else 0 if e.code is None else 1
                finish(b"\n" + token + b"\n" if script and code == 0 else b"\n", code & 255)
            except MemoryError:
                finish(b"\nmemory\n", 1)
            except BaseException:
                try:
                    shown(*sys.exc_info())
                except BaseException:
                    pass
                finish(b"\nfailed\n", 1)
            finish(b"\n" + token + b"\n", 0)
        z1()
        """;
}
