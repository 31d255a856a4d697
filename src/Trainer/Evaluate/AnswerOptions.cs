using System.Text;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Decode;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>How a model answers the tasks of a benchmark.</summary>
public sealed record AnswerOptions
{
    /// <summary>Answers to each task.</summary>
    public int Samples { get; init; } = 1;

    /// <summary>0 is greedy.</summary>
    public double Temperature { get; init; }

    /// <summary>Share of the probability that is drawn from.</summary>
    public double TopP { get; init; } = 1;

    /// <summary>Decides, with the task's name and the number of the sample, what is drawn.</summary>
    public ulong Seed { get; init; }

    /// <summary>Longest answer, tokens; the context's end may come first.</summary>
    public required int MaxNewTokens { get; init; }

    /// <summary>Texts that end an answer.</summary>
    public IReadOnlyList<string> Stops { get; init; } = [];

    /// <summary>As the benchmark was run for its published scores.</summary>
    public static AnswerOptions Of(Benchmark benchmark)
    {
        ArgumentNullException.ThrowIfNull(benchmark);
        return new AnswerOptions
        {
            Samples = benchmark.Samples, Temperature = benchmark.Temperature, TopP = benchmark.TopP, MaxNewTokens = benchmark.MaxNewTokens,
            Stops = benchmark.Stops,
        };
    }

    /// <summary>
    /// The rule of one answer. Its seed is h(h(… h(h(seed, b1), b2) …, bn), sample) over the bytes b of the task's name in UTF-8, where
    /// h(s, x) = Mix(s + Step · (x + 1)) of <see cref="SplitMix64"/>: no other task, sample or order changes it.
    /// </summary>
    internal Sampling SamplingOf(string taskId, int sample)
    {
        if (Temperature == 0)
        {
            return Sampling.Greedy;
        }

        var state = Seed;
        foreach (var part in Encoding.UTF8.GetBytes(taskId))
        {
            state = Next(state, part);
        }

        return new Sampling((float)Temperature, (float)TopP, 0, Next(state, sample));
    }

    private static ulong Next(ulong state, int part) => SplitMix64.Mix(unchecked(state + (SplitMix64.Step * ((ulong)part + 1))));
}
