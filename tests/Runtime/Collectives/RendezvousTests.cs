using System.Net;
using System.Net.Sockets;
using Xunit;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Runtime;

public sealed class RendezvousTests
{
    private static readonly CollectiveOptions s_quiet = new() { Diagnostics = TextWriter.Null };

    [Fact]
    public void Values_reach_every_rank()
    {
        var failures = Join(3, s_quiet, (rank, rendezvous) =>
        {
            if (rank == 1)
            {
                rendezvous.Put("id", [1, 2, 3]);
            }

            Assert.Equal([1, 2, 3], rendezvous.Get("id"));
            for (var repeat = 0; repeat < 3; repeat++)
            {
                var all = rendezvous.Exchange("who", [(byte)rank, (byte)repeat]);
                Assert.Equal([[0, (byte)repeat], [1, (byte)repeat], [2, (byte)repeat]], all);
            }

            Assert.Contains($"pid {Environment.ProcessId}", rendezvous.Describe(2));
            Assert.Empty(rendezvous.Exchange("empty", [])[2]);
        });
        Assert.All(failures, Assert.Null);
    }

    [Theory]
    [InlineData("size", @"rank 1 \(.*pid \d+\) was started as one of 3 ranks, rank 0 as one of 2")]
    [InlineData("fingerprint", @"rank 1 \(.*pid \d+\) runs 'other', rank 0 'test'")]
    [InlineData("duplicate", @"two processes joined as rank 0: .*pid \d+ and .*pid \d+")]
    [InlineData("range", @"a process \(.*\) joined as rank 2 of 2")]
    public void What_is_wrong_with_a_newcomer_is_named_on_both_sides(string wrong, string sentence)
    {
        var server = new RendezvousServer(Ranks.Host, 0, 2, "test", s_quiet);
        var failures = Ranks.OnThreads(2, r =>
        {
            var (rank, size, fingerprint) = r == 0 ? (0, 2, "test") : wrong switch
            {
                "size" => (1, 3, "test"),
                "fingerprint" => (1, 2, "other"),
                "duplicate" => (0, 2, "test"),
                _ => (2, 2, "test"),
            };
            using var joined = Rendezvous.Join(r == 0 ? server : null, Ranks.Host, server.Port, rank, size, fingerprint, s_quiet);
        });
        Assert.All(failures, f => Assert.Matches(sentence, Assert.IsType<CollectiveException>(f).Message));
    }

    [Fact]
    public void Who_is_missing_is_named_in_time()
    {
        var options = s_quiet with { JoinTimeout = TimeSpan.FromSeconds(1) };
        var server = new RendezvousServer(Ranks.Host, 0, 4, "test", options);
        var failures = Ranks.OnThreads(2, r =>
        {
            using var joined = Rendezvous.Join(r == 0 ? server : null, Ranks.Host, server.Port, r * 2, 4, "test", options);
        });
        Assert.All(failures, f => Assert.Equal(
            "ranks 1,3 of 4 did not join the rendezvous within 1 s", Assert.IsType<CollectiveException>(f).Message));
    }

    [Fact]
    public void A_rendezvous_that_nobody_hosts_is_named()
    {
        using var reserved = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        reserved.Bind(new IPEndPoint(IPAddress.Loopback, 0));       // bound, not listening: calls are refused
        var port = ((IPEndPoint)reserved.LocalEndPoint!).Port;
        var failure = Assert.Throws<CollectiveException>(
            () => Rendezvous.Join(Ranks.Host, port, 1, 2, "test", s_quiet with { JoinTimeout = TimeSpan.FromSeconds(0.2) }));
        Assert.StartsWith($"rank 1 found no rendezvous at {Ranks.Host}:{port} within 0.2 s", failure.Message);
        Assert.EndsWith("rank 0 did not start it", failure.Message);
        reserved.Listen(1);
        Assert.Contains($"cannot listen at {Ranks.Host}:{port}", Assert.Throws<CollectiveException>(
            () => Rendezvous.Join(Ranks.Host, port, 0, 2, "test", s_quiet)).Message);
    }

    /// <summary>Two that listen at one port share its callers: ranks of one job would join the other.</summary>
    [Fact]
    public void A_port_belongs_to_one_rendezvous()
    {
        using var server = new RendezvousServer(Ranks.Host, 0, 2, "test", s_quiet);
        Assert.Contains($"cannot listen at {Ranks.Host}:{server.Port}", Assert.Throws<CollectiveException>(
            () => new RendezvousServer(Ranks.Host, server.Port, 2, "other", s_quiet)).Message);
    }

