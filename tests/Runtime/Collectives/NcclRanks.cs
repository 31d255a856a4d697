using System.Runtime.ExceptionServices;
using Xunit;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Runtime.Collectives;

/// <summary>Ranks of the NCCL path as threads: a device of hostcuda, a stream and a communicator for each, and no handle left behind.</summary>
internal static class NcclRanks
{
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
        var before = HostCuda.IsOpen ? HostCuda.LiveHandles : 0;
        using (CudaDevice.Open(CudaDriver.HostCuda))
        {
            HostCuda.Pretend("devices", size);
        }

        var job = new ThreadJob(size, options ?? new() { Timeout = TimeSpan.FromSeconds(20) });
        var id = NcclCollective.NewUniqueId();
        var failures = new Exception?[size];
        var threads = new Thread[size];
        for (var r = 0; r < size; r++)
        {
            var rank = r;
            threads[r] = new Thread(() =>
            {
                try
                {
                    using var device = CudaDevice.Open(CudaDriver.HostCuda, rank);
                    using var stream = new CudaStream(device);
                    using (var ranks = new NcclCollective(device, job.Monitors[rank], rank, size, id))
                    {
                        body(ranks, stream);
                    }
                }
                catch (Exception e)
                {
                    failures[rank] = e;
                }
            });
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
        Assert.Equal(before, HostCuda.LiveHandles);
        return failures;
    }
}
