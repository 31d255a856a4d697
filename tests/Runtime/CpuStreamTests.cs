using Xunit;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Runtime;

public sealed class CpuStreamTests
{
    [Theory]
    [InlineData(1, 1)]
    [InlineData(2, 7)]
    [InlineData(3, 1000)]
    [InlineData(5, 4096)]
    public void Every_item_runs_exactly_once(int workers, int count)
    {
        using var stream = new CpuStream(workers);
        var hits = new int[count];
        for (var repeat = 1; repeat <= 200; repeat++)
        {
            stream.For(count, 3, new Count(hits));
            Assert.All(hits, h => Assert.Equal(repeat, h));
        }
    }

    [Fact]
    public void Sleeping_workers_wake_up()
    {
        using var stream = new CpuStream(3);
        var hits = new int[64];
        for (var repeat = 1; repeat <= 20; repeat++)
        {
            Thread.Sleep(5);
            stream.For(hits.Length, 1, new Count(hits));
        }

        Assert.All(hits, h => Assert.Equal(20, h));
    }

    [Fact]
    public void A_failing_job_reports_its_exception_and_the_stream_lives_on()
    {
        using var stream = new CpuStream(2);
        for (var repeat = 0; repeat < 10; repeat++)
        {
            var e = Assert.Throws<InvalidOperationException>(() => stream.For(100, 1, new Fail()));
            Assert.Equal("planted", e.Message);
        }

        var hits = new int[10];
        stream.For(10, 1, new Count(hits));
        Assert.All(hits, h => Assert.Equal(1, h));
    }

    [Fact]
    public void Starting_a_job_allocates_nothing()
    {
        using var stream = new CpuStream(2);
        var hits = new int[10];
        stream.For(10, 1, new Count(hits));
        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var i = 0; i < 100; i++)
        {
            stream.For(10, 1, new Count(hits));
        }

        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    [Fact]
    public void Other_threads_take_part()
    {
        using var stream = new CpuStream(2);
        using var both = new Barrier(2);
        for (var repeat = 0; repeat < 20; repeat++)
        {
            Thread.Sleep(repeat % 4);                   // asleep, or looking still
            stream.For(2, 1, new Meet(both));
        }
    }

    [Fact]
    public void A_job_that_has_ended_cannot_be_joined()
    {
        using var stream = new CpuStream(3);
        var hits = new int[64];
        Assert.True(stream.IsIdle);
        for (var repeat = 0; repeat < 200; repeat++)
        {
            stream.For(hits.Length, 1, new Count(hits));
            Assert.True(stream.IsIdle);
            Assert.Throws<InvalidOperationException>(() => stream.For(100, 1, new Fail()));
            Assert.True(stream.IsIdle);
        }
    }

    /// <summary>Jobs that end while other workers are on their way into them, of two kinds, the next right behind the last: a worker that joins a job
    /// that has ended is still in it when the next begins.</summary>
    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    [InlineData(8)]                                     // more than there are cores to run them, mostly
    public void A_worker_that_comes_late_takes_no_part_in_the_wrong_job(int workers)
    {
        using var stream = new CpuStream(workers);
        var (few, many) = (new int[2], new long[9]);
        for (var repeat = 1; repeat <= 30_000; repeat++)
        {
            stream.For(2, 1, new Count(few));
            stream.For(many.Length, 2, new Add(many, repeat));
            if (few[0] != repeat || few[1] != repeat || many[^1] != repeat * (repeat + 1L) / 2)
            {
                Assert.Fail($"job {repeat}");           // the text is made only here: it would hold up the next job
            }
        }

        Assert.All(many, sum => Assert.Equal(many[0], sum));
    }

    private readonly struct Meet(Barrier both) : ICpuJob
    {
        public void Run(int begin, int end, int worker) => Assert.True(both.SignalAndWait(TimeSpan.FromSeconds(60)));
    }

    private readonly struct Add(long[] sums, int value) : ICpuJob
    {
        public void Run(int begin, int end, int worker)
        {
            for (var i = begin; i < end; i++)
            {
                sums[i] += value;                       // not atomic: each item belongs to one thread, and is seen by the next job
            }
        }
    }

    private readonly struct Count(int[] hits) : ICpuJob
    {
        public void Run(int begin, int end, int worker)
        {
            for (var i = begin; i < end; i++)
            {
                Interlocked.Increment(ref hits[i]);
            }
        }
    }

    private readonly struct Fail : ICpuJob
    {
        public void Run(int begin, int end, int worker) => throw new InvalidOperationException("planted");
    }
}
