using Xunit;
using Z1Coder.Perf;
using Z1Coder.Tests.Trainer.Checkpoints;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Tests.Perf;

public sealed class PerfComparisonTests
{
    [Theory]
    [InlineData(100, 103, "Same")]       // 2 % and 2 % of noise explain 3 %
    [InlineData(100, 105, "Slower")]
    [InlineData(100, 95, "Faster")]
    [InlineData(100, double.NaN, "Slower")]
    public void A_difference_counts_beyond_the_noise_of_both_runs(double before, double after, string verdict)
    {
        var comparison = new PerfComparison(Report(Row("a", before)), Report(Row("a", after)));
        Assert.Equal(verdict, comparison.Lines.Single().Verdict.ToString());
        Assert.Equal(verdict == "Slower", comparison.HasRegression);
    }

    [Fact]
    public void A_case_that_is_gone_is_a_regression_and_a_case_that_came_is_none()
    {
        Assert.True(new PerfComparison(Report(Row("a", 1), Row("b", 1)), Report(Row("a", 1))).HasRegression);
        Assert.False(new PerfComparison(Report(Row("a", 1)), Report(Row("a", 1), Row("b", 1))).HasRegression);
    }

    [Fact]
    public void Tables_name_every_case_and_escape_what_they_show()
    {
        var comparison = new PerfComparison(Report(Row("a<b", 10), Row("gone", 1)), Report(Row("a<b", 20)));
        var markdown = comparison.ToMarkdown();
        Assert.Contains("| steps | a<b | 512 | 10.0 | 20.0 | 2.000 | ±4.0% | slower |", markdown.Replace(" %", "%"));
        Assert.Contains("missing: steps | gone | 512", markdown);
        Assert.Contains("a&lt;b", comparison.ToHtml());
        Assert.DoesNotContain("a<b", comparison.ToHtml());
    }

    [Fact]
    public void A_report_survives_its_file()
    {
        using var folder = new TemporaryFolder();
        var report = Report(Row("a", 12.5));
        report.Save(folder["perf.json"]);
        var read = PerfReport.Load(folder["perf.json"]);
        Assert.Equal(report.Rows, read.Rows);
        Assert.Equal((report.Device, report.Machine, report.MeasuredUtc), (read.Device, read.Machine, read.MeasuredUtc));
        File.WriteAllText(folder["other.json"], "{}");
        Assert.Contains("other.json", Assert.Throws<InvalidInputException>(() => PerfReport.Load(folder["other.json"])).Message);
        Assert.Throws<InvalidInputException>(() => PerfReport.Load(folder["absent.json"]));
    }

    [Fact]
    public void The_nearer_roof_is_the_floor()
    {
        var row = new PerfRow("kernels", "a", "s", 9, 10, 11, Bytes: 4000, Flops: 1000, RoofBytesPerSecond: 1e9, RoofFlopsPerSecond: 1e9, 0);
        Assert.Equal(0.4, row.ShareOfRoof, 12);
        Assert.Equal(0.1, (row with { RoofBytesPerSecond = 0 }).ShareOfRoof, 12);
        Assert.True(double.IsNaN((row with { RoofBytesPerSecond = 0, RoofFlopsPerSecond = 0 }).ShareOfRoof));
    }

    private static PerfRow Row(string name, double p50) => new("steps", name, "512", p50 * 0.98, p50, p50 * 1.02, 0, 0, 0, 0, 0);

    private static PerfReport Report(params PerfRow[] rows) =>
        new("cpu (2 threads)", "a machine", new DateTime(2026, 1, 2, 3, 4, 5, DateTimeKind.Utc), ["oneDNN: none"], rows);
}
