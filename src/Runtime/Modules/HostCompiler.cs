using System.Text;

namespace Z1Coder.Runtime;

/// <summary>
/// Compiles a device file as C++ for hostcuda. Every access of the kernel becomes a call of __tsan_read or __tsan_write, which
/// libhostcuda.so defines: the file is compiled with -fsanitize=thread and linked without it.
/// </summary>
internal static class HostCompiler
{
    public static readonly string[] Options =
        ["-std=c++20", "-O1", "-g1", "-DZ1_HOSTCUDA", "-fsanitize=thread", "-fPIC", "-ffp-contract=off", "-fno-exceptions", "-fno-rtti", "-w"];

    private static readonly Lazy<(string? Path, string Version)> s_compiler = new(Find);

    /// <summary>First line of --version.</summary>
    /// <exception cref="NotSupportedException">there is no C++ compiler; one sentence</exception>
    public static string Version() => Found().Version;

    /// <summary>The compiler, or what to install, for one sentence.</summary>
    public static string Describe() => s_compiler.Value is { Path: not null } found ? $"kernels by {found.Version}" : "no C++ compiler on PATH (apt-get install g++, or set Z1_CXX)";

    public static KernelImage Compile(string stem, string text, IReadOnlyList<(string Name, string Text)> includes, string[] options)
    {
        var compiler = Found().Path!;
        var folder = Directory.CreateTempSubdirectory("z1-hostcuda-").FullName;
        try
        {
            var source = Path.Combine(folder, $"{stem}.cu");
            File.WriteAllText(source, text);
            foreach (var (name, content) in includes)
            {
                var path = Path.Combine(folder, name);
                Directory.CreateDirectory(Path.GetDirectoryName(path)!);
                File.WriteAllText(path, content);
            }

            var (unit, image) = (Path.Combine(folder, $"{stem}.o"), Path.Combine(folder, $"{stem}.so"));
            var (code, log) = Run(compiler, [.. options, $"-ffile-prefix-map={folder}=.", "-I", folder, "-x", "c++", "-c", source, "-o", unit]);
            log = log.Replace(folder + '/', "", StringComparison.Ordinal);
            if (code == 0)
            {
                // Undefined symbols are those of libhostcuda.so, which is loaded before any module.
                (code, var linkLog) = Run(compiler, ["-shared", "-o", image, unit]);
                log += linkLog;
            }

            return code == 0 ? new(File.ReadAllBytes(image), log, FromCache: false) : throw new KernelCompileException($"{stem}.cu", Version(), log);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static (string? Path, string Version) Found() => s_compiler.Value is { Path: not null } found
        ? found
        : throw new NotSupportedException("hostcuda compiles kernels with g++, and none is on PATH; run: apt-get install -y g++ (or set Z1_CXX)");

    private static (string? Path, string Version) Find()
    {
        var chosen = Environment.GetEnvironmentVariable("Z1_CXX");
        var folders = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries);
        string[] names = string.IsNullOrEmpty(chosen) ? ["g++", "clang++", "c++"] : [chosen];
        var candidates = names.SelectMany(name => folders.Select(f => Path.Combine(f, name)));      // an absolute name stays as it is
        foreach (var candidate in candidates.Where(File.Exists))
        {
            var (code, output) = Run(candidate, ["--version"]);
            if (code == 0)
            {
                return (candidate, output.Split('\n')[0]);
            }
        }

        return (null, "");
    }

    private static (int Code, string Output) Run(string program, string[] arguments)
    {
        var (read, write) = ChildProcess.Pipe();
        using var reading = read;
        using var nothing = File.OpenHandle("/dev/null");
        using var child = ChildProcess.Start(program, [program, .. arguments], Inherited(), [nothing, write, write]);
        write.Dispose();
        var output = new List<byte>();
        var buffer = new byte[4096];
        while (true)
        {
            var count = ChildProcess.Read(read, buffer);
            if (count == 0)
            {
                break;
            }

            if (count < 0)
            {
                ChildProcess.Poll([read], 1000);
                continue;
            }

            output.AddRange(buffer.AsSpan(0, count));
        }

        return (child.Wait().Code, Encoding.UTF8.GetString([.. output]));
    }

    /// <summary>What a compiler needs to find its parts and its scratch space, with messages in English.</summary>
    private static List<string> Inherited()
    {
        var result = new List<string> { "LC_ALL=C" };
        foreach (var name in (string[])["PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH"])
        {
            if (Environment.GetEnvironmentVariable(name) is { } value)
            {
                result.Add($"{name}={value}");
            }
        }

        return result;
    }
}
