using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Tests.Kernels;

namespace Z1Coder.Tests.Runtime;

/// <summary>Every way the driver can refuse, provoked on hostcuda: the message says what was tried, and no handle is left behind.</summary>
[Collection("hostcuda")]
public sealed class CudaErrorTests
{
    private const int IllegalAddress = 700;

    [Fact]
    public void A_failed_kernel_is_reported_by_a_later_call_that_lists_the_suspects()
    {
        using var bench = new CudaBench();
        var (x, y) = (bench.Ramp(10), bench.Floats(10));
        TestKernels.Launch(bench.Stream, TestKernels.Scale, x, y);
        TestKernels.Launch(bench.Stream, TestKernels.Overrun, x, y);
        var e = Assert.Throws<CudaException>(bench.Stream.Synchronize);
        Assert.Equal((IllegalAddress, true), (e.Code, e.IsSticky));
        Assert.StartsWith(
            "cuStreamSynchronize(stream) (launched last: test_overrun, test_scale; Z1_SYNC=1 names the guilty kernel) failed with CUDA_ERROR_ILLEGAL_ADDRESS (700): ",
            e.Message, StringComparison.Ordinal);
        Assert.Contains("test_overrun: block (0,0,0) thread 10 writes 4 bytes", e.Message, StringComparison.Ordinal);

        // Sticky: nothing works any more, a launch does not take the blame.
        e = Assert.Throws<CudaException>(() => TestKernels.Launch(bench.Stream, TestKernels.Scale, x, y));
        Assert.Equal(IllegalAddress, e.Code);
        Assert.StartsWith("work before the launch of test_scale", e.Expression, StringComparison.Ordinal);
        Assert.Equal(IllegalAddress, Assert.Throws<CudaException>(() => bench.Floats(1)).Code);
    }

    [Fact]
    public void Synchronous_launches_name_the_guilty_kernel()
    {
        using var bench = new CudaBench();
        var (x, y) = (bench.Ramp(10), bench.Floats(10));
        bench.Stream.Synchronous = true;
        TestKernels.Launch(bench.Stream, TestKernels.Scale, x, y);
        var e = Assert.Throws<CudaException>(() => TestKernels.Launch(bench.Stream, TestKernels.Overrun, x, y));
        Assert.Equal("kernel test_overrun (grid 1, 1, 1; block 128; 0 bytes shared)", e.Expression);
        Assert.True(e.IsSticky);
    }

