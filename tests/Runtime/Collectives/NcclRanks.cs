using System.Runtime.ExceptionServices;
using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Tests.Kernels;

namespace Z1Coder.Tests.Runtime.Collectives;

/// <summary>Ranks of the NCCL path as threads: a device of hostcuda, a stream and a communicator for each. Afterwards no handle is left and
/// nothing pretended or injected.</summary>
internal static class NcclRanks
{
    public static CollectiveOptions Quiet(double seconds = 20, int queue = 256) =>
        new() { Timeout = TimeSpan.FromSeconds(seconds), JoinTimeout = TimeSpan.FromSeconds(10), QueueSize = queue, Diagnostics = new StringWriter() };

    /// <summary>Every rank ends well.</summary>
    public static void Run(int size, Action<NcclCollective, CudaStream> body, CollectiveOptions? options = null)
    {
        if (RunAll(size, body, options).FirstOrDefault(e => e is not null) is { } failure)
        {
            ExceptionDispatchInfo.Throw(failure);
        }
    }

    /// <summary>What each rank ended with; null where it ended well.</summary>
    public static Exception?[] RunAll(int size, Action<NcclCollective, CudaStream> body, CollectiveOptions? options = null)
    {
        _ = KernelDevices.HostCuda;                 // skips where hostcuda is absent; its context stays
        HostCuda.ResetFault();
        HostCuda.Pretend("devices", size);
        var before = HostCuda.LiveHandles;
        var job = new ThreadJob(size, options ?? Quiet());
        var id = NcclCollective.NewUniqueId();
        var failures = new Exception?[size];
        var threads = new Thread[size];
        for (var r = 0; r < size; r++)
        {
            var rank = r;
            threads[r] = new Thread(() => failures[rank] = Record.Exception(() =>
            {
                using var device = CudaDevice.Open(CudaDriver.HostCuda, rank);
                using var stream = new CudaStream(device);
                using var ranks = new NcclCollective(device, job.Monitors[rank], rank, size, id);
                body(ranks, stream);
            }));
            threads[r].Start();
        }

        foreach (var thread in threads)
        {
            Assert.True(thread.Join(TimeSpan.FromSeconds(60)), "a rank does not end");
        }

        foreach (var monitor in job.Monitors)
        {
            monitor.Dispose();
        }

        HostCuda.Pretend("devices", -1);
        HostCuda.Pretend("nccl_version", -1);
        HostCuda.ResetFault();
        Assert.Equal(before, HostCuda.LiveHandles);
        return failures;
    }

    /// <summary>A tensor of this rank's device, with an arena to dispose.</summary>
    public static Arena Floats(CudaStream stream, int count, float value, out Tensor<float> tensor)
    {
        var arena = stream.CreateArena("test");
        tensor = arena.Declare<float>(count);
        arena.Allocate();
        var values = new float[count];
        Array.Fill(values, value);
        stream.Upload<float>(values, tensor);
        return arena;
    }
}
