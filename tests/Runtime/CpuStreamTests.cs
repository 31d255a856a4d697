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
