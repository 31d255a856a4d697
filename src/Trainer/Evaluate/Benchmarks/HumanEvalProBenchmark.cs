namespace Z1Coder.Trainer.Evaluate.Benchmarks;

/// <summary>HumanEval Pro: each of HumanEval's problems and one that must call its solution. 164 tasks.</summary>
public sealed class HumanEvalProBenchmark : SelfInvokingBenchmark
{
    /// <inheritdoc/>
    public override string Name => "humaneval-pro";

    /// <inheritdoc/>
    public override string Description => "HumanEval's problems, each with one that calls it; 164 tasks";

    /// <inheritdoc/>
    public override IReadOnlyList<IReadOnlyList<string>> Files { get; } = [["humaneval_pro.json"]];

    private protected override string Prefix => "HumanEvalPro/";
}
