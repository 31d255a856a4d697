using System.Diagnostics;
using System.Text;

namespace Z1Coder.Tests.Trainer.Cli;

/// <summary>
/// The built z1 as a child process, as a user meets it: for what processes alone have, such as signals, kills, ranks, variables and standard input.
/// Elsewhere <see cref="Z1Here"/> does without the start, which takes most of a short run.
/// </summary>
internal sealed class Z1 : IDisposable
{
    internal const int LongestSeconds = 120;

    private readonly Process _process;
    private readonly StringBuilder _output = new(), _error = new();
    private readonly SemaphoreSlim _lines = new(0);

    private Z1(string[] arguments, string? input, params (string Name, string Value)[] environment)
        : this(Program, arguments, input, environment)
    {
    }

    private Z1(string program, string[] arguments, string? input, params (string Name, string Value)[] environment)
    {
        var start = new ProcessStartInfo(program)
        {
            RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true, UseShellExecute = false,
        };
        foreach (var argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        start.Environment.Remove("Z1_TRACE");
        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        _process = new Process { StartInfo = start };
        _process.OutputDataReceived += (_, e) => Take(_output, e.Data, counted: true);
        _process.ErrorDataReceived += (_, e) => Take(_error, e.Data, counted: false);
        _process.Start();
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
        _process.StandardInput.Write(input ?? "");
        _process.StandardInput.Close();
    }

    /// <summary>artifacts/z1/z1, as ./build.sh publishes it; where one was built since then in the tests' own configuration, that one.</summary>
    public static string Program { get; } = Newest();

    public int Id => _process.Id;

    /// <summary>What has come on standard error.</summary>
    public string ErrorSoFar
    {
        get
        {
            lock (_error)
            {
                return _error.ToString();
            }
        }
    }

    public bool HasExited => _process.HasExited;

    public static Z1 Start(params string[] arguments) => new(arguments, null);

    /// <summary>Another program, which starts z1, with more environment variables.</summary>
    public static Z1 StartProgram(string program, (string Name, string Value)[] environment, params string[] arguments) => new(program, arguments, null, environment);

    /// <summary>Runs to the end.</summary>
    public static Z1Result Run(params string[] arguments) => RunWithInput(null, arguments);

    /// <summary>Runs to the end with one more environment variable.</summary>
    public static Z1Result RunWith(string variable, string value, params string[] arguments)
    {
        using var z1 = new Z1(arguments, null, (variable, value));
        return z1.Wait();
    }

    public static Z1Result RunWithInput(string? input, params string[] arguments)
    {
        using var z1 = new Z1(arguments, input);
        return z1.Wait();
    }

    /// <summary>Waits until so many lines of output have come; false when the process ended before.</summary>
    public bool WaitForLines(int count)
    {
        for (var i = 0; i < count; i++)
        {
            while (!_lines.Wait(20))
            {
                if (_process.HasExited)
                {
                    return false;
                }
            }
        }

        return true;
    }

    public void Kill() => _process.Kill();

    /// <summary>SIGTERM.</summary>
    public void Terminate() => Signal(Id, "TERM");

    /// <summary>A signal, by its name without SIG, to any process; one that has ended is left alone.</summary>
    public static void Signal(int process, string signal)
    {
        using var kill = Process.Start(new ProcessStartInfo("kill", [$"-{signal}", $"{process}"]) { RedirectStandardError = true })!;
        kill.WaitForExit();
    }

    /// <summary>The processes that this one has started and that run, with their environment.</summary>
    public IReadOnlyList<(int Id, string[] Environment)> Children()
    {
        var children = new List<(int, string[])>();
        foreach (var folder in Directory.GetDirectories("/proc").Where(d => char.IsAsciiDigit(Path.GetFileName(d)[0])))
        {
            try
            {
                var stat = File.ReadAllText(Path.Combine(folder, "stat"));
                if (int.Parse(stat[(stat.LastIndexOf(')') + 4)..].Split(' ')[0]) == Id)
                {
                    children.Add((int.Parse(Path.GetFileName(folder)), File.ReadAllText(Path.Combine(folder, "environ")).Split('\0')));
                }
            }
            catch (IOException)
            {
                // it has ended meanwhile
            }
        }

        return children;
    }

    public Z1Result Wait()
    {
        if (!_process.WaitForExit(TimeSpan.FromSeconds(LongestSeconds)))
        {
            _process.Kill(entireProcessTree: true);
            throw new TimeoutException($"z1 {string.Join(' ', _process.StartInfo.ArgumentList)} did not end in {LongestSeconds} s; it said:\n{_output}{_error}");
        }

        _process.WaitForExit();                // and until the streams are read to their ends
        return new Z1Result(_process.ExitCode, _output.ToString(), _error.ToString());
    }

    public void Dispose()
    {
        if (!_process.HasExited)
        {
            _process.Kill(entireProcessTree: true);
            _process.WaitForExit();
        }

        _process.Dispose();
        _lines.Dispose();
    }

    private static string Newest()
    {
        var own = Path.TrimEndingDirectorySeparator(AppContext.BaseDirectory);          // artifacts/bin/Tests/(configuration)
        var bin = Path.GetFullPath(Path.Combine(own, "..", ".."));
        string[] programs = [Path.Combine(bin, "..", "z1", "z1"), Path.Combine(bin, "Trainer", $"{Path.GetFileName(own)}_linux-x64", "z1")];
        return Path.GetFullPath(programs.MaxBy(z1 => File.GetLastWriteTimeUtc($"{z1}.dll"))!);
    }

    private void Take(StringBuilder text, string? line, bool counted)
    {
        if (line is null)
        {
            return;
        }

        lock (text)
        {
            text.Append(line).Append('\n');
        }

        if (counted)
        {
            _lines.Release();
        }
    }
}