    [Fact]
    public void A_value_that_one_rank_does_not_bring_is_named()
    {
        var failures = Join(3, s_quiet with { JoinTimeout = TimeSpan.FromSeconds(1.5) }, (rank, rendezvous) =>
        {
            if (rank == 2)
            {
                _ = Assert.Throws<CollectiveException>(() => rendezvous.Get("never"));
                return;
            }

            _ = rendezvous.Exchange("addresses", [1]);
        });
        Assert.Null(failures[2]);
        Assert.Matches("rank 2 did not bring 'addresses' to the rendezvous within 1.5 s|no rank brought 'never'", failures[0]!.Message);
        Assert.Equal(failures[0]!.Message, failures[1]!.Message);
    }

    [Fact]
    public void Strangers_are_ignored_and_a_rank_that_comes_twice_later_is_turned_away()
    {
        var server = new RendezvousServer(Ranks.Host, 0, 2, "test", s_quiet);
        using var stranger = new TcpClient(Ranks.Host, server.Port);
        stranger.GetStream().Write("GET / HTTP/1.1\r\n\r\n"u8);
        using var other = new TcpClient(Ranks.Host, server.Port);       // its 999 ranks would end this job
        other.GetStream().Write(RendezvousWire.Frame(RendezvousMessage.Hello, w =>
        {
            w.WriteMark(RendezvousWire.MarkOf("of another job"));
            w.Write(1);
            w.Write(999);
            w.Write("test");
            w.Write("elsewhere");
        }));
        Assert.Equal(-1, other.GetStream().ReadByte());
        using var late = new ManualResetEventSlim();
        var failures = Ranks.OnThreads(2, r =>
        {
            using var joined = Rendezvous.Join(r == 0 ? server : null, Ranks.Host, server.Port, r, 2, "test", s_quiet);
            if (r == 0)
            {
                var refused = Assert.Throws<CollectiveException>(
                    () => Rendezvous.Join(null, Ranks.Host, server.Port, 1, 2, "test", s_quiet));
                Assert.StartsWith("two processes joined as rank 1", refused.Message);
                late.Set();
            }

            Assert.True(late.Wait(TimeSpan.FromSeconds(50)));
            _ = joined.Exchange("still there", []);
            Assert.Null(joined.Failure);
        });
        Assert.All(failures, Assert.Null);
    }

    [Fact]
    public void A_process_that_drops_its_connection_is_dead_for_all()
    {
        var server = new RendezvousServer(Ranks.Host, 0, 3, "test", s_quiet);
        using var dying = new TcpClient(Ranks.Host, server.Port);
        dying.GetStream().Write(RendezvousWire.Frame(RendezvousMessage.Hello, w =>
        {
            w.WriteMark(RendezvousWire.Mark);
            w.Write(2);
            w.Write(3);
            w.Write("test");
            w.Write("node7, pid 77");
        }));
        using var joined = new CountdownEvent(2);
        var failures = Ranks.OnThreads(2, r =>
        {
            using var rendezvous = Rendezvous.Join(r == 0 ? server : null, Ranks.Host, server.Port, r, 3, "test", s_quiet);
            joined.Signal();
            if (r == 1)
            {
                joined.Wait();
                dying.Close();
            }

            _ = rendezvous.Exchange("never complete", []);
        });
        Assert.All(failures, f => Assert.Equal("rank 2 (node7, pid 77) died", Assert.IsType<CollectiveException>(f).Message));
    }

    [Fact]
    public void A_failure_reaches_every_rank_although_rank_0_leaves_as_soon_as_it_hears()
    {
        for (var round = 0; round < 20; round++)
        {
            var failures = Join(16, s_quiet, (rank, rendezvous) =>
            {
                if (rank == 8)
                {
                    rendezvous.Abort("enough");
                    rendezvous.ThrowIfFailed();
                }

                _ = rendezvous.Exchange("never complete", []);
            });
            Assert.All(failures, f => Assert.Equal("enough", Assert.IsType<CollectiveException>(f).Message));
        }
    }

    private static Exception?[] Join(int size, CollectiveOptions options, Action<int, Rendezvous> body)
    {
        var server = new RendezvousServer(Ranks.Host, 0, size, "test", options);
        return Ranks.OnThreads(size, r =>
        {
            using var rendezvous = Rendezvous.Join(r == 0 ? server : null, Ranks.Host, server.Port, r, size, "test", options);
            body(r, rendezvous);
        });
    }
}
