using System.Net.Sockets;
using System.Reflection;
using System.Text.RegularExpressions;
using Xunit;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Runtime;

/// <summary>What is planted must be named, on every rank, and nobody may go on waiting: a hang, mismatches, dead ranks, aborts.</summary>
public sealed class CollectiveFailureTests
{
    private const string Missed = "another operation", OtherCount = "another count", OtherElement = "another element",
        OtherRoot = "another root",
        OtherReduction = "another reduction";

    public static TheoryData<string, string> Mismatches()
    {
        var cases = new TheoryData<string, string>();
        foreach (var backend in new[] { Ranks.Threads, Ranks.Tcp })
        {
            foreach (var kind in new[] { Missed, OtherCount, OtherElement, OtherRoot, OtherReduction })
            {
                cases.Add(backend, kind);
            }
        }

        return cases;
    }

    [Theory, MemberData(nameof(Mismatches))]
    public void A_mismatch_is_named_with_both_sides_on_every_rank(string backend, string kind)
    {
        string[] sides = kind switch
        {
            Missed => ["all-gather of 1,024 float", "all-reduce of 1,024 float"],
            OtherCount => ["all-reduce of 1,023 float", "all-reduce of 1,024 float"],
            OtherElement => ["all-reduce of 1,024 bf16", "all-reduce of 1,024 float"],
            OtherRoot => ["broadcast from 2 of 1,024 float", "broadcast from 0 of 1,024 float"],
            _ => ["all-reduce of 1,024 float (Max)", "all-reduce of 1,024 float (Sum)"],
        };
        var failures = Ranks.Outcomes(backend, 3, group =>
        {
            using var stream = new CpuStream(1);
            using var arena = new Arena("mismatch");
            var (data, whole, halves) = (arena.Declare<float>(1024), arena.Declare<float>(3 * 1024), arena.Declare<BFloat16>(1024));
            arena.Allocate();
            group.Wait(stream, group.AllReduce(stream, data, Reduction.Sum));
            var differs = group.Rank == 1;
            group.Wait(stream, kind switch
            {
                Missed when differs => group.AllGather(stream, data, whole),
                OtherCount when differs => group.AllReduce(stream, data.Prefix(1023), Reduction.Sum),
                OtherElement when differs => group.AllReduce(stream, halves, Reduction.Sum),
                OtherRoot => group.Broadcast(stream, data, differs ? 2 : 0),
                OtherReduction when differs => group.AllReduce(stream, data, Reduction.Max),
                _ => group.AllReduce(stream, data, Reduction.Sum),
            });
        });
        foreach (var failure in failures)
        {
            var message = Assert.IsType<CollectiveException>(failure).Message;
            Assert.Contains("#2", message);
            Assert.Matches(@"rank 1 (called )?" + Regex.Escape(sides[0]), message);
            Assert.Matches(@"rank [02] (called )?" + Regex.Escape(sides[1]), message);
        }
    }

    [Theory]
    [InlineData(Ranks.Threads)]
    [InlineData(Ranks.Tcp)]
    public void A_hang_is_diagnosed_with_who_waits_and_who_is_missing(string backend)
    {
        using var others = new CountdownEvent(2);
        using var dump = new StringWriter();
        var options = new CollectiveOptions { Timeout = TimeSpan.FromSeconds(1.5), Diagnostics = TextWriter.Synchronized(dump) };
        var failures = Ranks.Outcomes(backend, 3, group =>
        {
            using var stream = new CpuStream(1);
            using var arena = new Arena("hang");
            var (shard, whole) = (arena.Declare<float>(5), arena.Declare<float>(15));
            arena.Allocate();
            group.Barrier();
            if (group.Rank == 1)
            {
                Assert.True(others.Wait(TimeSpan.FromSeconds(50)));
                group.Barrier();
            }

            try
            {
                group.Wait(stream, group.AllGather(stream, shard, whole));
            }
            finally
            {
                if (group.Rank != 1)
                {
                    others.Signal();
                }
            }
        }, options);
        const string diagnosis = "time-out after 1.5 s: ranks 0,2 wait in all-gather #2 of 5 float; "
            + "rank 1 is in no collective, last finished barrier #1";
        Assert.All(failures, f => Assert.Equal(diagnosis, Assert.IsType<CollectiveException>(f).Message));
        var text = dump.ToString();
        Assert.Contains(diagnosis, text);
        for (var rank = 0; rank < 3; rank++)
        {
            Assert.Contains($"  rank {rank}  barrier #1: done", text);
        }

        Assert.Contains("  rank 0  all-gather #2 of 5 float: running for", text);
    }

