using System.Text;

namespace Z1Coder.Trainer.Data;

/// <summary>What became of the records of a data set. Filled by one thread.</summary>
public sealed class DataReport
{
    private const int ExamplesKept = 5;

    private readonly List<(string Reason, List<string> Examples)> _drops = [];
    private readonly Dictionary<string, long> _counts = [];

    /// <summary>Records met, broken lines included.</summary>
    public long Records { get; internal set; }

    /// <summary>Records that became samples for training.</summary>
    public long TrainSamples { get; internal set; }

    /// <summary>Records that became samples for evaluation.</summary>
    public long EvalSamples { get; internal set; }

    /// <summary>Samples kept that were cut to the maximum length.</summary>
    public long Truncated { get; internal set; }

    /// <summary>Samples kept whose end token was cut off: nothing in them teaches the model to stop.</summary>
    public long LostEndToken { get; internal set; }

    /// <summary>Samples kept that have the end token inside their response, where decoding would have stopped.</summary>
    public long EndTokenInside { get; internal set; }

    /// <summary>Tokens of all samples kept.</summary>
    public long Tokens { get; internal set; }

    /// <summary>Tokens that the loss is taken over.</summary>
    public long LossTokens { get; internal set; }

    /// <summary>Tokens cut off by truncation.</summary>
    public long TokensCut { get; internal set; }

    /// <summary>Tokens of the longest sample kept.</summary>
    public int LongestSample { get; internal set; }

    /// <summary>Records left out, for all reasons.</summary>
    public long Dropped => _counts.Values.Sum();

    /// <summary>Records left out, by reason, in the order in which the reasons first came up.</summary>
    public IReadOnlyList<DropCount> Drops => [.. _drops.Select(drop => new DropCount(drop.Reason, _counts[drop.Reason], drop.Examples))];

    /// <summary>Records left out for <paramref name="reason"/>.</summary>
    public long CountOf(string reason) => _counts.GetValueOrDefault(reason);

    /// <summary>Counts one record left out; the first few of each reason are kept as examples.</summary>
    public void Drop(string reason, string example)
    {
        if (!_counts.TryGetValue(reason, out var count))
        {
            _drops.Add((reason, []));
        }

        _counts[reason] = count + 1;
        if (count < ExamplesKept)
        {
            _drops.First(drop => drop.Reason == reason).Examples.Add(example);
        }
    }

    /// <summary>The report for a reader, a few lines.</summary>
    public override string ToString()
    {
        var text = new StringBuilder();
        text.Append($"{Records} records: {TrainSamples} for training, {EvalSamples} for evaluation, {Dropped} left out\n");
        foreach (var drop in Drops)
        {
            text.Append($"  {drop.Count} {drop.Reason}, for example {drop.Examples[0]}\n");
        }

        text.Append($"{Tokens} tokens, {LossTokens} of them with loss, the longest sample has {LongestSample}\n");
        if (Truncated > 0)
        {
            text.Append($"{Truncated} samples truncated ({TokensCut} tokens cut), {LostEndToken} of them lost their end token\n");
        }

        if (EndTokenInside > 0)
        {
            text.Append($"{EndTokenInside} samples have the end token inside their response\n");
        }

        return text.ToString();
    }
}
