namespace Z1Coder.Trainer.Curation.Nano;

/// <summary>What decides every byte of the nano corpus.</summary>
public sealed record NanoOptions
{
    /// <summary>The seed of all draws; the split does not depend on it.</summary>
    public ulong Seed { get; init; } = 1;

    /// <summary>Distinct plain problems of stage 1.</summary>
    public int Stage1Problems { get; init; } = 14_000;

    /// <summary>Distinct problems of stage 2, plain ones included.</summary>
    public int Stage2Problems { get; init; } = 18_000;

    /// <summary>Per cent of stage 2 that is plain, so that stage 1 is not forgotten.</summary>
    public int Stage2PlainPercent { get; init; } = 25;

    /// <summary>Plain problems of the benchmark.</summary>
    public int HeldOutPlain { get; init; } = 100;

    /// <summary>Self-invoking problems of the benchmark.</summary>
    public int HeldOutSelfInvoking { get; init; } = 100;

    /// <summary>Problems of the small benchmark that is measured during training: half of each kind, the first of the benchmark.</summary>
    public int Probe { get; init; } = 40;

    /// <summary>The teacher also works one small example through (list problems only). Costs tokens and asks for arithmetic.</summary>
    public bool WorkedExample { get; init; }
}
