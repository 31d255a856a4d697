namespace Z1Coder.Trainer.Evaluate;

/// <summary>One problem of a benchmark: what a model is asked, and everything that grades an answer. Plain data; no rule of a benchmark is left in it.</summary>
public sealed record BenchmarkTask
{
    private readonly string _tests = "";
    private readonly Func<string>? _makeTests;

    /// <summary>Name, unique in its benchmark, as saved answers spell it.</summary>
    public required string TaskId { get; init; }

    /// <summary>The user's turn.</summary>
    public string Prompt { get; init; } = "";

    /// <summary>How the model's turn begins; empty for none. Where it opens a code block the answer ends at the next fence.</summary>
    public string Prefix { get; init; } = "";

    /// <summary>Function or class under test; empty for a script.</summary>
    public string EntryPoint { get; init; } = "";

    /// <summary>Code that a completion continues: imports, signature, docstring.</summary>
    public string Context { get; init; } = "";

    /// <summary>Code that comes before a whole program graded as <see cref="CompletionMode.Calibrated"/>: imports and signature.</summary>
    public string Calibration { get; init; } = "";

    /// <summary>A whole program known to be right; null when the file has none.</summary>
    public string? Reference { get; init; }

    /// <summary>Group for reports, such as "easy"; null when there is none.</summary>
    public string? Kind { get; init; }

    /// <summary>Day on which the problem was published; null when the file does not say.</summary>
    public DateOnly? Date { get; init; }

    /// <summary>Trusted Python that runs before the program in its namespace.</summary>
    public string Setup { get; init; } = "";

    /// <summary>
    /// Trusted Python that runs after the program in its namespace. With <see cref="Inputs"/> it finds the least limit of one input in z1_floor,
    /// seconds, and the factor of the reference's time in z1_factor.
    /// </summary>
    public string Tests
    {
        get => _makeTests?.Invoke() ?? _tests;
        init => (_tests, _makeTests) = (value, null);
    }

    /// <summary>Makes <see cref="Tests"/> whenever they are asked for, where those of all tasks together are too large to be kept.</summary>
    internal Func<string> MakeTests
    {
        init => _makeTests = value;
    }

    /// <summary>Code that imports and calls what <see cref="Tests"/> do; where these are made, without their data.</summary>
    internal string TestCode
    {
        get => field ?? Tests;
        init;
    }

    /// <summary>
    /// Trusted Python that runs after the reference and prints <see cref="Benchmark.ExpectedMark"/> and what <see cref="Tests"/> find in
    /// z1_expected: for files that hold inputs without outputs. Null where the tests need nothing.
    /// </summary>
    public string? Oracle { get; init; }

    /// <summary>The program that <see cref="Oracle"/> runs after; null for <see cref="Reference"/>.</summary>
    public string? OracleProgram { get; init; }

    /// <summary>Inputs on which the tests call the program; 0 when they are not counted.</summary>
    public int Inputs { get; init; }

    /// <summary>
    /// Runs of the program as a script; empty for a task with <see cref="Tests"/>. To go through them may unpack them; to count them does not.
    /// </summary>
    public IReadOnlyCollection<ScriptCase> Cases { get; init; } = [];

    /// <summary>Of the task as it was read, what <see cref="EvaluationFiles.HashOf"/> gives, where to go through the tests again is slow.</summary>
    internal string? Hash { get; init; }
}
