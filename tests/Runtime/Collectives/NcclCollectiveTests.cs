using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using Xunit;
using Z1Coder.Perf;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Runtime.Collectives;

/// <summary>The NCCL path on hostcuda, with ranks that are threads of this process; NcclProcessTests has processes.</summary>
[Collection("hostcuda")]
public sealed class NcclCollectiveTests
{
    private const int InternalError = 3;

    public static TheoryData<string> Injected => new(
        "ncclGetUniqueId", "ncclCommInitRankConfig", "ncclCommGetAsyncError", "ncclCommFinalize", "ncclCommDestroy", "ncclCommSplit", "ncclAllReduce",
        "ncclReduceScatter", "ncclAllGather", "ncclBroadcast", "ncclSend", "ncclRecv", "ncclGroupStart", "ncclGroupEnd", "ncclGetVersion");

    [Theory]
    [InlineData(1, 21805)]
    [InlineData(2, 21805)]
    [InlineData(3, 21805)]
    [InlineData(4, 21805)]
    [InlineData(4, 21700)]                                      // without ncclCommSplit
    [InlineData(2, 20900)]                                      // without ncclCommInitRankConfig: communicators block
    public void Every_operation_is_its_definition(int size, int version)
    {
        var checks = 0;
        NcclRanks.Run(size, (ranks, stream) =>
        {
            HostCuda.Pretend("nccl_version", version);
            foreach (var result in CollectiveSelfTest.Run(ranks, stream))
            {
                Assert.True(result.Passed, $"rank {ranks.Rank}: {result.Name}: {result.Detail}");
                Interlocked.Increment(ref checks);
            }
        });
        Assert.True(checks >= 40 * size, $"{checks} checks");
    }

    [Fact]
    public void An_old_library_is_joined_with_the_blocking_call()
    {
        _ = Kernels.KernelDevices.HostCuda;
        HostCuda.Pretend("nccl_version", 20900);
        HostCuda.Inject("ncclCommInitRank", 0, InternalError);
        var failure = NcclRanks.RunAll(1, (_, _) => Assert.Fail("joined"))[0];
        Assert.StartsWith("rank 0 of 1 cannot join over NCCL: ncclCommInitRank(", Assert.IsType<CollectiveException>(failure).Message, StringComparison.Ordinal);
    }

    /// <summary>NVLS adds in an order that differs from call to call: a resumed run would not come to the same bits.</summary>
    [Fact]
    public void Switches_do_not_add_unless_asked_to()
    {
        _ = Kernels.KernelDevices.HostCuda;
        NcclCommunicator.Require();
        var native = Marshal.PtrToStringUTF8(Posix.getenv("NCCL_NVLS_ENABLE"));
        Assert.Equal(Environment.GetEnvironmentVariable("NCCL_NVLS_ENABLE") ?? (Environment.GetEnvironmentVariable("NCCL_ALGO") is null ? "0" : null), native);
    }

    [Fact]
    public void A_wait_that_is_missing_shows_as_stale_values() => NcclRanks.Run(2, (ranks, stream) =>
    {
        using var arena = NcclRanks.Floats(stream, 100, ranks.Rank + 1, out var data);
        var values = new float[100];
        var sequence = ranks.AllReduce(stream, data, Reduction.Sum);
        stream.Download(data, values);
        Assert.Equal(ranks.Rank + 1, values[7]);                // what hostcuda makes of the mistake, in every run alike
        ranks.Wait(stream, sequence);
        stream.Download(data, values);
        Assert.All(values, v => Assert.Equal(3, v));
    });

    [Fact]
    public void More_operations_than_slots_wait_for_the_oldest() => NcclRanks.Run(
        2,
        (ranks, stream) =>
        {
            using var arena = NcclRanks.Floats(stream, 10, 1, out var data);
            var last = 0L;
            for (var i = 0; i < 9; i++)
            {
                last = ranks.AllReduce(stream, data, Reduction.Sum);
            }

            ranks.Wait(stream, last);
            var values = new float[10];
            stream.Download(data, values);
            Assert.All(values, v => Assert.Equal(512, v));
        },
        NcclRanks.Quiet(queue: 2));

