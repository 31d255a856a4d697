using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>
/// Times collectives: every rank runs the same cases in the same order, rank 0 measures and prints. A sample is a barrier, then one
/// operation with its
/// wait; the clock runs on rank 0 from after the barrier. The floor is what all ranks of this machine must move in memory at the copy
/// bandwidth
/// measured before; small sizes live in caches and may stay below it.
/// </summary>
public static class CollectiveBench
{
    private const double SecondsPerCase = 0.4;
    private const double ClockStep = 0.01;              // µs: what takes less, such as an all-reduce of one rank, is nothing
    private const int MostSamples = 400, Refill = 25;

    private static readonly string[] s_backends = ["self", "threads", "tcp"], s_ranks = ["2", "4"];

    /// <summary>Names the columns.</summary>
    public static string Header =>
        $"{"collective (float)",-28}{"size",8}{"p20 us",11}{"p50 us",11}{"p80 us",11}{"alg GB/s",10}"
            + $"{"bus GB/s",10}{"copy GB/s",11}{"% floor",9}{"alloc",7}";

    /// <summary>What can be chosen: operations, backends and ranks within this process, sizes.</summary>
    public static IEnumerable<string> Words =>
        [.. CollectiveCase.Operations, .. s_backends, .. s_ranks, .. CollectiveCase.Sizes.Select(s => new CollectiveCase("", s, 1).Shape)];

    /// <summary>Groups within this process: self, and 2 and 4 ranks over threads and over sockets, each rank a thread.</summary>
    /// <param name="words">chosen operations, backends (self, threads, tcp), ranks (2, 4), sizes ("1 MiB"); none of a kind: all of
    /// it</param>
    /// <param name="output">for the table</param>
    public static List<PerfRow> RunInProcess(string[] words, TextWriter output)
    {
        ArgumentNullException.ThrowIfNull(words);
        ArgumentNullException.ThrowIfNull(output);
        using var all = new CpuStream();
        var roof = Enumerable.Range(0, 3).Max(_ => Roofs.Measure(all, quick: true).CopyBytesPerSecond);
        output.WriteLine(Header);
        var rows = new List<PerfRow>();
        foreach (var backend in Among(words, s_backends))
        {
            foreach (var ranks in backend == "self" ? [1] : Among(words, s_ranks).Select(int.Parse))
            {
                rows.AddRange(RunRanks(backend, ranks, words, roof, output));
            }
        }

        return rows;
    }

    /// <summary>One rank's part in all cases, on any backend and stream; rank 0 gets the rows.</summary>
    /// <param name="group">its ranks all call this</param>
    /// <param name="stream">where the tensors are</param>
    /// <param name="words">as above</param>
    /// <param name="ranksHere">that share the memory of this machine or device</param>
    /// <param name="roof">copy bandwidth of it, bytes per second</param>
    /// <param name="output">for the table</param>
    public static List<PerfRow> Run(ICollective group, ComputeStream stream, string[] words, int ranksHere, double roof, TextWriter output)
    {
        ArgumentNullException.ThrowIfNull(group);
        ArgumentNullException.ThrowIfNull(stream);
        ArgumentNullException.ThrowIfNull(output);
        var rows = new List<PerfRow>();
        foreach (var operation in Among(words, CollectiveCase.Operations))
        {
            foreach (var bytes in CollectiveCase.Sizes)
            {
                var which = new CollectiveCase(operation, bytes, group.Size);
                if (CollectiveCase.Sizes.Any(s => words.Contains((which with { Bytes = s }).Shape)) && !words.Contains(which.Shape))
                {
                    continue;
                }

                var row = RunCase(group, stream, which, ranksHere, roof);
                if (group.Rank == 0)
                {
                    rows.Add(row);
                    output.WriteLine(
                        $"{row.Name,-28}{row.Shape,8}{row.P20,11:F1}{row.P50,11:F1}{row.P80,11:F1}{bytes / row.P50 / 1e3,10:F2}"
                        + $"{bytes * which.BusFactor / row.P50 / 1e3,10:F2}{roof / 1e9,11:F1}"
                        + $"{row.ShareOfRoof * 100,9:F0}{row.ManagedBytes,7}");
                }
            }
        }

        return rows;
    }

