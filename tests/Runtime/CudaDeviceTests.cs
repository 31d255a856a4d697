using System.Runtime.CompilerServices;
using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Tests.Kernels;

namespace Z1Coder.Tests.Runtime;

/// <summary>Devices, contexts and the lives of handles, on hostcuda.</summary>
[Collection("hostcuda")]
public sealed class CudaDeviceTests
{
    [Fact]
    public void A_device_says_what_it_is()
    {
        using var bench = new CudaBench();
        var device = bench.Device;
        Assert.Equal(("hostcuda 0", "sm_80", 80, true), (device.Name, device.Architecture, device.Capability, device.IsHostCuda));
        Assert.Equal((4, 163 << 10), (device.Multiprocessors, device.MaxSharedBytes));
        Assert.InRange(device.FreeBytes, 1, device.TotalBytes);
        var free = device.FreeBytes;
        bench.Floats(1000);
        Assert.Equal(free - 4000, device.FreeBytes);
        Assert.Equal("hostcuda 0 (sm_80)", bench.Stream.DeviceName);
    }

    [Fact]
    public void Hopper_is_sm_90a()
    {
        using var bench = new CudaBench();
        try
        {
            HostCuda.Pretend("compute_capability", 90);
            using var device = CudaDevice.Open(CudaDriver.HostCuda);
            Assert.Equal(("sm_90a", 227 << 10), (device.Architecture, device.MaxSharedBytes));
        }
        finally
        {
            HostCuda.Pretend("compute_capability", -1);
        }
    }

    [Fact]
    public void Two_devices_have_kernels_and_memory_of_their_own()
    {
        using var bench = new CudaBench();
        try
        {
            HostCuda.Pretend("devices", 2);
            using var second = CudaDevice.Open(CudaDriver.HostCuda, 1);
            Assert.Equal("hostcuda 1", second.Name);
            using var stream = new CudaStream(second);
            using var arena = new Arena("second", second);
            var (x, y) = (arena.Declare<float>(3), arena.Declare<float>(3));
            arena.Allocate();
            stream.Upload<float>([1, 2, 3], x);
            var (x0, y0) = (bench.Ramp(3), bench.Floats(3));
            for (var i = 0; i < 2; i++)                 // in turn: each launch needs the context of its device
            {
                TestKernels.Launch(stream, TestKernels.Scale, x, y);
                TestKernels.Launch(bench.Stream, TestKernels.Scale, x0, y0);
            }

            var host = new float[3];
            stream.Download(y, host);
            Assert.Equal([2f, 4, 6], host);
            Assert.Equal([0f, 2, 4], bench.Read(y0));
            Assert.Contains("is not on hostcuda 1", Assert.Throws<ArgumentException>(() => stream.Copy(x0, y)).Message, StringComparison.Ordinal);
        }
        finally
        {
            HostCuda.Pretend("devices", -1);
        }
    }

    [Fact]
    public void Any_thread_may_use_a_device()
    {
        using var bench = new CudaBench();
        var (x, y) = (bench.Ramp(5), bench.Floats(5));
        Exception? failure = null;
        var thread = new Thread(() =>
        {
            try
            {
                TestKernels.Launch(bench.Stream, TestKernels.Scale, x, y);
                using var e = new CudaEvent(bench.Device);
                bench.Stream.Record(e);
                e.Synchronize();
            }
            catch (Exception e)
            {
                failure = e;
            }
        });
        thread.Start();
        thread.Join();
        Assert.Null(failure);
        Assert.Equal([0f, 2, 4, 6, 8], bench.Read(y));
    }

    [Fact]
    public void Threads_with_streams_of_their_own_do_not_disturb_each_other()
    {
        using var bench = new CudaBench();
        var device = bench.Device;
        Parallel.For(1, 5, new ParallelOptions { MaxDegreeOfParallelism = 4 }, rank =>
        {
            using var stream = new CudaStream(device);
            for (var round = 0; round < 25; round++)
            {
                using var arena = new Arena($"rank {rank}", device);
                var (x, y) = (arena.Declare<float>(33), arena.Declare<float>(33));
                arena.Allocate();
                stream.Upload<float>([.. Enumerable.Range(0, 33).Select(i => (float)(i + rank))], x);
                TestKernels.Launch(stream, TestKernels.Scale, x, y);
                var host = new float[33];
                stream.Download(y, host);
                Assert.Equal(Enumerable.Range(0, 33).Select(i => 2f * (i + rank)), host);
            }
        });
    }

    [Fact]
    public void What_outlives_its_device_keeps_the_context_until_it_goes()
    {
        _ = KernelDevices.HostCuda;
        var before = HostCuda.LiveHandles;
        var device = CudaDevice.Open(CudaDriver.HostCuda);
        var stream = new CudaStream(device);
        var arena = new Arena("test", device);
        var x = arena.Declare<float>(4);
        arena.Allocate();
        stream.Upload<float>([1, 2, 3, 4], x);
        var e = new CudaEvent(device);
        device.Dispose();
        Assert.True(device.LiveHandles > 3);            // stream, memory, event, and the staging buffer with its event
        stream.Dispose();
        arena.Dispose();
        e.Dispose();
        e.Dispose();
        Assert.Equal(0, device.LiveHandles);
        Assert.Equal(before, HostCuda.LiveHandles);
        Assert.Throws<ObjectDisposedException>(() => e.Value);
    }

    [Fact]
    public void What_nobody_disposed_goes_with_the_garbage()
    {
        _ = KernelDevices.HostCuda;
        var before = HostCuda.LiveHandles;
        Forget();
        for (var i = 0; i < 10 && HostCuda.LiveHandles > before; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        Assert.Equal(before, HostCuda.LiveHandles);

        [MethodImpl(MethodImplOptions.NoInlining)]
        static void Forget()
        {
            var device = CudaDevice.Open(CudaDriver.HostCuda);
            var stream = new CudaStream(device);
            var arena = new Arena("forgotten", device);
            var x = arena.Declare<float>(4);
            arena.Allocate();
            stream.Upload<float>([1, 2, 3, 4], x);
            TestKernels.Launch(stream, new CudaKernel(TestKernels.Source, "test_scale"), x, x);
            _ = new CudaEvent(device);
            _ = new PinnedBuffer<int>(device, 3);
            _ = stream.Capture(() => stream.Fill(x, 0));
            Assert.True(HostCuda.LiveHandles > 7);
        }
    }

    [Fact]
    public void Without_an_NVIDIA_driver_one_sentence_says_so()
    {
        if (CudaDevice.IsAvailable(CudaDriver.Nvidia, out var reason))
        {
            Assert.Skip("there is an NVIDIA driver here");
        }

        Assert.Matches("^CUDA driver: .+; install the NVIDIA driver, or run on the CPU$", reason);
    }

    [Fact]
    public void A_kernel_is_compiled_once_and_its_module_loaded_once_per_device()
    {
        using var bench = new CudaBench();
        var before = HostCuda.Counters.Calls;
        TestKernels.Shared.Prepare(bench.Device);
        var loading = HostCuda.Counters.Calls - before;
        TestKernels.Overrun.Prepare(bench.Device);      // another entry point of the same module
        var finding = HostCuda.Counters.Calls - before - loading;
        Assert.True(finding < loading, $"{finding} calls for the second entry point, {loading} for the first");
        TestKernels.Overrun.Prepare(bench.Device);
        Assert.Equal(before + loading + finding, HostCuda.Counters.Calls);
        Assert.Equal(1, TestKernels.Shared.BlocksPerMultiprocessor(bench.Device, 32, TestKernels.SharedBytes));
    }
}
