using System.Diagnostics;
using System.Text.Json;

namespace Z1Coder.Perf;

/// <summary>
/// Ours and PyTorch's training step in turn, each in a process of its own, so that noise of the machine hits both and each peak of memory is
/// its own. The peer is a program that runs Python with PyTorch (Z1_PEERPY) in the folder that holds bench_train.py.
/// </summary>
public static class PeerRuns
{
    private const string Variable = "Z1_PEERPY";

    private const string Allocator = "/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4";      // about +25 % for PyTorch on its own

    /// <summary>PyTorch's quick configurations; the last has fp32 masters, as ours has. Without bf16 in hardware PyTorch takes a minute for what fp32 does in seconds.</summary>
    private static readonly string[] s_modes = HasBFloat16() ? ["bf16", "autocast"] : ["fp32"];

    /// <summary>Compares every case given; false when there is no peer.</summary>
    /// <param name="cases">of type bf16</param>
    /// <param name="rounds">runs of each side per case</param>
    /// <param name="output">where the lines go</param>
    public static bool Run(IEnumerable<StepCase> cases, int rounds, TextWriter output)
    {
        var peer = Environment.GetEnvironmentVariable(Variable);
        if (string.IsNullOrEmpty(peer) || !File.Exists(peer))
        {
            output.WriteLine($"the comparison with PyTorch is skipped: {Variable} does not name a program (perf/peer/setup-peer.sh makes one)");
            return false;
        }

        output.WriteLine(
            $"{"peer",-14}{"z1 tok/s",10}{string.Concat(s_modes.Select(m => $"{"torch " + m,15}"))}{"ratio",7}{"best/best",10}{"z1 GiB",8}"
            + $"{string.Concat(s_modes.Select(m => $"{m + " GiB",13}"))}{"RSS ratio",10}{"load",6}");
        foreach (var which in cases)
        {
            var (ours, theirs) = (new Side(), s_modes.Select(_ => new Side()).ToArray());
            for (var round = 0; round < rounds; round++)
            {
                ours.Add(Ours(which));
                for (var mode = 0; mode < s_modes.Length; mode++)
                {
                    theirs[mode].Add(Theirs(peer, which, s_modes[mode]));
                }
            }

            output.WriteLine(
                $"{which.Size + " " + which.Length,-14}{ours.Median,10:F1}{string.Concat(theirs.Select(t => $"{t.Median,15:F1}"))}"
                + $"{ours.Median / theirs.Max(t => t.Median),7:F2}{ours.Best / theirs.Max(t => t.Best),10:F2}"
                + $"{ours.Memory,8:F2}{string.Concat(theirs.Select(t => $"{t.Memory,13:F2}"))}{ours.Memory / theirs[^1].Memory,10:F2}{ProcStatus.Load(),6:F1}");
        }

        return true;
    }

    private static bool HasBFloat16()
    {
        const string Processor = "/proc/cpuinfo";
        return File.Exists(Processor) && File.ReadLines(Processor).FirstOrDefault(l => l.StartsWith("flags", StringComparison.Ordinal))?
            .Split(' ').Any(f => f is "avx512_bf16" or "amx_bf16") == true;
    }

    private static JsonElement Ours(StepCase which)
    {
        var start = new ProcessStartInfo(Environment.ProcessPath!);
        foreach (var argument in (string[])["perf", "run", "--suite", "steps", "--only", which.Size, "--only", $"{which.Length}", "--only", which.Type, "--json"])
        {
            start.ArgumentList.Add(argument);
        }

        return LastLine(start);
    }

    private static JsonElement Theirs(string peer, StepCase which, string mode)
    {
        var steps = which.Size switch { "nano" => 20, "mini" => 6, _ => 2 };
        var start = new ProcessStartInfo(peer);
        start.Environment["LD_PRELOAD"] = Allocator;
        foreach (var argument in (string[])
            ["bench_train.py", "--size", which.Size, "--seq", $"{which.Length}", "--mode", mode, "--attn", "eager", "--steps", $"{steps}", "--warmup",
                which.Size == "05b" ? "1" : "3"])
        {
            start.ArgumentList.Add(argument);
        }

        return LastLine(start);
    }

    private static JsonElement LastLine(ProcessStartInfo start)
    {
        start.RedirectStandardOutput = true;
        start.RedirectStandardError = true;
        using var process = Process.Start(start)!;
        process.ErrorDataReceived += static (_, _) => { };
        process.BeginErrorReadLine();
        var lines = process.StandardOutput.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries);
        process.WaitForExit();
        if (process.ExitCode != 0 || lines.Length == 0)
        {
            throw new InvalidOperationException($"{start.FileName} {string.Join(' ', start.ArgumentList)} failed with exit code {process.ExitCode}");
        }

        using var json = JsonDocument.Parse(lines[^1]);
        return json.RootElement.Clone();
    }

    /// <summary>The best process of one side, which favours whoever met less noise; both sides have as many.</summary>
    private sealed class Side
    {
        public double Median { get; private set; }

        public double Best { get; private set; }

        public double Memory { get; private set; }

        public void Add(JsonElement run)
        {
            Median = Math.Max(Median, run.GetProperty("tok_s_median").GetDouble());
            Best = Math.Max(Best, run.GetProperty("tok_s_best").GetDouble());
            Memory = Math.Max(Memory, run.GetProperty("peak_rss_gib").GetDouble());
        }
    }
}