    [Fact]
    public void A_graph_that_fails_is_reported()
    {
        using var bench = new CudaBench();
        var (x, y) = (bench.Ramp(10), bench.Floats(10));
        using var graph = bench.Stream.Capture(() => TestKernels.Launch(bench.Stream, TestKernels.Overrun, x, y));
        bench.Stream.Launch(graph);
        Assert.Contains("test_overrun", Assert.Throws<CudaException>(bench.Stream.Synchronize).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_launch_that_the_device_cannot_hold_is_refused_with_its_numbers()
    {
        using var bench = new CudaBench();
        var (x, y) = (bench.Ramp(10), bench.Floats(10));
        var e = Assert.Throws<CudaException>(() => TestKernels.Launch(bench.Stream, TestKernels.Scale, x, y, block: 256));
        Assert.Equal("launch of test_scale (grid 1, 1, 1; block 256; 0 bytes shared)", e.Expression);
        Assert.Equal((701, false), (e.Code, e.IsSticky));
        e = Assert.Throws<CudaException>(() => bench.Stream.Launch(TestKernels.Scale, new(0), 128, default(TestKernels.Params)));
        Assert.Equal("CUDA_ERROR_INVALID_VALUE", e.Name);
        bench.Stream.Synchronize();
    }

    [Fact]
    public void Parameters_of_another_size_are_refused_before_the_launch()
    {
        using var bench = new CudaBench();
        var e = Assert.Throws<InvalidOperationException>(() => bench.Stream.Launch(TestKernels.Scale, new(1), 128, 1L));
        Assert.Equal("test_scale takes 24 bytes of parameters, Int64 has 8: the struct in TestKernels.Cuda.cs does not mirror TestKernels.cu", e.Message);
    }

    [Fact]
    public void An_entry_point_that_is_not_there_is_named()
    {
        using var bench = new CudaBench();
        var e = Assert.Throws<CudaException>(() => new CudaKernel(TestKernels.Source, "test_absent").Prepare(bench.Device));
        Assert.Equal(("looking for test_absent in TestKernels.cu", "CUDA_ERROR_NOT_FOUND"), (e.Expression, e.Name));
    }

    [Fact]
    public void Out_of_memory_says_what_was_asked_for_and_what_is_free()
    {
        using var bench = new CudaBench();
        try
        {
            HostCuda.Pretend("total_bytes", HostCuda.Counters.Allocated + (1 << 20));
            using var device = CudaDevice.Open(CudaDriver.HostCuda);
            var arena = new Arena("optimizer shard", device);
            arena.Declare<float>(1 << 20);
            var e = Assert.Throws<InsufficientMemoryException>(arena.Allocate);
            Assert.Equal(
                $"cannot allocate 4,194,304 bytes of device memory for optimizer shard: 1,048,576 of {device.TotalBytes:N0} are free on hostcuda 0 (sm_80)", e.Message);
            Assert.False(arena.IsAllocated);
        }
        finally
        {
            HostCuda.Pretend("total_bytes", -1);
        }
    }

    [Fact]
    public void Device_memory_is_not_read_by_the_host()
    {
        using var bench = new CudaBench();
        var x = bench.Floats(3, "activations");
        Assert.Same(bench.Device, x.Device);
        var e = Assert.Throws<InvalidOperationException>(() => x.Span.Length);
        Assert.Equal("arena 'activations' is in the memory of hostcuda 0 (sm_80), which the host cannot read; use TensorCopy", e.Message);
        Assert.Throws<InvalidOperationException>(() => x.Row(0).Length);
        Assert.Throws<InvalidOperationException>(() => x.Origin);
        using var host = new Arena("host");
        var y = host.Declare<float>(3);
        host.Allocate();
        Assert.Contains("'host' is not on", Assert.Throws<ArgumentException>(() => bench.Stream.Copy(x, y)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("devices", 0, "the CUDA driver shows no device")]
    [InlineData("driver_version", 11080, "the NVIDIA driver supports CUDA 11.8, and 12.0 or later is needed")]
    [InlineData("compute_capability", 75, "hostcuda 0 has compute capability 7.5, and 8.0 or later (bf16 arithmetic) is needed")]
    public void A_machine_that_cannot_serve_says_why_in_one_sentence(string what, int value, string sentence)
    {
        using var bench = new CudaBench();
        try
        {
            HostCuda.Pretend(what, value);
            var e = Assert.Throws<NotSupportedException>(() => CudaDevice.Open(CudaDriver.HostCuda));
            Assert.StartsWith(sentence, e.Message, StringComparison.Ordinal);
            Assert.DoesNotContain('\n', e.Message);
        }
        finally
        {
            HostCuda.Pretend(what, -1);
        }
    }

    [Fact]
    public void A_device_number_out_of_range_is_named()
    {
        using var bench = new CudaBench();
        Assert.Equal(
            "there is no CUDA device 3: the driver shows 1, counted from 0",
            Assert.Throws<NotSupportedException>(() => CudaDevice.Open(CudaDriver.HostCuda, 3)).Message);
    }

    [Fact]
    public void A_second_kind_of_driver_is_refused()
    {
        using var bench = new CudaBench();
        Assert.Equal(
            "this process already uses HostCuda as its CUDA driver; Nvidia needs a process of its own",
            Assert.Throws<NotSupportedException>(() => CudaDevice.Open()).Message);
    }

    [Theory]
    [InlineData(80, "sm_80")]
    [InlineData(86, "sm_86")]
    [InlineData(90, "sm_90a")]
    [InlineData(100, "sm_100")]
    [InlineData(120, "sm_120")]
    public void Each_capability_has_its_target(int capability, string architecture) =>
        Assert.Equal(architecture, CudaDevice.ArchitectureOf(capability, "x"));

    [Theory]
    [InlineData("cuDeviceGetName")]
    [InlineData("cuDevicePrimaryCtxRetain")]
    [InlineData("cuDeviceGetAttribute")]
    [InlineData("cuInit")]
    [InlineData("cuMemAlloc_v2")]
    [InlineData("cuMemsetD8Async")]
    [InlineData("cuStreamCreate")]
    [InlineData("cuEventCreate")]
    [InlineData("cuEventRecord")]
    [InlineData("cuMemHostAlloc")]
    [InlineData("cuMemcpyHtoDAsync_v2")]
    [InlineData("cuMemcpyDtoHAsync_v2")]
    [InlineData("cuMemcpyDtoDAsync_v2")]
    [InlineData("cuModuleLoadData")]
    [InlineData("cuModuleGetFunction")]
    [InlineData("cuFuncGetAttribute")]
    [InlineData("cuLaunchKernel")]
    [InlineData("cuStreamBeginCapture_v2")]
    [InlineData("cuStreamEndCapture")]
    [InlineData("cuGraphInstantiateWithFlags")]
    [InlineData("cuGraphLaunch")]
    [InlineData("cuStreamWaitEvent")]
    [InlineData("cuEventSynchronize")]
    [InlineData("cuStreamSynchronize")]
    public void An_error_of_any_call_becomes_an_exception_and_leaks_nothing(string function)
    {
        using var warm = new CudaBench();
        EveryCall();                                // compiles, so that what follows meets no other error
        HostCuda.Inject(function, 0, 999);
        try
        {
            var e = Assert.Throws<CudaException>(EveryCall);
            Assert.Equal(999, e.Code);
            Assert.NotEmpty(e.Expression);
            Assert.Contains("(999)", e.Message, StringComparison.Ordinal);
        }
        finally
        {
            HostCuda.Inject(function, 0, 0);
        }

        EveryCall();                                // not sticky: the next try works
    }

    private static void EveryCall()
    {
        using var device = CudaDevice.Open(CudaDriver.HostCuda);
        using var stream = new CudaStream(device);
        using var arena = new Arena("test", device);
        var (x, y) = (arena.Declare<float>(4), arena.Declare<float>(4));
        arena.Allocate();
        using var e = new CudaEvent(device);
        using var pinned = new PinnedBuffer<float>(device, 4);
        stream.Upload<float>([1, 2, 3, 4], x);
        TestKernels.Launch(stream, TestKernels.Scale, x, y);
        using var graph = stream.Capture(() => TestKernels.Launch(stream, TestKernels.Scale, y, x));
        stream.Launch(graph);
        stream.Copy(x, y);
        stream.Record(e);
        stream.Wait(e);
        e.Synchronize();
        var back = new float[4];
        stream.Download(y, back);
        Assert.Equal([4f, 8, 12, 16], back);
        stream.Dispose();
        e.Dispose();
        pinned.Dispose();
        graph.Dispose();
        arena.Dispose();
        Assert.Equal(0, device.LiveHandles);
    }
}
