namespace Z1Coder.Trainer.Evaluate.Benchmarks;

/// <summary>BigCodeBench-Lite Pro: problems of BigCodeBench and for each one that must call its solution; most need installed packages. 57 tasks.</summary>
public sealed class BigCodeBenchLiteProBenchmark : SelfInvokingBenchmark
{
    /// <inheritdoc/>
    public override string Name => "bigcodebench-lite-pro";

    /// <inheritdoc/>
    public override string Description => "BigCodeBench's problems, each with one that calls it; 57 tasks";

    /// <inheritdoc/>
    public override IReadOnlyList<IReadOnlyList<string>> Files { get; } = [["bigcodebench_lite_pro.json"]];

    /// <inheritdoc/>
    public override SandboxLimits Limits => BigCodeBenchBenchmark.Room;

    /// <inheritdoc/>
    public override double FloorSeconds => 30;

    private protected override string Prefix => "BigCodeBench/";
}
