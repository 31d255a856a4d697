namespace Z1Coder.Trainer.Evaluate.Benchmarks;

/// <summary>MBPP Pro: problems of MBPP+ and for each one that must call its solution. 378 tasks.</summary>
public sealed class MbppProBenchmark : SelfInvokingBenchmark
{
    /// <inheritdoc/>
    public override string Name => "mbpp-pro";

    /// <inheritdoc/>
    public override string Description => "MBPP+'s problems, each with one that calls it; 378 tasks";

    /// <inheritdoc/>
    public override IReadOnlyList<IReadOnlyList<string>> Files { get; } = [["mbpp_pro.json"]];

    private protected override string Prefix => "MbppPro/";
}
