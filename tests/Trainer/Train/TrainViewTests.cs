using Xunit;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Tests.Trainer.Train;

public sealed class TrainViewTests
{
    [Theory]
    [InlineData(0, "00:00:00")]
    [InlineData(3_725, "01:02:05")]
    [InlineData(86_400, "24:00:00")]
    [InlineData(1_000_000, "277:46:40")]
    public void The_time_left_has_as_many_hours_as_it_takes(double seconds, string clock) =>
        Assert.Equal(clock, TrainView.Clock(TimeSpan.FromSeconds(seconds)));
}