    [Theory]
    [InlineData(Ranks.Threads)]
    [InlineData(Ranks.Tcp)]
    public void A_hang_in_a_group_of_some_ranks_names_the_group_and_ends_all(string backend)
    {
        using var others = new CountdownEvent(3);
        var options = new CollectiveOptions { Timeout = TimeSpan.FromSeconds(1), Diagnostics = TextWriter.Null };
        var failures = Ranks.Outcomes(backend, 4, world =>
        {
            using var pairs = world.Split(world.Rank % 2, "pair");
            try
            {
                if (world.Rank == 3)
                {
                    Assert.True(others.Wait(TimeSpan.FromSeconds(50)));
                }

                pairs.Barrier();
                world.Barrier();
            }
            finally
            {
                if (world.Rank != 3)
                {
                    others.Signal();
                }
            }
        }, options);
        Assert.All(failures, f => Assert.Matches(
            "rank 1 waits in barrier #1 of group pair; .*rank 3 is in no collective, last finished split #1", f!.Message));
    }

    [Theory]
    [InlineData(Ranks.Threads)]
    [InlineData(Ranks.Tcp)]
    public void A_rank_that_leaves_is_named_by_those_who_wait_for_it(string backend)
    {
        var failures = Ranks.Outcomes(backend, 3, group =>
        {
            group.Barrier();
            if (group.Rank != 1)
            {
                group.Barrier();
            }
        });
        Assert.Null(failures[1]);
        Assert.Matches(@"^rank 1.* has left, and rank [02] waits for it", Assert.IsType<CollectiveException>(failures[0]).Message);
        Assert.Matches(@"^rank 1.* has left, and rank [02] waits for it", Assert.IsType<CollectiveException>(failures[2]).Message);
    }

    [Theory]
    [InlineData(Ranks.Threads)]
    [InlineData(Ranks.Tcp)]
    public void Leaving_with_an_operation_outstanding_ends_the_others(string backend)
    {
        var failures = Ranks.Outcomes(backend, 2, group =>
        {
            using var stream = new CpuStream(1);
            using var arena = new Arena("outstanding");
            var data = arena.Declare<float>(100_000);
            arena.Allocate();
            group.Barrier();
            if (group.Rank == 1)
            {
                _ = group.AllReduce(stream, data, Reduction.Sum);
                group.Dispose();        // rank 0 calls a barrier meanwhile: either is named, by whichever rank sees it first
            }
            else
            {
                group.Barrier();
                group.Barrier();
            }
        });
        Assert.Null(failures[1]);
        Assert.Matches(
            "rank 1 (left group world with|called all-reduce)|rank 0 called barrier at #2, rank 1 all-reduce",
            Assert.IsType<CollectiveException>(failures[0]).Message);
    }

    [Fact]
    public void A_rank_whose_connections_drop_is_dead_and_named_with_host_and_process()
    {
        var options = new CollectiveOptions { Diagnostics = TextWriter.Null };
        var server = new RendezvousServer(Ranks.Host, 0, 3, "test", options);
        var failures = Ranks.OnThreads(3, r =>
        {
            using var rendezvous = Rendezvous.Join(r == 0 ? server : null, Ranks.Host, server.Port, r, 3, "test", options);
            using var group = TcpCollective.Create(rendezvous);
            group.Barrier();
            if (r == 1)
            {
                // what the system does to a process that is killed
                foreach (var socket in (Socket?[])Field(group, "_sockets"))
                {
                    socket?.Shutdown(SocketShutdown.Both);
                }

                ((Socket)Field(rendezvous, "_socket")).Shutdown(SocketShutdown.Both);
                return;
            }

            group.Barrier();
        });
        Assert.Null(failures[1]);
        foreach (var rank in new[] { 0, 2 })
        {
            // a rank that the news reaches before its second barrier was in nothing
            var died = $"rank 1 ({Environment.MachineName}, pid {Environment.ProcessId}) died";
            Assert.Contains(Assert.IsType<CollectiveException>(failures[rank]).Message, (string[])[died, $"{died}; rank {rank} was in barrier #2"]);
        }

        static object Field(object owner, string name) =>
            owner.GetType().GetField(name, BindingFlags.Instance | BindingFlags.NonPublic)!.GetValue(owner)!;
    }

