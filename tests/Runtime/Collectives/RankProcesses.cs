using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text;
using Z1Coder.Tests.Trainer.Cli;

namespace Z1Coder.Tests.Runtime.Collectives;

/// <summary>Programs that run beside each other, as the ranks of a job do, and how each ended.</summary>
internal static class RankProcesses
{
    private const int LongestSeconds = 60;

    /// <summary>z1 as ranks 0..size-1, without a launcher that would end the others when one fails.</summary>
    public static Z1Result[] Run(int size, string[] arguments, params (string Name, string Value)[] environment)
    {
        var port = FreePort();
        var processes = Enumerable.Range(0, size).Select(rank => Start(
            Z1.Program,
            arguments,
            [
                .. environment, ("RANK", $"{rank}"), ("WORLD_SIZE", $"{size}"), ("LOCAL_RANK", $"{rank}"), ("LOCAL_WORLD_SIZE", $"{size}"),
                ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", $"{port}"),
            ])).ToArray();
        return [.. processes.Select(p => p.Result())];
    }

    /// <summary>One program, which starts the ranks.</summary>
    public static Z1Result Launch(string program, string[] arguments, params (string Name, string Value)[] environment) =>
        Start(program, arguments, environment).Result();

    /// <summary>The program in PATH, or null.</summary>
    public static string? Find(params string[] names) =>
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').SelectMany(d => names.Select(n => Path.Combine(d, n))).FirstOrDefault(File.Exists);

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    private static Running Start(string program, string[] arguments, (string Name, string Value)[] environment)
    {
        var start = new ProcessStartInfo(program) { RedirectStandardOutput = true, RedirectStandardError = true, UseShellExecute = false };
        foreach (var argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        return new Running(start);
    }

    private sealed class Running : IDisposable
    {
        private readonly Process _process;
        private readonly StringBuilder _output = new(), _error = new();

        public Running(ProcessStartInfo start)
        {
            _process = new Process { StartInfo = start };
            _process.OutputDataReceived += (_, e) => Take(_output, e.Data);
            _process.ErrorDataReceived += (_, e) => Take(_error, e.Data);
            _process.Start();
            _process.BeginOutputReadLine();
            _process.BeginErrorReadLine();
        }

        public Z1Result Result()
        {
            using (this)
            {
                if (!_process.WaitForExit(TimeSpan.FromSeconds(LongestSeconds)))
                {
                    _process.Kill(entireProcessTree: true);
                    return new(-1, _output.ToString(), $"killed after {LongestSeconds} s\n{_error}");
                }

                _process.WaitForExit();
                return new(_process.ExitCode, _output.ToString(), _error.ToString());
            }
        }

        public void Dispose() => _process.Dispose();

        private static void Take(StringBuilder text, string? line)
        {
            lock (text)
            {
                text.Append(line).Append(line is null ? "" : "\n");
            }
        }
    }
}
