using Xunit;
using Z1Coder.Trainer.Batches;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Tests.Trainer.Batches;

public sealed class EpochOrderTests
{
    [Fact]
    public void An_order_is_a_permutation_and_differs_by_epoch_and_seed()
    {
        foreach (var count in (int[])[1, 2, 3, 64, 1023, 110_000])
        {
            var order = Order(42, 0, count);
            Assert.Equal(Enumerable.Range(0, count), order.Order());
            Assert.Equal(order, Order(42, 0, count));
            if (count > 60)
            {
                Assert.NotEqual(Enumerable.Range(0, count), order);
                Assert.NotEqual(order, Order(42, 1, count));
                Assert.NotEqual(order, Order(43, 0, count));
                Assert.NotEqual(Order(43, 0, count), Order(42, 1, count));      // seed and epoch are not just added
            }
        }
    }

    /// <summary>Computed by another program from the formula. A changed order would silently break the resume of older runs.</summary>
    [Fact]
    public void The_order_stays_what_it_is() => Assert.Equal([1, 7, 6, 5, 11, 10, 4, 9, 8, 0, 2, 3], Order(42, 3, 12));

    [Fact]
    public void All_orders_are_about_equally_frequent()
    {
        // 24 orders of 4 samples, 24,000 epochs: 23 degrees of freedom, P(chi² > 60) < 5e-5, and the draw is fixed
        var counts = new Dictionary<string, int>();
        for (var epoch = 0; epoch < 24_000; epoch++)
        {
            var key = string.Concat(Order(7, epoch, 4));
            counts[key] = counts.GetValueOrDefault(key) + 1;
        }

        Assert.Equal(24, counts.Count);
        Assert.InRange(counts.Values.Sum(n => (n - 1000.0) * (n - 1000.0) / 1000.0), 3, 60);
    }

    [Theory]
    [InlineData(10, 4, LastStep.Keep, 3)]
    [InlineData(10, 4, LastStep.Drop, 2)]
    [InlineData(8, 4, LastStep.Keep, 2)]
    [InlineData(8, 4, LastStep.Drop, 2)]
    [InlineData(3, 4, LastStep.Keep, 1)]
    [InlineData(2500, 1024, LastStep.Keep, 3)]
    public void A_step_is_the_same_reached_by_walking_or_at_once(int samples, int perStep, LastStep lastStep, int stepsPerEpoch)
    {
        var walking = new StepPlan(samples, perStep, 5, lastStep);
        Assert.Equal(stepsPerEpoch, walking.StepsPerEpoch);
        Assert.Equal(3L * stepsPerEpoch, walking.Steps(3));
        for (var epoch = 0; epoch < 3; epoch++)
        {
            var seen = new List<int>();
            for (var i = 0; i < stepsPerEpoch; i++)
            {
                var step = ((long)epoch * stepsPerEpoch) + i;
                var walked = walking.SamplesOf(step).ToArray();
                Assert.Equal(epoch, walking.EpochOf(step));
                Assert.Equal(walked, new StepPlan(samples, perStep, 5, lastStep).SamplesOf(step).ToArray());
                Assert.Equal(i < samples / perStep ? perStep : samples % perStep, walked.Length);
                seen.AddRange(walked);
            }

            Assert.Equal(seen.Count, seen.Distinct().Count());
            Assert.Equal(lastStep == LastStep.Keep ? samples : samples / perStep * perStep, seen.Count);
            Assert.Equal(Order(5, epoch, samples).Take(seen.Count), seen);
        }

        Assert.Equal(walking.SamplesOf(0).ToArray(), new StepPlan(samples, perStep, 5, lastStep).SamplesOf(0).ToArray());     // and back again
    }

    /// <summary>max_steps of transformers 4.37: ⌈epochs · (samples of an epoch // samples of a step)⌉.</summary>
    [Theory]
    [InlineData(110_000, 1024, 3, 321)]          // the samples would do for 322
    [InlineData(20_000, 1024, 3, 57)]            // and for 58
    [InlineData(10, 4, 3, 6)]
    [InlineData(10, 4, 0.6, 2)]
    [InlineData(8, 4, 3, 6)]
    [InlineData(3, 4, 3, 2)]                     // no epoch holds a step
    [InlineData(3, 4, 1, 1)]
    public void Steps_that_carry_over_are_counted_by_whole_steps_of_an_epoch(int samples, int perStep, double epochs, long steps) =>
        Assert.Equal(steps, new StepPlan(samples, perStep, 5, LastStep.Carry).Steps(epochs));

    [Theory]
    [InlineData(10, 4)]
    [InlineData(7, 3)]
    [InlineData(3, 4)]                           // a step of more than one epoch
    [InlineData(2500, 1024)]
    public void Steps_that_carry_over_take_every_epoch_whole_and_are_the_same_reached_at_once(int samples, int perStep)
    {
        var walking = new StepPlan(samples, perStep, 5, LastStep.Carry);
        Assert.Equal(samples / (double)perStep, walking.StepsPerEpoch);
        var seen = new List<int>();
        for (var step = 0; seen.Count < 3 * samples; step++)
        {
            Assert.Equal(seen.Count / samples, walking.EpochOf(step));
            var walked = walking.SamplesOf(step).ToArray();
            Assert.Equal(perStep, walked.Length);
            Assert.Equal(walked, new StepPlan(samples, perStep, 5, LastStep.Carry).SamplesOf(step).ToArray());       // a resume, at a crossing step too
            seen.AddRange(walked);
        }

        for (var epoch = 0; epoch < 3; epoch++)
        {
            Assert.Equal(Order(5, epoch, samples), seen.Skip(epoch * samples).Take(samples));
        }
    }

    [Fact]
    public void Too_few_samples_for_one_step_are_an_error_where_incomplete_steps_are_dropped() =>
        Assert.Contains("3 samples do not fill one step of 4",
            Assert.Throws<InvalidInputException>(() => new StepPlan(3, 4, 1, LastStep.Drop)).Message, StringComparison.Ordinal);

    private static int[] Order(ulong seed, int epoch, int count)
    {
        var order = new int[count];
        EpochOrder.Fill(seed, epoch, order);
        return order;
    }
}
