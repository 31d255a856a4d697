namespace Z1Coder.Trainer.Evaluate;

/// <summary>How samples are graded.</summary>
public sealed record EvaluationOptions
{
    /// <summary>Where programs run; null makes one with <see cref="Evaluate.Sandbox.Create"/>.</summary>
    public Sandbox? Sandbox { get; init; }

    /// <summary>Limits of a program; its wall and CPU seconds come from the next two.</summary>
    public SandboxLimits Limits { get; init; } = new();

    /// <summary>Least time limit in seconds: what is allowed when the reference took next to nothing, or when there is none.</summary>
    public double FloorSeconds { get; init; } = 4;

    /// <summary>Time limit as a multiple of what the reference took on this machine, just before.</summary>
    public double ReferenceFactor { get; init; } = 4;

    /// <summary>Time limit of a reference solution.</summary>
    public double ReferenceSeconds { get; init; } = 60;

    /// <summary>What a failing reference does.</summary>
    public ReferenceCheck Reference { get; init; } = ReferenceCheck.Stop;

    /// <summary>Tasks without a sample are an error unless this is set; then only tasks with samples count.</summary>
    public bool AllowMissing { get; init; }

    /// <summary>Programs at once; 0 takes one per core.</summary>
    public int Workers { get; init; }

    /// <summary>The k of pass@k that are wanted; those above the number of samples of some task are left out.</summary>
    public IReadOnlyList<int> K { get; init; } = [1, 10, 100];

    /// <summary>Seed of the bootstrap over tasks, used with several samples per task.</summary>
    public ulong Seed { get; init; }

    /// <summary>File of verdicts, one line per sample in the order given; the same bytes in every run that comes to the same verdicts.</summary>
    public string? ResultsPath { get; init; }

    /// <summary>File of times and error texts, one line per run as it ends; differs from run to run.</summary>
    public string? DetailsPath { get; init; }

    /// <summary>
    /// File of finished outcomes, appended to as they come. What it holds from an earlier run of the same program and tests is not run again; null
    /// keeps nothing.
    /// </summary>
    public string? JournalPath { get; init; }

    /// <summary>Looks first which packages the tasks import; a task whose packages are not installed is not run and not counted.</summary>
    public bool CheckPackages { get; init; }
}
