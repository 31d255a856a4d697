using System.Collections.Concurrent;
using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>The programs of this machine that confine, the interpreter, and the command line that puts them together.</summary>
/// <param name="Mode">Who the caller is, and so how the program gets a user of its own.</param>
/// <param name="Bwrap">Path of bubblewrap.</param>
/// <param name="Setpriv">Path of setpriv (util-linux); needed when the caller is root.</param>
/// <param name="Python">Path of the interpreter itself, no shim.</param>
/// <param name="Prefixes">Folders outside /usr that the interpreter needs, bound read-only.</param>
/// <param name="SitePackages">Whether installed packages can be imported.</param>
internal sealed record SandboxHost(
    SandboxHost.Caller Mode, string Bwrap, string Setpriv, string Python, IReadOnlyList<string> Prefixes, bool SitePackages)
{
    /// <summary>
    /// RLIMIT_NPROC never binds the kernel's user 0, whatever a user namespace calls it: a root caller's program must become another user.
    /// </summary>
    internal enum Caller
    {
        /// <summary>An ordinary user: a user namespace, in which the kernel counts processes apart (Linux 5.14).</summary>
        User,

        /// <summary>Root with mount rights: bubblewrap as root, then the program as a user id that nobody else has.</summary>
        Root,

        /// <summary>Root without mount rights (containers): first the other user id, then as <see cref="User"/>.</summary>
        DroppedRoot,
    }

    private static readonly ConcurrentBag<int> s_freeSlots = [];
    private static int s_slots;

    private const int FirstUser = 1_000_000_000;
    private const int SlotsPerProcess = 256;            // concurrent runs with a user id each; process ids stay below 2^22
    private const long StackBytes = 64 << 20;
    private const long ServerFileBytes = 1 << 20;       // its own /tmp, which no program sees

    /// <summary>Modules of the standard library that a server holds ready: what tests and answers import most. Each program gets its own copy by fork.</summary>
    private const string Preloaded =
        "abc ast base64 bisect cmath collections copy datetime decimal enum fractions functools heapq io itertools json math numbers operator os pickle queue "
        + "random re statistics string sys textwrap time traceback types typing";

    /// <summary>/etc/hosts of the sandbox: programs that serve and ask themselves find "localhost".</summary>
    internal static ReadOnlySpan<byte> Hosts => "127.0.0.1 localhost\n::1 localhost\n"u8;

    /// <summary>/etc/nsswitch.conf of the sandbox: there is no name server to ask.</summary>
    internal static ReadOnlySpan<byte> NameSources => "hosts: files\npasswd: files\ngroup: files\n"u8;

    private const string InsidePath = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

    /// <summary>Last argument of every process of a run, so that `ps` shows whose it is; the program does not see it in sys.argv.</summary>
    internal static readonly string Label = $"z1-sandbox-of-{System.Environment.ProcessId}";

    internal static readonly string[] Environment =
    [
        "PATH=" + InsidePath, "HOME=/tmp", "TMPDIR=/tmp", "LANG=C.UTF-8", "PYTHONHASHSEED=0", "PYTHONUTF8=1", "PYTHONNOUSERSITE=1",
        "OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "MKL_NUM_THREADS=1",
    ];

    /// <summary>Version of the interpreter.</summary>
    internal string PythonVersion { get; init; } = "";

    /// <summary>Everything this machine offers, best first. Throws with one sentence when a program is missing.</summary>
    internal static List<SandboxHost> Candidates(bool sitePackages)
    {
        if (!OperatingSystem.IsLinux() || !SyscallFilter.Supported)
        {
            throw new SandboxException("Programs can be confined on x86-64 Linux only.");
        }

        var bwrap = Find("bwrap")
            ?? throw new SandboxException("bwrap is not on PATH: install bubblewrap 0.7 or newer (Debian, Ubuntu, Fedora: package bubblewrap).");
        var setpriv = Find("setpriv");
        if (setpriv is null || Find("prlimit") is null)
        {
            throw new SandboxException("setpriv or prlimit is not on PATH: install util-linux.");
        }

        Caller[] modes = ChildProcess.IsRoot ? [Caller.Root, Caller.DroppedRoot] : [Caller.User];
        string?[] interpreters = [Find("python3"), "/usr/bin/python3", "/usr/local/bin/python3"];
        var found = new List<SandboxHost>();
        foreach (var interpreter in interpreters.OfType<string>().Where(File.Exists).Distinct())
        {
            if (Resolve(interpreter) is var (python, prefixes, version))
            {
                found.AddRange(modes.Select(mode => new SandboxHost(mode, bwrap, setpriv, python, prefixes, sitePackages) { PythonVersion = version }));
            }
        }

        return found.Count > 0 ? found : throw new SandboxException("No working python3 is on PATH: install Python 3.8 or newer.");
    }

    /// <summary>A number that no other confinement of this process has until it is given back.</summary>
    internal static int TakeSlot() => s_freeSlots.TryTake(out var free) ? free : Interlocked.Increment(ref s_slots) - 1;

    /// <summary>Everything in the confinement is dead.</summary>
    internal static void GiveBack(int slot) => s_freeSlots.Add(slot);

    /// <summary>A user id that no other run has at the same time.</summary>
    internal static int UserOf(int slot) => FirstUser + System.Environment.ProcessId * SlotsPerProcess + slot % SlotsPerProcess;

    /// <summary>Soft and hard limits of a program in the order of the server: processes, address space, data, CPU, file, descriptors, core, queues, stack.</summary>
    internal long[] LimitsOf(SandboxLimits limits)
    {
        // In a user namespace the server counts as one more process of the same user.
        var (processes, cpu) = (limits.Processes + (Mode == Caller.Root ? 0 : 1), (long)Math.Ceiling(limits.CpuSeconds));
        return
        [
            processes, processes, limits.MemoryBytes, limits.MemoryBytes, limits.MemoryBytes, limits.MemoryBytes, cpu, cpu + 1,
            limits.FileBytes, limits.FileBytes, limits.OpenFiles, limits.OpenFiles, 0, 0, 0, 0, StackBytes, StackBytes,
        ];
    }

    /// <summary>
    /// The whole command line of one run. <paramref name="slot"/> is not shared with any other run at the same time. The two descriptors after the
    /// filter's hold <see cref="Hosts"/> and <see cref="NameSources"/>.
    /// </summary>
    internal (string Path, List<string> Arguments) Command(SandboxLimits limits, int slot, int infoDescriptor, int filterDescriptor)
    {
        var (path, a, drop) = Confinement(limits.FileBytes, slot, infoDescriptor, []);
        var at = a.IndexOf("--info-fd");
        a.InsertRange(at, ["--seccomp", Text(filterDescriptor)]);
        a.AddRange(["/bin/sh", "-c", "\"$@\"; exit $?", "sh"]);
        if (Mode == Caller.Root)
        {
            a.AddRange(["setpriv", .. drop, "--bounding-set=-all"]);
        }

        // In a user namespace the shell counts as one more process of the same user.
        var cpu = (long)Math.Ceiling(limits.CpuSeconds);
        a.AddRange(["prlimit", $"--nproc={limits.Processes + (Mode == Caller.Root ? 0 : 1)}", $"--as={limits.MemoryBytes}"]);
        a.AddRange([$"--data={limits.MemoryBytes}", $"--cpu={cpu}:{cpu + 1}", $"--fsize={limits.FileBytes}", $"--nofile={limits.OpenFiles}"]);
        a.AddRange(["--core=0", "--msgqueue=0", $"--stack={StackBytes}", "--"]);
        a.AddRange([Python, SitePackages ? "-sB" : "-sSB", "-c", SandboxHarness.Source, Label]);
        return (path, a);
    }

    /// <summary>The command line of a server of many runs; it keeps the rights to make namespaces, and each run gives them up.</summary>
    internal (string Path, List<string> Arguments) ServerCommand(int slot, int infoDescriptor)
    {
        var (path, a, _) = Confinement(ServerFileBytes, slot, infoDescriptor, ["CAP_SYS_ADMIN", "CAP_SETPCAP", "CAP_KILL"]);
        a.AddRange([Python, SitePackages ? "-sB" : "-sSB", "-c", SandboxHarness.Server, Preloaded, Label]);
        return (path, a);
    }

    private (string Path, List<string> Arguments, string[] Drop) Confinement(long fileBytes, int slot, int infoDescriptor, string[] rights)
    {
        var user = UserOf(slot).ToString(CultureInfo.InvariantCulture);
        string[] drop = ["--reuid", user, "--regid", user, "--clear-groups", "--inh-caps=-all"];
        var files = fileBytes.ToString(CultureInfo.InvariantCulture);
        var a = new List<string>(128);
        if (Mode == Caller.DroppedRoot)
        {
            a.AddRange(["setpriv", .. drop, Bwrap]);
        }
        else
        {
            a.Add("bwrap");
        }

        // The shell is process 1: when it ends the kernel kills whatever else lives in the namespace, and only then does bwrap see it end.
        a.AddRange(["--die-with-parent", "--new-session", "--unshare-pid", "--as-pid-1", "--unshare-net", "--unshare-ipc", "--unshare-uts"]);
        a.AddRange(["--unshare-cgroup-try", "--hostname", "sandbox", "--cap-drop", "ALL"]);
        a.AddRange(["--info-fd", Text(infoDescriptor)]);
        a.AddRange(rights.SelectMany(right => new[] { "--cap-add", right }));
        a.AddRange(
            Mode == Caller.Root ? ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP"] : ["--unshare-user"]);
        a.AddRange(["--ro-bind", "/usr", "/usr"]);
        foreach (var top in (string[])["/bin", "/sbin", "/lib", "/lib32", "/lib64"])
        {
            if (Directory.Exists(top))
            {
                a.AddRange(new DirectoryInfo(top).LinkTarget is { } target ? ["--symlink", target, top] : ["--ro-bind", top, top]);
            }
        }

        a.AddRange(["--perms", "0755", "--dir", "/etc"]);
        foreach (var file in (string[])["/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime"])
        {
            a.AddRange(["--ro-bind-try", file, file]);
        }

        a.AddRange(["--perms", "0644", "--file", Text(infoDescriptor + 2), "/etc/hosts", "--perms", "0644", "--file", Text(infoDescriptor + 3), "/etc/nsswitch.conf"]);
        foreach (var prefix in Prefixes)
        {
            // Folders above a bind are made for root alone unless they are named.
            for (var slash = prefix.IndexOf('/', 1); slash > 0; slash = prefix.IndexOf('/', slash + 1))
            {
                a.AddRange(["--perms", "0755", "--dir", prefix[..slash]]);
            }

            a.AddRange(["--ro-bind", prefix, prefix]);
        }

        a.AddRange(["--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--size", files, "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]);
        a.AddRange(["--perms", "1777", "--size", files, "--tmpfs", "/tmp", "--remount-ro", "/", "--chdir", "/tmp", "--"]);
        return (Mode == Caller.DroppedRoot ? Setpriv : Bwrap, a, drop);
    }

    private static string Text(int value) => value.ToString(CultureInfo.InvariantCulture);

    private static string? Find(string name) =>
        (System.Environment.GetEnvironmentVariable("PATH") ?? InsidePath).Split(':', StringSplitOptions.RemoveEmptyEntries)
            .Concat(["/usr/bin", "/usr/sbin"])
            .Where(Path.IsPathRooted)
            .Select(folder => Path.Combine(folder, name))
            .FirstOrDefault(File.Exists);

    // A shim (pyenv, asdf) is asked for the interpreter behind it, once, outside: it is the user's own program.
    private static (string Python, List<string> Prefixes, string Version)? Resolve(string interpreter)
    {
        var start = new ProcessStartInfo(interpreter) { RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true };
        start.ArgumentList.Add("-c");
        start.ArgumentList.Add("import os,sys;print(*[sys.executable,sys.prefix,sys.base_prefix,os.path.realpath(sys.executable),sys.version.split()[0]],sep='\\n')");
        string[] lines;
        try
        {
            using var process = Process.Start(start);
            process!.StandardInput.Close();
            _ = process.StandardError.ReadToEndAsync();
            lines = process.StandardOutput.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries);
            process.WaitForExit();
            if (process.ExitCode != 0 || lines.Length != 5)
            {
                return null;
            }
        }
        catch (Win32Exception)
        {
            return null;
        }

        var prefixes = new List<string>();
        foreach (var folder in (string[])[lines[1], lines[2], Path.GetDirectoryName(lines[3])!])
        {
            // Nix keeps each library in a folder of its own beside the interpreter's.
            var needed = folder.StartsWith("/nix/store/", StringComparison.Ordinal) ? "/nix/store" : folder;
            if (needed is "/" or "/bin" or "/home" or "/root" or "/etc" || needed == System.Environment.GetEnvironmentVariable("HOME"))
            {
                continue;
            }

            if (!prefixes.Append("/usr").Any(p => (needed + "/").StartsWith(p + "/", StringComparison.Ordinal)))
            {
                prefixes.Add(needed);
            }
        }

        return (lines[0], prefixes, lines[4]);
    }
}
