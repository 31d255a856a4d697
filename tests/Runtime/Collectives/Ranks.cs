using Xunit;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Runtime;

/// <summary>Runs one body on every rank of a group, each rank a thread of this process; over "threads" or over "tcp" (sockets and a
/// rendezvous).</summary>
internal static class Ranks
{
    public const string Threads = "threads", Tcp = "tcp", Host = "localhost";

    /// <summary>Every rank must come through.</summary>
    public static void Run(string backend, int size, Action<ICollective> body, CollectiveOptions? options = null)
    {
        var failures = Outcomes(backend, size, body, options).Where(e => e is not null).ToArray();
        if (failures.Length > 0)
        {
            throw new AggregateException(failures!);
        }
    }

    /// <summary>What each rank threw; null where nothing. A rank leaves its group when its body has ended, however.</summary>
    public static Exception?[] Outcomes(string backend, int size, Action<ICollective> body, CollectiveOptions? options = null)
    {
        options ??= new CollectiveOptions { Diagnostics = TextWriter.Null };
        if (backend == Threads)
        {
            var group = ThreadCollective.CreateGroup(size, options);
            return OnThreads(size, r =>
            {
                using var collective = group[r];
                body(collective);
            });
        }

        var server = new RendezvousServer(Host, 0, size, "test", options);
        return OnThreads(size, r =>
        {
            using var rendezvous = Rendezvous.Join(r == 0 ? server : null, Host, server.Port, r, size, "test", options);
            using var collective = TcpCollective.Create(rendezvous);
            body(collective);
        });
    }

    /// <summary>Runs body(0) … body(size - 1) beside each other.</summary>
    public static Exception?[] OnThreads(int size, Action<int> body)
    {
        var failures = new Exception?[size];
        var threads = Enumerable.Range(0, size).Select(r => new Thread(() =>
        {
            try
            {
                body(r);
            }
            catch (Exception e)
            {
                failures[r] = e;
            }
        })).ToArray();
        foreach (var thread in threads)
        {
            thread.Start();
        }

        for (var r = 0; r < size; r++)
        {
            Assert.True(threads[r].Join(TimeSpan.FromSeconds(60)), $"rank {r} hangs");
        }

        return failures;
    }
}