    [Fact]
    public void Operations_allocate_no_managed_memory_once_warm() => NcclRanks.Run(2, (ranks, stream) =>
    {
        using var arena = NcclRanks.Floats(stream, 64, 1, out var data);
        var values = new double[2];
        void Round()
        {
            ranks.Wait(stream, ranks.AllReduce(stream, data, Reduction.Sum));
            ranks.AllReduce(values, Reduction.Max);
            ranks.Barrier();
        }

        for (var i = 0; i < 40; i++)                            // past the first tier of the JIT
        {
            Round();
        }

        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var i = 0; i < 10; i++)
        {
            Round();
        }

        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    });

    [Fact]
    public void Operations_that_differ_are_named_on_every_rank()
    {
        var failures = NcclRanks.RunAll(3, (ranks, stream) =>
        {
            using var arena = NcclRanks.Floats(stream, 12, 1, out var data);
            ranks.Barrier();
            ranks.Wait(stream, ranks.Rank == 1 ? ranks.Broadcast(stream, data, 2) : ranks.AllReduce(stream, data, Reduction.Sum));
        });
        Assert.All(failures, f =>
        {
            var message = Assert.IsType<CollectiveException>(f).Message;
            Assert.Contains("ncclInvalidUsage (5)", message, StringComparison.Ordinal);
            Assert.Contains("at operation 2 rank ", message, StringComparison.Ordinal);
            Assert.Contains("ncclAllReduce(count 12, float32, sum)", message, StringComparison.Ordinal);
            Assert.Contains("rank 1 ", message, StringComparison.Ordinal);
            Assert.Contains("ncclBroadcast(count 48, int8, root 2)", message, StringComparison.Ordinal);
        });
    }

    [Fact]
    public void Parts_of_another_size_are_named()
    {
        var failures = NcclRanks.RunAll(2, (ranks, stream) =>
        {
            using var arena = NcclRanks.Floats(stream, 8, 1, out var sent);
            using var other = NcclRanks.Floats(stream, 8, 1, out var received);
            var count = ranks.Rank == 0 ? 8 : 4;
            ranks.Wait(stream, ranks.AllToAll(stream, sent.Prefix(count), received.Prefix(count)));
        });

        // whichever rank compares first speaks for both
        Assert.All(failures, f => Assert.IsType<CollectiveException>(f));
        Assert.Contains(failures, f => Regex.IsMatch(
            f!.Message, "sends (16 bytes to rank 1 and awaits 16, which awaits 8|8 bytes to rank 0 and awaits 8, which awaits 16) "));
    }

    [Fact]
    public void A_rank_that_does_not_come_is_reported_within_the_time_out_with_what_every_rank_does()
    {
        var options = NcclRanks.Quiet(seconds: 1);
        var watch = Stopwatch.StartNew();
        using var release = new ManualResetEventSlim();
        var failures = NcclRanks.RunAll(
            2,
            (ranks, stream) =>
            {
                using var arena = NcclRanks.Floats(stream, 1024, 1, out var data);
                ranks.Barrier();
                if (ranks.Rank == 1)
                {
                    Assert.True(release.Wait(TimeSpan.FromSeconds(30)));
                    ranks.Barrier();
                    return;
                }

                try
                {
                    ranks.Wait(stream, ranks.AllReduce(stream, data, Reduction.Sum));
                }
                finally
                {
                    release.Set();
                }
            },
            options);
        Assert.All(failures, f => Assert.Equal(
            "time-out after 1 s: rank 0 waits in all-reduce #2 of 1,024 float; rank 1 is in no collective, last finished barrier #1",
            Assert.IsType<CollectiveException>(f).Message));
        Assert.InRange(watch.Elapsed.TotalSeconds, 1, 15);
        var dumps = options.Diagnostics!.ToString()!;
        Assert.Contains("rank 0: time-out after 1 s in all-reduce #2 of 1,024 float; its recent collectives:", dumps, StringComparison.Ordinal);
        Assert.Contains("  rank 0  all-reduce #2 of 1,024 float: running for ", dumps, StringComparison.Ordinal);
        Assert.Contains("  rank 1  barrier #1: done ", dumps, StringComparison.Ordinal);
    }

    [Fact]
    public void Work_before_an_operation_does_not_count_as_its_time() => NcclRanks.Run(
        1,
        (ranks, stream) =>
        {
            using var arena = NcclRanks.Floats(stream, 16, 1, out var data);
            ranks.Wait(stream, ranks.AllReduce(stream, data, Reduction.Sum));
            Thread.Sleep(800);                                  // longer than the time-out; nothing is under way
            ranks.Wait(stream, ranks.AllReduce(stream, data, Reduction.Sum));
        },
        NcclRanks.Quiet(seconds: 0.3));

    [Fact]
    public void A_rank_that_gives_up_ends_the_others()
    {
        var failures = NcclRanks.RunAll(3, (ranks, stream) =>
        {
            ranks.Barrier();
            if (ranks.Rank == 2)
            {
                ranks.Abort("the disk is full");
            }

            ranks.Barrier();
        });
        Assert.All(failures, f => Assert.Contains("rank 2 gave up: the disk is full", Assert.IsType<CollectiveException>(f).Message, StringComparison.Ordinal));
    }

    [Fact]
    public void A_rank_that_leaves_early_is_named()
    {
        var failures = NcclRanks.RunAll(2, (ranks, stream) =>
        {
            if (ranks.Rank == 0)
            {
                ranks.Barrier();
            }
        });
        Assert.Null(failures[1]);
        var message = Assert.IsType<CollectiveException>(failures[0]).Message;
        Assert.Contains("ncclRemoteError (6)", message, StringComparison.Ordinal);
        Assert.Contains("rank 1 (process ", message, StringComparison.Ordinal);
        Assert.Contains("has destroyed its communicator and does not come", message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_rank_that_fails_with_an_operation_outstanding_ends_the_others()
    {
        var failures = NcclRanks.RunAll(2, (ranks, stream) =>
        {
            using var arena = NcclRanks.Floats(stream, 16, 1, out var data);
            ranks.Barrier();
            if (ranks.Rank == 1)
            {
                ranks.AllReduce(stream, data, Reduction.Sum);
                throw new InvalidOperationException("planted");
            }

            ranks.Wait(stream, ranks.AllReduce(stream, data, Reduction.Sum));
            ranks.Barrier();
        });
        Assert.Equal("planted", Assert.IsType<InvalidOperationException>(failures[1]).Message);
        Assert.Contains("rank 1 ", Assert.IsType<CollectiveException>(failures[0]).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_NCCL_cannot_do_is_refused_before_it_is_asked() => NcclRanks.Run(2, (ranks, stream) =>
    {
        using var arena = NcclRanks.Floats(stream, 10, 1, out var data);
        using var cpu = new CpuStream(1);
        Assert.Contains("may drop a NaN", Assert.Throws<NotSupportedException>(() => ranks.AllReduce(stream, data, Reduction.Max)).Message, StringComparison.Ordinal);
        Assert.Contains("are reduced", Assert.Throws<NotSupportedException>(() => ranks.AllReduce(stream, data.As<int>(), Reduction.Sum)).Message, StringComparison.Ordinal);
        Assert.Contains("orders work of", Assert.Throws<ArgumentException>(() => ranks.AllReduce(cpu, data, Reduction.Sum)).Message, StringComparison.Ordinal);
        Assert.Contains("2 ranks need 20", Assert.Throws<ArgumentException>(() => ranks.AllGather(stream, data, data)).Message, StringComparison.Ordinal);
        Assert.Contains("not 2 equal parts", Assert.Throws<ArgumentException>(() => ranks.AllToAll(stream, data.Prefix(3), data.Prefix(3))).Message, StringComparison.Ordinal);
        using (stream.Capture(() => Assert.Throws<InvalidOperationException>(() => ranks.AllReduce(stream, data, Reduction.Sum))))
        {
        }

        Assert.Throws<ArgumentOutOfRangeException>(() => ranks.Broadcast(stream, data, 2));
        Assert.Throws<ArgumentOutOfRangeException>(() => ranks.Wait(stream, 1));
        ranks.Barrier();
    });

    [Fact]
    public void Overlapping_buffers_are_refused_by_hostcuda()
    {
        var failures = NcclRanks.RunAll(1, (ranks, stream) =>
        {
            using var arena = NcclRanks.Floats(stream, 20, 1, out var data);
            ranks.ReduceScatter(stream, data.Rows(0, 10), data.Rows(5, 10), Reduction.Sum);
        });
        Assert.Contains("the buffers overlap", Assert.IsType<CollectiveException>(failures[0]).Message, StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Injected))]
    public void A_call_that_fails_is_named_and_leaves_nothing_behind(string function)
    {
        _ = Kernels.KernelDevices.HostCuda;
        var reached = false;
        void Body(NcclCollective ranks, CudaStream stream)
        {
            if (function is not ("ncclGetUniqueId" or "ncclCommInitRankConfig"))
            {
                HostCuda.Inject(function, 0, InternalError);
            }

            reached = true;
            foreach (var result in CollectiveSelfTest.Run(ranks, stream))
            {
                Assert.True(result.Passed, result.Name);
            }
        }

        if (function == "ncclGetUniqueId")
        {
            HostCuda.Inject(function, 0, InternalError);
            Assert.StartsWith(
                "ncclGetUniqueId(&id) failed with ncclInternalError (3): internal error; ", Assert.Throws<NcclException>(NcclCollective.NewUniqueId).Message,
                StringComparison.Ordinal);
            return;
        }

        if (function == "ncclCommInitRankConfig")
        {
            HostCuda.Inject(function, 0, InternalError);
        }

        var failure = NcclRanks.RunAll(1, Body)[0];
        Assert.Equal(function != "ncclCommInitRankConfig", reached);
        if (function is "ncclCommDestroy" or "ncclCommFinalize")
        {
            Assert.Null(failure);                               // the work is done: the communicator is let go all the same
            HostCuda.Inject(function, 0, 0);
            return;
        }

        var message = failure is NcclException nccl ? nccl.Message : Assert.IsType<CollectiveException>(failure).Message;
        var shown = function == "ncclCommInitRankConfig" ? "ncclCommInitRank" : function;
        Assert.Contains($"{shown}(", message, StringComparison.Ordinal);
        Assert.Contains("failed with ncclInternalError (3)", message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_library_is_named_when_it_is_missing()
    {
        var missing = NativeLibraries.OpenAs("/nowhere/libnccl.so.2", "Z1_NCCL", "libnccl.so.2");
        Assert.Equal((0, "Z1_NCCL names /nowhere/libnccl.so.2, which cannot be loaded"), (missing.Handle, missing.NameOrReason));
    }
}
