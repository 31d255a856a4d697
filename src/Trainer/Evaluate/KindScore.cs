namespace Z1Coder.Trainer.Evaluate;

/// <summary>pass@1 of one group of tasks.</summary>
/// <param name="Kind">The group.</param>
/// <param name="Tasks">Tasks in it.</param>
/// <param name="PassAt1">Mean over them.</param>
/// <param name="Interval">95 % interval of it.</param>
public sealed record KindScore(string Kind, int Tasks, double PassAt1, Interval Interval)
{
    private static readonly string[] s_order = ["easy", "medium", "hard"];

    /// <summary>Where a group stands in a table: difficulties from easy to hard, others after them as they come.</summary>
    public static int Rank(string kind) => Array.IndexOf(s_order, kind) is >= 0 and var rank ? rank : s_order.Length;
}
