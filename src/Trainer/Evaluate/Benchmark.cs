using System.Text.RegularExpressions;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Evaluate.Benchmarks;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>
/// A published benchmark: how its files are read, what a model is asked, where its answer ends, which code counts, how it is graded, and
/// within which limits. One class and one file each in Benchmarks/; the grader knows none of them.
/// </summary>
public abstract partial class Benchmark
{
    /// <summary>Line that comes before the base64 text that <see cref="BenchmarkTask.Oracle"/> prints.</summary>
    public const string ExpectedMark = "z1-expected";

    /// <summary>Ends of a turn in the published runs.</summary>
    protected static readonly string[] EndTokens = ["<|endoftext|>", "<|endofmask|>", "</s>"];

    private protected Benchmark()
    {
    }

    /// <summary>Every benchmark there is, by name: no discovery.</summary>
    public static IReadOnlyList<Benchmark> All { get; } =
    [
        new HumanEvalBenchmark(), new HumanEvalPlusBenchmark(), new MbppBenchmark(), new MbppPlusBenchmark(), new HumanEvalProBenchmark(),
        new MbppProBenchmark(), new BigCodeBenchLiteProBenchmark(), new BigCodeBenchBenchmark(hard: false, instruct: false),
        new BigCodeBenchBenchmark(hard: false, instruct: true), new BigCodeBenchBenchmark(hard: true, instruct: false),
        new BigCodeBenchBenchmark(hard: true, instruct: true), new LiveCodeBenchBenchmark(),
    ];

    /// <summary>Name on the command line.</summary>
    public abstract string Name { get; }

    /// <summary>One line: what it asks, and how many tasks the published version has.</summary>
    public abstract string Description { get; }

    /// <summary>Where the protocol and the data come from.</summary>
    public abstract string Source { get; }

    /// <summary>Sets of file names as published, best first; a set is whole or not there. "*" stands for any version.</summary>
    public abstract IReadOnlyList<IReadOnlyList<string>> Files { get; }

    /// <summary>Texts at which a completion ends.</summary>
    public virtual IReadOnlyList<string> Stops => EndTokens;

    /// <summary>Longest answer in tokens.</summary>
    public virtual int MaxNewTokens => 1280;

    /// <summary>Answers to each task in the published runs.</summary>
    public virtual int Samples => 1;

    /// <summary>Temperature of the published runs; 0 is greedy.</summary>
    public virtual double Temperature => 0;

    /// <summary>Share of the probability that the published runs drew from.</summary>
    public virtual double TopP => 1;

    /// <summary>Memory and output of a program; its seconds come from <see cref="Seconds"/>.</summary>
    public virtual SandboxLimits Limits { get; } = new() { MemoryBytes = 4L << 30 };

    /// <summary>Least time limit in seconds, of one test where tests are timed one by one.</summary>
    public virtual double FloorSeconds => 4;

    /// <summary>Time limit as a multiple of the reference's time on this machine.</summary>
    public virtual double ReferenceFactor => 4;

    /// <summary>The field of a saved answer that names its task.</summary>
    public virtual string IdField => "task_id";

    /// <summary>True when a whole program is graded after the prompt's imports and signature unless told otherwise; elsewhere it stands alone.</summary>
    public virtual bool CalibratesPrograms => false;

    /// <summary>True when the published score is the higher of the answers as they are and cut by <see cref="Sanitize"/>.</summary>
    public virtual bool ScoresSanitized => false;

    /// <summary>The benchmark of this name.</summary>
    /// <exception cref="InvalidInputException">There is none; the message lists those there are.</exception>
    public static Benchmark Find(string name) =>
        All.FirstOrDefault(b => b.Name.Equals(name, StringComparison.OrdinalIgnoreCase))
        ?? throw new InvalidInputException($"There is no benchmark \"{name}\"; there are {string.Join(", ", All.Select(b => b.Name))}.");

