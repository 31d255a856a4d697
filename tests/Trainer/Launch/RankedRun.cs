using Xunit;
using Z1Coder.Tests.Trainer.Cli;

namespace Z1Coder.Tests.Trainer.Launch;

/// <summary>A <see cref="TinyRun"/> of one short stage whose steps have four micro-batches, so that two ranks have two rounds each. The tests of a
/// class share one, and the runs that they compare theirs with.</summary>
public sealed class RankedRun : IDisposable
{
    /// <summary>Optimizer steps of a whole run.</summary>
    public const int Steps = 6;

    private readonly TinyRun _tiny = new();
    private readonly HashSet<string> _made = [];

    /// <summary>Writes the recipe and its data.</summary>
    public RankedRun()
    {
        _tiny.KeepOneStage(Steps);
        File.WriteAllText(Recipe, File.ReadAllText(Recipe)
            .Replace("batch_samples: 8,", "batch_samples: 8, micro_batch_samples: 2,", StringComparison.Ordinal)
            .Replace("checkpoint: {every: 3, keep: 2}", "checkpoint: {every: 1, keep: 2}", StringComparison.Ordinal));
    }

    /// <summary>Sums in the order of micro-batches: the same bits for any number of ranks.</summary>
    public static string[] Ordered => ["--set", "parallel.reduce=ordered"];

    /// <summary>The recipe's file.</summary>
    public string Recipe => _tiny.Recipe;

    /// <summary>A path in the folder.</summary>
    public string this[string name] => _tiny[name];

    /// <summary>train RECIPE --out DIRECTORY …</summary>
    public string[] Train(string output, params string[] more) => _tiny.Train(output, more);

    /// <summary>launch -n RANKS … -- train RECIPE --out DIRECTORY …</summary>
    public static string[] Launch(int ranks, string[] options, string[] verb) => ["launch", "-n", $"{ranks}", .. options, "--", .. verb];

    /// <summary>The numbers of every step and evaluation as they are written, so to the bit; nothing that depends on the clock.</summary>
    public List<string> Metrics(string output) => _tiny.Metrics(output, "stage1");

    /// <summary>The final weights.</summary>
    public byte[] Model(string output) => File.ReadAllBytes(Path.Combine(_tiny[output], "stage1", "model", "model.safetensors"));

    /// <summary>Steps of the published checkpoints.</summary>
    public List<int> Published(string output)
    {
        var folder = Path.Combine(_tiny[output], "stage1", "checkpoints");
        return !Directory.Exists(folder)
            ? []
            : [.. Directory.GetDirectories(folder).Select(d => Path.GetFileName(d)).Where(n => n.StartsWith("step-", StringComparison.Ordinal) && !n.Contains('.'))
                .Select(n => int.Parse(n["step-".Length..])).Order()];
    }

    /// <summary>One process, ordered sums, on a device: made once.</summary>
    public string One(string device = "cpu")
    {
        var name = $"one-{device}";
        if (_made.Add(name))
        {
            Z1.Run(Train(name, [.. Ordered, "--device", device])).Succeeded();
        }

        return name;
    }

    /// <summary>Two ranks that nothing interrupts, sums in the order of ranks: made once.</summary>
    public string Two()
    {
        if (_made.Add("two-whole"))
        {
            Z1.Run(Launch(2, [], Train("two-whole"))).Succeeded();
        }

        return "two-whole";
    }

    /// <summary>A run that SIGTERM ended on its way. It is short: one that ended before the signal came is begun again, in another directory.</summary>
    /// <param name="name">begins the directory's name</param>
    /// <param name="command">for a directory</param>
    /// <param name="lines">of output before the signal</param>
    /// <param name="whom">the process that gets it; 0 for one that is gone</param>
    internal (string Directory, string Output) Stopped(string name, Func<string, string[]> command, int lines, Func<Z1, int> whom)
    {
        Z1Result? result = null;
        for (var again = 0; again < 10; again++)
        {
            var directory = $"{name}-{again}";
            using var z1 = Z1.Start(command(directory));
            z1.WaitForLines(lines);
            var id = whom(z1);
            if (id != 0)
            {
                Z1.Signal(id, "TERM");
                Z1.Signal(id, "HUP");                    // a shell and a kernel that both hang up: the same wish
            }

            result = z1.Wait();
            if (Published(directory).LastOrDefault() is > 0 and < Steps)
            {
                return (directory, result.Succeeded().Output);
            }
        }

        throw new InvalidOperationException($"{name} ended before the signal each time; the last said {result!.Error}{result.Output}");
    }

    /// <summary>The same bits, whoever made them.</summary>
    public void Same(string expected, string output)
    {
        Assert.Equal(Metrics(expected), Metrics(output));
        Assert.True(Model(expected).AsSpan().SequenceEqual(Model(output)), $"{output}: the final model differs from that of {expected}");
    }

    /// <inheritdoc/>
    public void Dispose() => _tiny.Dispose();
}