    [Theory]
    [InlineData(Ranks.Threads)]
    [InlineData(Ranks.Tcp)]
    public void Abort_from_another_thread_ends_every_rank_with_its_reason(string backend)
    {
        var failures = Ranks.Outcomes(backend, 3, group =>
        {
            group.Barrier();
            if (group.Rank == 2)
            {
                var other = new Thread(() => group.Abort("told to"));
                other.Start();
                other.Join();
            }

            group.Barrier();
            group.Barrier();
        });
        Assert.All(failures, f => Assert.StartsWith("rank 2 gave up: told to", Assert.IsType<CollectiveException>(f).Message));
    }

    [Theory]
    [InlineData(Ranks.Threads)]
    [InlineData(Ranks.Tcp)]
    public void A_rank_whose_work_throws_ends_the_others_at_once(string backend)
    {
        var failures = Ranks.Outcomes(backend, 2, group =>
        {
            group.Barrier();
            if (group.Rank == 0)
            {
                throw new InvalidOperationException("planted");
            }

            group.Barrier();
        });
        Assert.Equal("planted", failures[0]!.Message);
        Assert.Contains("rank 0", Assert.IsType<CollectiveException>(failures[1]).Message);
    }

    [Fact]
    public void A_process_that_does_not_see_the_failure_is_ended()
    {
        using var ended = new CountdownEvent(1);
        using var dump = new StringWriter();
        var options = new CollectiveOptions
            { ExitAfter = TimeSpan.FromSeconds(0.05), Exit = () => ended.Signal(), Diagnostics = TextWriter.Synchronized(dump) };
        using var group = ThreadCollective.CreateGroup(1, options)[0];
        group.Abort("planted");
        Assert.True(ended.Wait(TimeSpan.FromSeconds(50), TestContext.Current.CancellationToken));
        Assert.Contains("rank 0: ends 0.05 s after its job failed: rank 0 gave up: planted", dump.ToString());
    }

    [Fact]
    public void A_backend_without_connections_of_its_own_learns_who_has_left()
    {
        var options = new CollectiveOptions { Diagnostics = TextWriter.Null };
        var server = new RendezvousServer(Ranks.Host, 0, 2, "test", options);
        using var failed = new ManualResetEventSlim();
        var failures = Ranks.OnThreads(2, r =>
        {
            using var rendezvous = Rendezvous.Join(r == 0 ? server : null, Ranks.Host, server.Port, r, 2, "test", options);
            if (r == 0)
            {
                var ring = rendezvous.Register(CollectiveRecord.World, failed.Set);
                ring.Queue(1, CollectiveOperation.AllReduce, 8, CollectiveElement.Float);
                ring.Start(1);
                Assert.True(failed.Wait(TimeSpan.FromSeconds(50)));
                Assert.Matches(@"^rank 1 \(.*\) has left, and rank 0 waits for it in all-reduce #1 of 8 float$", rendezvous.Failure);
            }
        });
        Assert.All(failures, Assert.Null);
    }

    [Fact]
    public void A_ring_shows_the_operation_that_holds_up_the_others_and_the_last_finished()
    {
        var ring = new CollectiveRing("world", 8);
        for (var i = 1; i <= 20; i++)
        {
            ring.Queue(i, CollectiveOperation.AllReduce, i, CollectiveElement.Float);
            if (i <= 14)
            {
                ring.Start(i);
                ring.Finish(i);
            }
        }

        Assert.False(ring.TryGetRunning(out _));
        ring.Start(15);
        Assert.True(ring.TryGetRunning(out var running));
        Assert.Equal((15, CollectiveState.Running, 15), (running.Sequence, running.State, running.Count));
        Assert.Equal([13, 14, 15, 16, 17, 18, 19, 20], ring.Tail(100).Select(r => r.Sequence));
        Assert.Equal([13, 14, 15, 16], ring.Tail(4).Select(r => r.Sequence));
        Assert.StartsWith("all-reduce #15 of 15 float: running for 0.", ring.Tail(4)[2].ToString());
    }
}
