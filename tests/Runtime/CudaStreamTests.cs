using Xunit;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Runtime;

/// <summary>Launches, copies, events and graphs, on hostcuda.</summary>
[Collection("hostcuda")]
public sealed class CudaStreamTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(127)]
    [InlineData(1000)]
    public void A_kernel_runs_with_its_parameters(int count)
    {
        using var bench = new CudaBench();
        var (x, y) = (bench.Ramp(count), bench.Floats(count));
        TestKernels.Launch(bench.Stream, TestKernels.Scale, x, y);
        Assert.Equal(Enumerable.Range(0, count).Select(i => 2f * i), bench.Read(y));
        TestKernels.Launch(bench.Stream, TestKernels.Triple, x, y);
        Assert.Equal(Enumerable.Range(0, count).Select(i => 3f * i), bench.Read(y));
        Assert.Equal(2, bench.Stream.Launches);
    }

    [Fact]
    public void Shared_memory_beyond_48_KiB_is_asked_for()
    {
        using var bench = new CudaBench();
        var (x, y) = (bench.Ramp(32), bench.Floats(1));
        TestKernels.Launch(bench.Stream, TestKernels.Shared, x, y, block: 32, sharedBytes: TestKernels.SharedBytes);
        Assert.Equal([496f], bench.Read(y));
        var e = Assert.Throws<NotSupportedException>(() => TestKernels.Launch(bench.Stream, TestKernels.Shared, x, y, 32, 1 << 20));
        Assert.Contains("test_shared takes 1,048,576 bytes of shared memory per block", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Fresh_device_memory_reads_as_zero_and_scratch_as_NaN()
    {
        using var bench = new CudaBench();
        Assert.All(bench.Read(bench.Floats(1000)), v => Assert.Equal(0f, v));
        using var scratch = new Arena("scratch", bench.Device) { Zeroed = false };
        var tensor = scratch.Declare<float>(7);
        scratch.Allocate();
        Assert.All(bench.Read(tensor), v => Assert.True(float.IsNaN(v)));
    }

    [Fact]
    public void Uploads_larger_than_the_staging_memory_arrive_whole_though_the_source_is_reused()
    {
        using var bench = new CudaBench();
        const int count = (5 << 20) / 4 + 3;
        var host = new float[count];
        for (var i = 0; i < count; i++)
        {
            host[i] = i;
        }

        var x = bench.Floats(count);
        bench.Stream.Upload<float>(host, x);
        Array.Clear(host);
        bench.Stream.Download(x, host);
        for (var i = 0; i < count; i++)
        {
            if (host[i] != i)
            {
                Assert.Fail($"element {i} is {host[i]}");
            }
        }
    }

    [Fact]
    public void Copies_and_fills_stay_within_their_rows()
    {
        using var bench = new CudaBench();
        var (x, y) = (bench.Ramp(12), bench.Floats(12));
        bench.Stream.Copy(x.Rows(3, 4), y.Rows(5, 4));
        bench.Stream.Fill(y.Rows(0, 1), 0xFF);
        var read = bench.Read(y);
        Assert.True(float.IsNaN(read[0]));
        Assert.Equal([0f, 0, 0, 0, 3, 4, 5, 6, 0, 0, 0], read[1..]);
        Assert.Throws<ArgumentException>(() => bench.Stream.Copy(x, y.Rows(0, 4)));
    }

    [Fact]
    public void Tensor_copies_work_on_either_stream()
    {
        using var bench = new CudaBench();
        using var cpu = new CpuStream(1);
        foreach (var stream in (ComputeStream[])[cpu, bench.Stream])
        {
            using var arena = stream.CreateArena("either");
            var (a, b) = (arena.Declare<int>(5), arena.Declare<int>(5));
            arena.Allocate();
            TensorCopy.Upload(stream, [1, 2, 3, 4, 5], a);
            TensorCopy.Copy(stream, a, b);
            TensorCopy.Fill(stream, b.Rows(4, 1), 0);
            var result = new int[5];
            TensorCopy.Download(stream, b, result);
            Assert.Equal([1, 2, 3, 4, 0], result);
        }
    }

    [Fact]
    public void Pinned_buffers_copy_both_ways()
    {
        using var bench = new CudaBench();
        using var buffer = new PinnedBuffer<float>(bench.Device, 8);
        using var done = new CudaEvent(bench.Device);
        var x = bench.Floats(6);
        buffer.Span.Fill(4);
        bench.Stream.Upload(buffer, x);
        buffer.Span.Clear();
        bench.Stream.Download(x, buffer);
        bench.Stream.Record(done);
        done.Synchronize();
        Assert.True(done.IsDone);
        Assert.Equal([4f, 4, 4, 4, 4, 4, 0, 0], buffer.Span.ToArray());
        Assert.Throws<ArgumentException>(() => bench.Stream.Upload(buffer, bench.Floats(9)));
    }

    [Fact]
    public void A_host_arena_of_a_device_is_pinned_counted_and_read_by_the_host()
    {
        using var bench = new CudaBench();
        var before = HostCuda.LiveHandles;
        var arena = bench.Stream.CreateHostArena("host");
        var (a, b) = (arena.Declare<float>(6), arena.Declare<int>(3));
        Assert.Equal((128, false), (arena.Bytes, arena.IsAllocated));
        arena.Allocate();
        Assert.Equal(before + 1, HostCuda.LiveHandles);
        Assert.Null(arena.Device);
        Assert.Equal(new float[6], a.Span.ToArray());
        Assert.Equal(new int[3], b.Span.ToArray());
        var ramp = bench.Ramp(6);
        var withRamp = HostCuda.LiveHandles;
        bench.Stream.Download(ramp, a.Span);
        Assert.Equal([0f, 1, 2, 3, 4, 5], a.Span.ToArray());
        arena.Dispose();
        Assert.Equal(withRamp - 1, HostCuda.LiveHandles);
        Assert.Throws<ObjectDisposedException>(() => a.Span.Length);
    }

    [Fact]
    public void Events_order_streams_and_measure_time()
    {
        using var bench = new CudaBench();
        using var other = new CudaStream(bench.Device);
        using var start = new CudaEvent(bench.Device, timed: true);
        using var end = new CudaEvent(bench.Device, timed: true);
        using var untimed = new CudaEvent(bench.Device);
        bench.Stream.Record(start);
        var (x, y) = (bench.Ramp(100), bench.Floats(100));
        bench.Stream.Record(untimed);
        other.Wait(untimed);
        TestKernels.Launch(other, TestKernels.Scale, x, y);
        other.Record(end);
        end.Synchronize();
        Assert.True(end.MillisecondsSince(start) > 0);
        Assert.Throws<CudaException>(() => untimed.MillisecondsSince(start));
        Assert.Equal(198f, bench.Read(y)[99]);
    }

    [Fact]
    public void A_graph_runs_nothing_until_it_is_launched_and_then_everything_in_order()
    {
        using var bench = new CudaBench();
        using var input = new PinnedBuffer<float>(bench.Device, 4);
        var (x, y) = (bench.Floats(4), bench.Floats(4));
        TestKernels.Launch(bench.Stream, TestKernels.Scale, x, y);
        using var graph = bench.Stream.Capture(() =>
        {
            Assert.True(bench.Stream.IsCapturing);
            bench.Stream.Upload(input, x);
            TestKernels.Launch(bench.Stream, TestKernels.Scale, x, y);
            TestKernels.Launch(bench.Stream, TestKernels.Triple, y, x);       // loads its module while the stream captures
            bench.Stream.Copy(x, y);
        });
        Assert.False(bench.Stream.IsCapturing);
        Assert.Equal(4, graph.Nodes);
        Assert.Equal([0f, 0, 0, 0], bench.Read(y));
        foreach (var value in (float[])[1, 5])
        {
            input.Span.Fill(value);
            bench.Stream.Launch(graph);
            Assert.All(bench.Read(y), v => Assert.Equal(6 * value, v));
        }
    }

    [Fact]
    public void A_second_stream_joins_a_capture_and_must_come_back()
    {
        using var bench = new CudaBench();
        using var other = new CudaStream(bench.Device);
        using var forked = new CudaEvent(bench.Device);
        using var joined = new CudaEvent(bench.Device);
        var (x, y) = (bench.Ramp(4), bench.Floats(4));
        using var graph = bench.Stream.Capture(() =>
        {
            bench.Stream.Record(forked);
            other.Wait(forked);
            TestKernels.Launch(other, TestKernels.Scale, x, y);
            other.Record(joined);
            bench.Stream.Wait(joined);
        });
        Assert.Equal([0f, 0, 0, 0], bench.Read(y));
        bench.Stream.Launch(graph);
        Assert.Equal([0f, 2, 4, 6], bench.Read(y));

        var e = Assert.Throws<CudaException>(() => bench.Stream.Capture(() =>
        {
            bench.Stream.Record(forked);
            other.Wait(forked);
            TestKernels.Launch(other, TestKernels.Scale, x, y);
        }));
        Assert.Equal("CUDA_ERROR_STREAM_CAPTURE_UNJOINED", e.Name);
    }

    [Fact]
    public void What_cannot_be_captured_is_refused_and_the_stream_works_on()
    {
        using var bench = new CudaBench();
        var (x, y) = (bench.Ramp(4), bench.Floats(4));
        Assert.Throws<InvalidOperationException>(() => bench.Stream.Capture(() => bench.Stream.Upload<float>([1, 2, 3, 4], x)));
        Assert.Throws<InvalidOperationException>(() => bench.Stream.Capture(() => bench.Read(x)));
        Assert.Throws<InvalidOperationException>(() => bench.Stream.Capture(() => bench.Stream.Capture(() => { })));
        var e = Assert.Throws<CudaException>(() => bench.Stream.Capture(bench.Stream.Synchronize));
        Assert.Equal(900, e.Code);
        Assert.Throws<DivideByZeroException>(() => bench.Stream.Capture(() => throw new DivideByZeroException()));
        TestKernels.Launch(bench.Stream, TestKernels.Scale, x, y);
        Assert.Equal([0f, 2, 4, 6], bench.Read(y));
    }

    [Fact]
    public void After_warm_up_a_step_allocates_no_managed_byte()
    {
        using var bench = new CudaBench();
        using var done = new CudaEvent(bench.Device);
        var (x, y) = (bench.Floats(1000), bench.Floats(1000));
        float[] host = new float[1000], back = new float[1000];
        using var graph = bench.Stream.Capture(() => TestKernels.Launch(bench.Stream, TestKernels.Scale, x, y));
        long before = 0;
        for (var i = 0; i < 20; i++)
        {
            if (i == 10)
            {
                before = GC.GetAllocatedBytesForCurrentThread();
            }

            bench.Stream.Upload<float>(host, x);
            TestKernels.Launch(bench.Stream, TestKernels.Scale, x, y);
            bench.Stream.Launch(graph);
            bench.Stream.Copy(y, x);
            bench.Stream.Fill(y, 0);
            bench.Stream.Record(done);
            bench.Stream.Wait(done);
            bench.Stream.Download(x, back);
        }

        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    [Fact]
    public void A_trace_has_every_launch_copy_and_range_in_order()
    {
        using var bench = new CudaBench();
        var (x, y) = (bench.Ramp(100), bench.Floats(100));
        using var trace = new CudaTrace(bench.Stream);
        bench.Stream.Trace = trace;
        for (var round = 0; round < 2; round++)
        {
            using (bench.Stream.Range("forward"))
            {
                TestKernels.Launch(bench.Stream, TestKernels.Triple, x, y);
                bench.Stream.Copy(y, x);
            }

            _ = bench.Read(x);
            var spans = trace.Read();
            Assert.Equal(["forward", "test_scale (kFactor=3)", "copy on device", "copy to host"], spans.Select(s => s.Name));
            Assert.Equal([true, false, false, false], spans.Select(s => s.IsRange));
            Assert.All(spans, s => Assert.True(s is { Stream: 0, StartMicroseconds: > 0, Microseconds: >= 0 }, s.ToString()));
            Assert.True(spans[1].StartMicroseconds >= spans[0].StartMicroseconds);
            Assert.True(spans[0].Microseconds >= spans[1].Microseconds + spans[2].Microseconds - 0.01);
        }

        bench.Stream.Trace = null;
        TestKernels.Launch(bench.Stream, TestKernels.Triple, x, y);
        Assert.Empty(trace.Read());
    }

    [Fact]
    public void The_counters_of_hostcuda_count_bytes_and_launches()
    {
        using var bench = new CudaBench();
        var (x, y) = (bench.Floats(100), bench.Floats(100));
        bench.Stream.Synchronize();
        var before = HostCuda.Counters;
        bench.Stream.Upload<float>(new float[100], x);
        TestKernels.Launch(bench.Stream, TestKernels.Scale, x, y);
        bench.Stream.Copy(y, x);
        _ = bench.Read(x.Rows(0, 50));
        var after = HostCuda.Counters;
        Assert.Equal(
            (1L, 400L, 200L, 400L, 0L),
            (after.Launches - before.Launches, after.HostToDevice - before.HostToDevice, after.DeviceToHost - before.DeviceToHost,
                after.DeviceToDevice - before.DeviceToDevice, after.Allocated - before.Allocated));
    }
}
