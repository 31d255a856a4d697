using Xunit;
using Z1Coder.Trainer.Curation.Teacher;

namespace Z1Coder.Tests.Trainer.Curation;

/// <summary>The limits, on a clock that the test turns.</summary>
public sealed class TokenBucketTests
{
    [Fact]
    public void Units_flow_evenly_and_one_second_is_saved_up()
    {
        var clock = new Clock();
        var bucket = new TokenBucket(600, clock);           // ten a second
        for (var i = 0; i < 10; i++)
        {
            Assert.Equal(TimeSpan.Zero, bucket.Take(1));
        }

        for (var i = 1; i <= 30; i++)
        {
            Assert.Equal(0.1 * i, bucket.Take(1).TotalSeconds, 6);
        }

        clock.Seconds += 3;                                 // the debt is paid, nothing is saved
        Assert.Equal(0.1, bucket.Take(1).TotalSeconds, 6);
        clock.Seconds += 1000;                              // and no more than one second's worth is ever saved
        Assert.Equal(TimeSpan.Zero, bucket.Take(10));
        Assert.Equal(0.5, bucket.Take(5).TotalSeconds, 6);
    }

    [Fact]
    public void A_large_request_waits_for_its_own_size_and_an_estimate_is_corrected()
    {
        var clock = new Clock();
        var bucket = new TokenBucket(60, clock);            // one a second
        Assert.Equal(99, bucket.Take(100).TotalSeconds, 6);
        bucket.Return(90);
        Assert.Equal(10, bucket.Take(1).TotalSeconds, 6);
        bucket.Return(-5);
        Assert.Equal(16, bucket.Take(1).TotalSeconds, 6);
    }

    [Fact]
    public void A_pause_holds_with_and_without_a_limit()
    {
        var clock = new Clock();
        foreach (var bucket in new[] { new TokenBucket(0, clock), new TokenBucket(1e9, clock) })
        {
            Assert.Equal(TimeSpan.Zero, bucket.Take(1));
            bucket.Pause(TimeSpan.FromSeconds(5));
            bucket.Pause(TimeSpan.FromSeconds(2));
            Assert.Equal(5, bucket.Take(1).TotalSeconds, 6);
            clock.Seconds += 4;
            Assert.Equal(1, bucket.Take(1).TotalSeconds, 6);
            clock.Seconds += 1;
            Assert.Equal(TimeSpan.Zero, bucket.Take(1));
        }
    }

    private sealed class Clock : TimeProvider
    {
        public double Seconds { get; set; } = 1000;

        public override long TimestampFrequency => 1_000_000_000;

        public override long GetTimestamp() => (long)(Seconds * 1e9);
    }
}
