namespace Z1Coder.Perf;

/// <summary>One check of the self-test.</summary>
/// <param name="Name">what was checked</param>
/// <param name="Passed">null when it could not be run; the detail says why</param>
/// <param name="Detail">the figure and its bound, or the reason</param>
public sealed record SelfTestResult(string Name, bool? Passed, string Detail)
{
    /// <summary>"passed", "FAILED" or "skipped".</summary>
    public string Verdict => Passed switch { true => "passed", false => "FAILED", _ => "skipped" };

    /// <summary>A figure that must be at most a bound; NaN fails.</summary>
    public static SelfTestResult Within(string name, double figure, double bound) =>
        new(name, figure <= bound, $"{figure:E2}, bound {bound:E2}");
}
