using Xunit;
using Xunit.Sdk;
using Xunit.v3;

[assembly: TestCollectionOrderer(typeof(Z1Coder.Tests.LongestFirst))]

namespace Z1Coder.Tests;

/// <summary>Collections that take a minute or more start first, so that no core idles while the last of them runs; then by name, the same order each time.</summary>
public sealed class LongestFirst : ITestCollectionOrderer
{
    private static readonly string[] s_long = ["hostcuda", "sandbox", "launch", "ResumeTests", "BadInputTests", "TrainTests"];

    /// <inheritdoc/>
    public IReadOnlyCollection<TTestCollection> OrderTestCollections<TTestCollection>(IReadOnlyCollection<TTestCollection> testCollections)
        where TTestCollection : ITestCollection =>
        [.. testCollections.OrderBy(c => Place(c.TestCollectionDisplayName)).ThenBy(c => c.TestCollectionDisplayName, StringComparer.Ordinal)];

    /// <summary>A class without a collection of its own is one, whose name ends in the class's and an identity: "… Trainer.Cli.ResumeTests (id: 670c…)".</summary>
    private static int Place(string name)
    {
        var place = Array.FindIndex(s_long, l => name == l || name.Contains($".{l} (", StringComparison.Ordinal));
        return place < 0 ? s_long.Length : place;
    }
}