    private static PerfRow RunCase(ICollective group, ComputeStream stream, CollectiveCase which, int ranksHere, double roof)
    {
        var count = (int)(which.Bytes / sizeof(float) / which.Ranks * which.Ranks);
        using var inputs = new PerfInputs(stream);
        var (whole, other) = (inputs.Random<float>(count), inputs.Random<float>(count));
        var (part, start) = (other.Rows(0, count / which.Ranks), inputs.Random<float>(count));

        // the slowest rank decides how many samples all take
        Span<double> seconds = [0];
        for (var i = 0; i < 4; i++)
        {
            seconds[0] = Sample();
        }

        group.AllReduce(seconds, Reduction.Max);
        var samples = new double[(int)Math.Clamp(SecondsPerCase / seconds[0], 5, MostSamples)];
        for (var i = 0; i < samples.Length / 4; i++)
        {
            Sample();
        }

        group.Barrier();                                // from here to the next barrier no rank does anything else
        var allocated = -GC.GetTotalAllocatedBytes(precise: true);
        for (var i = 0; i < samples.Length; i++)
        {
            if (i % Refill == 0)
            {
                TensorCopy.Copy(stream, start, whole);  // sums in place would leave the range of float
                stream.Synchronize();
            }

            samples[i] = Math.Max(Sample() * 1e6, ClockStep);
        }

        allocated += GC.GetTotalAllocatedBytes(precise: true);
        group.Barrier();
        Array.Sort(samples);
        return new PerfRow(
            "collectives", $"{which.Operation} {group.Backend} x{which.Ranks}", which.Shape,
            samples[samples.Length / 5], samples[samples.Length / 2],
            samples[samples.Length * 4 / 5], which.MemoryBytes * ranksHere, 0, roof, 0, allocated / samples.Length);

        double Sample()
        {
            group.Barrier();
            var begin = Stopwatch.GetTimestamp();
            group.Wait(stream, which.Operation switch
            {
                "all-reduce" => group.AllReduce(stream, whole, Reduction.Sum),
                "reduce-scatter" => group.ReduceScatter(stream, whole, part, Reduction.Sum),
                "all-gather" => group.AllGather(stream, part, whole),
                _ => group.AllToAll(stream, whole, other),
            });
            stream.Synchronize();
            return Stopwatch.GetElapsedTime(begin).TotalSeconds;
        }
    }

    private static List<PerfRow> RunRanks(string backend, int ranks, string[] words, double roof, TextWriter output)
    {
        var rows = new List<PerfRow>();
        var failures = new Exception?[ranks];
        var port = FreePort();
        var threads = ThreadCollective.CreateGroup(backend == "threads" ? ranks : 1);
        void Body(int rank)
        {
            using var rendezvous = backend == "tcp" ? Rendezvous.Join("localhost", port, rank, ranks, "perf") : null;
            using ICollective group = rendezvous is not null ? TcpCollective.Create(rendezvous)
                : backend == "threads" ? threads[rank] : new SelfCollective();
            using var stream = new CpuStream(1);
            var own = Run(group, stream, words, ranks, roof, output);
            if (rank == 0)
            {
                rows = own;
            }
        }

        var running = Enumerable.Range(0, ranks).Select(rank => new Thread(() =>
        {
            try
            {
                Body(rank);
            }
            catch (Exception e)
            {
                failures[rank] = e;
            }
        })).ToArray();
        Array.ForEach(running, t => t.Start());
        Array.ForEach(running, t => t.Join());
        return Array.Find(failures, f => f is not null) is { } failure
            ? throw new InvalidOperationException($"{backend} x{ranks}: {failure.Message}", failure) : rows;
    }

    private static int FreePort()
    {
        using var probe = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        probe.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return ((IPEndPoint)probe.LocalEndPoint!).Port;
    }

    private static IEnumerable<string> Among(string[] words, IReadOnlyList<string> all) =>
        all.Any(words.Contains) ? all.Where(words.Contains) : all;
}
