using System.Text.Json;
using System.Text.RegularExpressions;
using Xunit;
using Z1Coder.Trainer.Optimize;

namespace Z1Coder.Tests.Trainer.Optimize;

public sealed class LearningRateScheduleTests
{
    [Fact]
    public void Cosine_is_that_of_transformers()
    {
        using var json = JsonDocument.Parse(File.ReadAllBytes(Goldens.Require("ops", "cosine_schedule.json")));
        var peak = json.RootElement.GetProperty("base_lr").GetDouble();
        var runs = json.RootElement.GetProperty("lr_of_each_step").EnumerateObject().ToList();
        Assert.NotEmpty(runs);
        foreach (var run in runs)
        {
            var numbers = Regex.Match(run.Name, @"^warmup=(\d+),total=(\d+)$");
            var (warmup, total) = (long.Parse(numbers.Groups[1].Value), long.Parse(numbers.Groups[2].Value));
            var schedule = new LearningRateSchedule(ScheduleKind.Cosine, peak, 0, warmup, total);
            Assert.All(run.Value.EnumerateArray().Index(), s => Near(s.Item.GetDouble(), schedule.At(s.Index), peak));
        }
    }

    [Theory]
    [InlineData(0, 0)]
    [InlineData(1, 0.25)]
    [InlineData(3, 0.75)]
    [InlineData(4, 1)]
    [InlineData(8, 0.625)]          // 0.25 + 0.75 · (1 − 4/8)
    [InlineData(11, 0.34375)]
    [InlineData(12, 0.25)]
    [InlineData(100, 0.25)]         // beyond the end
    public void Linear_goes_straight_to_the_minimum(long step, double share) =>
        Near(2e-4 * share, new LearningRateSchedule(ScheduleKind.Linear, 2e-4, 0.5e-4, 4, 12).At(step), 2e-4);

    [Theory]
    [InlineData(0, 0)]
    [InlineData(2, 0.5)]
    [InlineData(4, 1)]
    [InlineData(11, 1)]
    [InlineData(100, 1)]
    public void Constant_stays(long step, double share) =>
        Near(2e-4 * share, new LearningRateSchedule(ScheduleKind.Constant, 2e-4, 0.5e-4, 4, 12).At(step), 2e-4);

    [Theory]
    [InlineData(4, 1)]
    [InlineData(8, 0.625)]
    [InlineData(12, 0.25)]
    [InlineData(50, 0.25)]
    public void Cosine_goes_to_the_minimum_and_stays(long step, double share) =>
        Near(2e-4 * share, new LearningRateSchedule(ScheduleKind.Cosine, 2e-4, 0.5e-4, 4, 12).At(step), 2e-4);

    [Theory]
    [InlineData(ScheduleKind.Cosine)]
    [InlineData(ScheduleKind.Linear)]
    [InlineData(ScheduleKind.Constant)]
    public void A_warm_up_longer_than_the_run_is_not_shortened(ScheduleKind kind)
    {
        var schedule = new LearningRateSchedule(kind, 1e-3, 1e-4, 100, 20);
        for (var step = 0; step < 20; step++)
        {
            Near(1e-5 * step, schedule.At(step), 1e-3);
        }

        Assert.True(double.IsFinite(schedule.At(100)) && double.IsFinite(schedule.At(101)));
    }

    [Fact]
    public void No_warm_up_begins_at_the_peak() => Assert.Equal(1e-3, new LearningRateSchedule(ScheduleKind.Cosine, 1e-3, 0, 0, 10).At(0));

    /// <summary>Both in double: a few last bits of the peak.</summary>
    private static void Near(double expected, double actual, double peak) =>
        Assert.True(Math.Abs(expected - actual) <= Math.ScaleB(peak, -50), $"{actual:R}, expected {expected:R}");
}
