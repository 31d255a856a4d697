using Xunit;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Tests.Trainer.Train;

public sealed class GemmPeakTests
{
    [Theory]
    [InlineData(200, 0.25)]     // measured too low at first
    [InlineData(50, 0.5)]       // too low the second time: the first holds
    public void The_peak_is_measured_once_more_when_the_compiler_has_come_to_rest(double second, double share)
    {
        var measured = 0;
        var peak = new GemmPeak(100, () =>
        {
            measured++;
            return second;
        });
        for (var step = 1; step <= GemmPeak.SettledAfter; step++)
        {
            Assert.Equal(0.5, peak.Share(flops: 150, seconds: 3));
        }

        Assert.Equal(0, measured);
        Assert.Equal(share, peak.Share(flops: 150, seconds: 3));
        Assert.Equal(share, peak.Share(flops: 150, seconds: 3));
        Assert.Equal(1, measured);
        Assert.Equal(150 / 3 / share, peak.FlopsPerSecond);
    }

    [Fact]
    public void A_device_is_measured_once()
    {
        var peak = new GemmPeak(100, null);
        for (var step = 0; step < 3 * GemmPeak.SettledAfter; step++)
        {
            Assert.Equal(0.5, peak.Share(flops: 50, seconds: 1));
        }
    }
}
