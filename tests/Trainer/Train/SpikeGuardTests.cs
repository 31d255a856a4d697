using Xunit;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Tests.Trainer.Train;

public sealed class SpikeGuardTests
{
    [Theory]
    [InlineData(double.NaN, 1)]
    [InlineData(1, double.NaN)]
    [InlineData(double.PositiveInfinity, 1)]
    [InlineData(1, double.PositiveInfinity)]
    [InlineData(double.NegativeInfinity, 1)]
    public void Not_finite_is_bad_from_the_first_step_and_with_spikes_off(double loss, double norm)
    {
        foreach (var z in (double[])[0, 4])
        {
            var guard = new SpikeGuard(z, 8);
            Assert.Contains("is not finite", guard.Judge(loss, norm));
            Assert.Empty(guard.Save().Losses);
        }
    }

    /// <summary>The window 1, 2, …, 8 has mean 4.5 and deviation √5.25: five deviations above it lie at 15.956.</summary>
    [Theory]
    [InlineData(15.9, false)]
    [InlineData(16.0, true)]
    [InlineData(-1000, false)]                  // falling is no spike
    public void A_spike_is_so_many_deviations_above_the_window(double value, bool spike)
    {
        Assert.Equal(spike, Full().Judge(value, 4.5) is not null);
        Assert.Equal(spike, Full().Judge(4.5, value) is not null);
        Assert.StartsWith(spike ? "gradient norm" : "none", Full().Judge(4.5, value) ?? "none");

        static SpikeGuard Full()
        {
            var guard = new SpikeGuard(5, 8);
            for (var i = 1; i <= 8; i++)
            {
                Assert.Null(guard.Judge(i, i));
            }

            return guard;
        }
    }

    [Fact]
    public void Nothing_is_a_spike_until_the_window_is_full_or_with_z_zero()
    {
        var (guard, off) = (new SpikeGuard(3, 8), new SpikeGuard(0, 2));
        for (var i = 0; i < 8; i++)
        {
            Assert.Null(guard.Judge(1, 1));
            Assert.Null(off.Judge(i % 3 == 2 ? 1e9 : 1, 1));
        }

        Assert.NotNull(guard.Judge(1.1, 1));            // a window without spread: any rise is one
        Assert.Null(guard.Judge(1, 1));
    }

    [Fact]
    public void A_spike_does_not_enter_the_window_and_the_window_moves_on()
    {
        var guard = new SpikeGuard(3, 4);
        foreach (var loss in (double[])[1, 2, 1, 2])
        {
            Assert.Null(guard.Judge(loss, 1));
        }

        Assert.NotNull(guard.Judge(50, 1));
        Assert.NotNull(guard.Judge(50, 1));
        Assert.Equal([1, 2, 1, 2], guard.Save().Losses);
        Assert.Null(guard.Judge(1.5, 1));
        Assert.Equal([2, 1, 2, 1.5], guard.Save().Losses);
        Assert.Equal([1, 1, 1, 1], guard.Save().Norms);
    }

    [Fact]
    public void A_restored_guard_judges_as_the_one_that_was_saved()
    {
        var guard = new SpikeGuard(2, 5);
        var random = new Random(5);
        for (var i = 0; i < 200; i++)
        {
            var restored = new SpikeGuard(2, 5);
            var (losses, norms) = guard.Save();
            restored.Restore(losses, norms);
            var (loss, norm) = (random.NextDouble() * (i % 17 == 0 ? 9 : 1), random.NextDouble());
            Assert.Equal(guard.Judge(loss, norm), restored.Judge(loss, norm));
            Assert.Equal(guard.Save().Losses, restored.Save().Losses);
        }
    }

    [Fact]
    public void A_shorter_window_takes_the_end_of_a_saved_one()
    {
        var guard = new SpikeGuard(3, 2);
        guard.Restore([1, 2, 3, 4], [5, 6, 7]);
        Assert.Equal([3, 4], guard.Save().Losses);
        Assert.Equal([6, 7], guard.Save().Norms);
    }
}
