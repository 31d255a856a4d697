namespace Z1Coder.Runtime;

/// <summary>All ranks of a job, as this process sees them: what its launcher said, where they meet, and the collective of all. One process
/// that no
/// launcher started is a world of one.</summary>
public sealed class RankWorld : IDisposable
{
    private readonly Rendezvous? _rendezvous;
    private readonly MpiWorld? _mpi;

    private RankWorld(RankEnvironment environment, MpiWorld? mpi, Rendezvous? rendezvous, ICollective collective)
    {
        (Environment, _mpi, _rendezvous, Collective) = (environment, mpi, rendezvous, collective);
    }

    /// <summary>Names that <see cref="Open"/> knows.</summary>
    public static IReadOnlyList<string> Backends { get; } = ["auto", "nccl", "mpi", "tcp"];

    /// <summary>Which rank this is, and who said so.</summary>
    public RankEnvironment Environment { get; }

    /// <summary>All ranks.</summary>
    public ICollective Collective { get; }

    /// <summary>From 0.</summary>
    public int Rank => Collective.Rank;

    /// <summary>Ranks in all.</summary>
    public int Size => Collective.Size;

    /// <summary>Whether this rank writes what a run has once: recipe, metrics, reports.</summary>
    public bool IsFirst => Rank == 0;

    /// <summary>One rank.</summary>
    public static RankWorld Alone() => new(RankEnvironment.Alone, null, null, new SelfCollective());

    /// <summary>Joins the other ranks; returns when all have.</summary>
    /// <param name="environment">which rank this is</param>
    /// <param name="backend">nccl, mpi, tcp, or auto: nccl on a CUDA device, mpi where an MPI launcher started the ranks and a library of
    /// it is found, tcp
    /// otherwise; one rank needs none</param>
    /// <param name="stream">where this rank computes</param>
    /// <param name="fingerprint">must be the same on all ranks: version and recipe</param>
    /// <param name="options">time-outs</param>
    /// <exception cref="CollectiveException">the ranks did not find together; one sentence that names who is missing or differs</exception>
    /// <exception cref="NotSupportedException">the backend cannot work here; one sentence</exception>
    public static RankWorld Open(
        RankEnvironment environment, string backend, ComputeStream stream, string fingerprint, CollectiveOptions options)
    {
        ArgumentNullException.ThrowIfNull(environment);
        var chosen = Choose(environment, backend, stream);
        if (chosen == "self")
        {
            return new(environment, null, null, new SelfCollective());
        }

        MpiWorld? mpi = null;
        Rendezvous? rendezvous = null;
        try
        {
            // under mpirun MPI can say where rank 0 is, where nothing else does
            var asksMpi = environment is { UnderMpi: true, MasterPort: 0, Size: > 1 } && MpiWorld.IsAvailable(out _);
            mpi = chosen == "mpi" || asksMpi ? MpiWorld.Open() : null;
            mpi?.Expect(environment.Rank, environment.Size);
            rendezvous = mpi?.Join(fingerprint, options) ?? Meet(environment, fingerprint, options);
            return new(environment, mpi, rendezvous, chosen switch
            {
                "nccl" => NcclCollective.Create(((CudaStream)stream).Device, rendezvous),
                "mpi" => MpiCollective.Create(mpi!, rendezvous),
                _ => TcpCollective.Create(rendezvous),
            });
        }
        catch
        {
            rendezvous?.Dispose();           // MPI is left as it is: its end would wait for the other ranks
            throw;
        }
    }

    /// <summary>Whether this holds on any rank; every rank asks at the same place.</summary>
    public bool Any(bool mine)
    {
        Span<double> values = [mine ? 1 : 0];
        Collective.AllReduce(values, Reduction.Max);
        return values[0] > 0;
    }

    /// <summary>Runs <paramref name="work"/> on rank 0; the others wait for its end, which takes less than the time-out.</summary>
    /// <exception cref="CollectiveException">on the others: it failed there</exception>
    public void OnFirst(Action work)
    {
        ArgumentNullException.ThrowIfNull(work);
        if (IsFirst)
        {
            work();                          // a failure here ends the job, and the others learn why
        }

        Collective.Barrier();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Collective.Dispose();
        if (_rendezvous?.Failure is not null)
        {
            _mpi?.Fail();
        }

        _rendezvous?.Dispose();              // it tells the others that this rank has left and not died
    }

    private static string Choose(RankEnvironment environment, string backend, ComputeStream stream)
    {
        var cuda = stream is CudaStream;
        if (Refusal(backend, cuda, stream.DeviceName) is { } sentence)
        {
            throw new NotSupportedException(sentence);
        }

        return backend != "auto" ? backend
            : environment.Size == 1 ? "self" : cuda ? "nccl" : environment.UnderMpi && MpiWorld.IsAvailable(out _) ? "mpi" : "tcp";
    }

    /// <summary>Why a backend cannot move the memory of a device, a sentence; null where it can.</summary>
    /// <param name="backend">one of <see cref="Backends"/></param>
    /// <param name="cuda">whether ranks compute on a CUDA device</param>
    /// <param name="device">what the sentence calls it</param>
    public static string? Refusal(string backend, bool cuda, string device) => backend switch
    {
        "tcp" or "mpi" when cuda => $"--backend {backend} moves host memory, and this rank computes on {device}: use nccl",
        "nccl" when !cuda => "--backend nccl moves memory of CUDA devices: give --device cuda too, or use tcp or mpi",
        "auto" or "tcp" or "mpi" or "nccl" => null,
        _ => $"--backend {backend}: must be one of {string.Join(", ", Backends)}",
    };

    private static Rendezvous Meet(RankEnvironment environment, string fingerprint, CollectiveOptions options)
    {
        var (host, port) = environment is { MasterAddress: { } address, MasterPort: > 0 and var known } ? (address, known)
            : environment.Size == 1 ? ("localhost", 0)
            : throw new CollectiveException(
                $"{environment.Launcher} has started {environment.Size} ranks and does not say where rank 0 can be reached: set "
                + (environment.MasterAddress is null
                    ? "MASTER_ADDR to its host name and MASTER_PORT to a free port there" : "MASTER_PORT to a port that is free there"));
        return Rendezvous.Join(host, port, environment.Rank, environment.Size, fingerprint, options);
    }
}