    /// <summary>The names under which its files are looked for, in words.</summary>
    public virtual string FileNames => string.Join(" or ", Files.Select(set => string.Join(" with ", set)));

    /// <summary>Reads files: one after the other, or joined by task where each says something else about it.</summary>
    /// <exception cref="InvalidInputException">Names the file, the line or element, and the field.</exception>
    public IReadOnlyList<BenchmarkTask> Read(IReadOnlyList<string> paths)
    {
        var tasks = new List<BenchmarkTask>();
        var seen = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var row in JoinId is { } id && paths.Count > 1 ? BenchmarkRow.ReadJoined(paths, id) : BenchmarkRow.Read(paths))
        {
            var task = TaskOf(row);
            if (!seen.TryAdd(task.TaskId, row.Where))
            {
                throw row.Twice(task.TaskId, seen[task.TaskId]);
            }

            if (task.Cases.Count == 0 && string.IsNullOrWhiteSpace(task.TestCode))
            {
                throw row.Error("there is no test; anything would pass");
            }

            tasks.Add(task);
        }

        return tasks.Count > 0 ? tasks : throw new InvalidInputException($"{string.Join(", ", paths)}: no task; there must be one JSON object per task.");
    }

    /// <summary>The files of this benchmark in a folder, of several versions the newest; null when no set is there whole.</summary>
    /// <exception cref="InvalidInputException">A file of the set is missing in the middle.</exception>
    public virtual IReadOnlyList<string>? Find(DirectoryInfo folder)
    {
        foreach (var set in Files)
        {
            var found = set.Select(pattern => folder.EnumerateFiles(pattern).MaxBy(f => Versioned(f.Name), StringComparer.Ordinal)?.FullName)
                .OfType<string>().ToList();
            if (found.Count == set.Count)
            {
                return found;
            }
        }

        return null;
    }

    /// <summary>The task that an id in a file of answers means: spellings differ between harnesses.</summary>
    public virtual string TaskIdOf(string id) => id;

    /// <summary>The code of a model's answer.</summary>
    /// <param name="task">What was asked.</param>
    /// <param name="answer">Text after <see cref="BenchmarkTask.Prefix"/>.</param>
    public virtual Sample Extract(BenchmarkTask task, string answer) =>
        task.Prefix.Contains("```", StringComparison.Ordinal)
            ? new Sample(task.TaskId, CodeExtractor.CutAtFence(answer), CompletionMode.Continuation)
            : new Sample(task.TaskId, CodeExtractor.Extract(answer, CodeChoice.Last, task.EntryPoint.Length == 0 ? null : task.EntryPoint), CompletionMode.Program);

    /// <summary>The program that is graded.</summary>
    public virtual string Compose(BenchmarkTask task, Sample sample) =>
        sample.Mode == CompletionMode.Program ? sample.Code : task.Context + sample.Code;

    /// <summary>The answer without what follows the solution; the answer itself where there is nothing to cut.</summary>
    public virtual string Sanitize(string code) => code;

    /// <summary>Time limit in seconds of one run of a program.</summary>
    /// <param name="task">The task.</param>
    /// <param name="reference">Seconds of its reference on this machine, just before; 0 when there is none.</param>
    /// <param name="options">Floor and factor.</param>
    public virtual double Seconds(BenchmarkTask task, double reference, EvaluationOptions options) =>
        Math.Max(options.FloorSeconds, options.ReferenceFactor * reference);

    private protected abstract BenchmarkTask TaskOf(BenchmarkRow row);

    /// <summary>The name under which rows of several files belong together; null where a later file adds tasks.</summary>
    private protected virtual Func<BenchmarkRow, string>? JoinId => null;

    // v0.1.10 comes after v0.1.9.
    private static string Versioned(string name) => Digits().Replace(name, m => m.Value.PadLeft(9, '0'));

    [GeneratedRegex("[0-9]+", RegexOptions.CultureInvariant)]
    private static partial Regex Digits();
}
