using System.Collections;
using System.Globalization;

namespace Z1Coder.Runtime;

/// <summary>Which rank of how many this process is, as its launcher says in environment variables.</summary>
/// <remarks>
/// In this order, the first that is there decides, because each may run inside a later one:
/// <list type="number">
/// <item><c>z1 launch</c> and torchrun: RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT. PyTorchJob sets them
/// without the
/// LOCAL ones: one process a pod. When torchrun's agent keeps a store on MASTER_PORT, the next port is used.</item>
/// <item>Open MPI: OMPI_COMM_WORLD_RANK, _SIZE, _LOCAL_RANK, _LOCAL_SIZE.</item>
/// <item>MPICH (hydra) and others that speak PMI: PMI_RANK, PMI_SIZE, MPI_LOCALRANKID, MPI_LOCALNRANKS. PMIx says no size: PMIX_RANK needs
/// WORLD_SIZE.</item>
/// <item>srun: SLURM_PROCID, SLURM_STEP_NUM_TASKS, SLURM_LOCALID, SLURM_STEP_TASKS_PER_NODE, SLURM_NODEID; rank 0 is on the first node of
/// SLURM_STEP_NODELIST, the port follows from job and step. A batch script, an salloc shell and srun --pty are no ranks.</item>
/// <item>Kubernetes: a TrainJob's PET_NNODES and PET_NODE_RANK, or an Indexed Job's JOB_COMPLETION_INDEX with a WORLD_SIZE that the
/// manifest sets.</item>
/// </list>
/// MASTER_ADDR and MASTER_PORT are heeded under every launcher. What is set by halves, or disagrees, is an error; nothing at all is one
/// rank.
/// </remarks>
public sealed record RankEnvironment
{
    private const string ByZ1 = "Z1_LAUNCH", Loopback = "127.0.0.1";
    private const int FirstPort = 12_000, Ports = 20_000;          // below the ports that Linux gives to clients (32768 and up)

    private RankEnvironment(string launcher, int rank, int size, int localRank, int localSize, string? masterAddress, int masterPort)
    {
        (Launcher, Rank, Size, LocalRank, LocalSize) = (launcher, rank, size, localRank, localSize);
        (MasterAddress, MasterPort) = (masterAddress, masterPort);
    }

    /// <summary>One process that no launcher started.</summary>
    public static RankEnvironment Alone { get; } = new("none", 0, 1, 0, 1, null, 0);

    /// <summary>Who said so: none, z1 launch, torchrun, environment (RANK and WORLD_SIZE set by something else), Open MPI, PMI, PMIx,
    /// Slurm,
    /// Kubernetes.</summary>
    public string Launcher { get; }

    /// <summary>This process, from 0.</summary>
    public int Rank { get; }

    /// <summary>Processes in all.</summary>
    public int Size { get; }

    /// <summary>This process among those of its node, from 0: which GPU is its own.</summary>
    public int LocalRank { get; }

    /// <summary>Processes on this node.</summary>
    public int LocalSize { get; }

    /// <summary>Where rank 0 listens; null when nothing says it.</summary>
    public string? MasterAddress { get; }

    /// <summary>The TCP port there; 0 when nothing says it.</summary>
    public int MasterPort { get; }

    /// <summary>Started by an MPI launcher, so that MPI_Init finds its peers.</summary>
    public bool UnderMpi => Launcher is "Open MPI" or "PMI" or "PMIx";

    /// <summary>The processes of a launcher on one node, as <c>z1 launch</c> starts them: what each one's environment gets.</summary>
    /// <param name="launcherProcess">the launcher's process id; the child ends with it</param>
    /// <param name="rank">from 0</param>
    /// <param name="size">in all</param>
    /// <param name="port">free on loopback</param>
    /// <param name="token">a word that nobody else knows, the same for all</param>
    public static IReadOnlyDictionary<string, string> ForChild(int launcherProcess, int rank, int size, int port, string token) =>
        new Dictionary<string, string>
        {
            [ByZ1] = Text(launcherProcess), ["RANK"] = Text(rank), ["WORLD_SIZE"] = Text(size), ["LOCAL_RANK"] = Text(rank),
            ["LOCAL_WORLD_SIZE"] = Text(size), ["MASTER_ADDR"] = Loopback, ["MASTER_PORT"] = Text(port), [RendezvousWire.JobToken] = token,
        };

    /// <summary>The process id of the <c>z1 launch</c> that started this process; null for none.</summary>
    public static int? LauncherProcess =>
        int.TryParse(Environment.GetEnvironmentVariable(ByZ1), NumberStyles.None, CultureInfo.InvariantCulture, out var id) ? id : null;

    /// <summary>Of this process.</summary>
    /// <exception cref="CollectiveException">as the other overload</exception>
    public static RankEnvironment Detect() => Detect(Environment.GetEnvironmentVariables().Cast<DictionaryEntry>()
        .ToDictionary(e => (string)e.Key, e => (string?)e.Value ?? "", StringComparer.Ordinal));

    /// <summary>From these variables and nothing else. An empty value counts as not set.</summary>
    /// <exception cref="CollectiveException">variables that are set by halves, are no numbers or disagree; one sentence with names and
    /// values</exception>
    public static RankEnvironment Detect(IReadOnlyDictionary<string, string> variables)
    {
        ArgumentNullException.ThrowIfNull(variables);
        var v = new Variables(variables);
        if (v.Has("RANK"))
        {
            return Named(v);
        }

        // srun that also speaks PMI: the same ranks, and Slurm knows the nodes
        var found = Mpi(v) is { } mpi && !mpi.Is(SlurmRank(v)) ? mpi : Slurm(v) ?? Kubernetes(v);
        if (found is null && (v.Has("LOCAL_RANK") || v.Has("LOCAL_WORLD_SIZE")))
        {
            return Named(v);
        }

        var size = v.Number("WORLD_SIZE", 1);
        if (found is not null)
        {
            return size is null || size == found.Size
                ? found
                : throw Wrong($"WORLD_SIZE={size}, but {found.Launcher} started {found.Size} rank(s): unset it, or start as many");
        }

        return size is null or 1
            ? Alone
            : throw Wrong(
                $"WORLD_SIZE={size} without RANK: nothing says which of the {size} ranks this is; set RANK, or unset WORLD_SIZE for one "
                + "process");
    }

    /// <summary>torchrun's names, whoever set them.</summary>
    private static RankEnvironment Named(Variables v)
    {
        var (rank, size) = (v.Number("RANK", 0), v.Number("WORLD_SIZE", 1));
        if (rank is null || size is null)
        {
            string[] names = ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"];
            throw Wrong(
                $"{string.Join(" and ", names.Where(v.Has).Select(v.Show))} without "
                + $"{string.Join(" and ", names.Take(2).Where(n => !v.Has(n)))}: "
                + "a launcher sets both RANK and WORLD_SIZE; for one process unset them");
        }

        if (rank >= size)
        {
            throw Wrong($"RANK={rank} of WORLD_SIZE={size}: ranks go from 0 to {size - 1}");
        }

        var launcher = v.Has(ByZ1) ? "z1 launch" : v.Has("TORCHELASTIC_RUN_ID") ? "torchrun" : "environment";
        if (launcher == "environment")
        {
            Agree(rank.Value, size.Value, "Open MPI", v.Pair("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"));
            Agree(rank.Value, size.Value, "PMI", v.Pair("PMI_RANK", "PMI_SIZE"));
            Agree(rank.Value, size.Value, "Slurm", SlurmRank(v));
        }

        var (localRank, localSize) = Local(v, size.Value, launcher);
        var (address, port) = Master(v, null, 0);
        if (size > 1 && (address is null || port == 0))
        {
            throw Wrong(
                $"RANK={rank} and WORLD_SIZE={size} without {(address is null ? "MASTER_ADDR" : "MASTER_PORT")}: nothing says where rank "
                + "0 listens");
        }

        if (v.Truth("TORCHELASTIC_USE_AGENT_STORE") && port > 0)
        {
            port = port == ushort.MaxValue ? port - 1 : port + 1;     // the agent listens on MASTER_PORT itself
        }

        return new RankEnvironment(launcher, rank.Value, size.Value, localRank, localSize, address, port);
    }

    private static (int Rank, int Size) Local(Variables v, int size, string launcher)
    {
        var (localRank, localSize) = (v.Number("LOCAL_RANK", 0), v.Number("LOCAL_WORLD_SIZE", 1));
        if (localRank is null && localSize is null)
        {
            if (launcher == "environment" && v.Number("PET_NPROC_PER_NODE", 1, alsoWords: true) > 1)
            {
                throw Wrong(
                    $"{v.Show("PET_NPROC_PER_NODE")}, but this is one process of its pod: give each pod one GPU, or start 'torchrun "
                    + "--no-python z1 train …'");
            }

            return (0, 1);                                         // one process a pod
        }

        if (size == 1)
        {
            localSize ??= 1;
            localRank ??= 0;
        }

        if (localRank is null || localSize is null)
        {
            throw Wrong(
                $"{v.Show(localRank is null ? "LOCAL_WORLD_SIZE" : "LOCAL_RANK")} without "
                + $"{(localRank is null ? "LOCAL_RANK" : "LOCAL_WORLD_SIZE")}: "
                + "both say which GPU and how many cores are this rank's; set both, or neither with one process a node");
        }

        if (localRank >= localSize || localSize > size)
        {
            throw Wrong($"LOCAL_RANK={localRank}, LOCAL_WORLD_SIZE={localSize} and WORLD_SIZE={size} do not fit together");
        }

        return (localRank.Value, localSize.Value);
    }

    private static RankEnvironment? Mpi(Variables v)
    {
        if (v.Has("OMPI_COMM_WORLD_RANK") || v.Has("OMPI_COMM_WORLD_SIZE"))
        {
            return OfMpi(
                v, "Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE");
        }

        if (v.Has("PMI_RANK") || v.Has("PMI_SIZE"))
        {
            return OfMpi(v, "PMI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS");
        }

        if (v.Has("PMIX_RANK") && !IsTask(v))
        {
            return v.Has("WORLD_SIZE")
                ? OfMpi(v, "PMIx", "PMIX_RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
                : throw Wrong(
                    $"{v.Show("PMIX_RANK")} without WORLD_SIZE: PMIx says no number of ranks; set WORLD_SIZE, or unset PMIX_RANK for one "
                    + "process");
        }

        return null;
    }

    private static RankEnvironment OfMpi(
        Variables v, string launcher, string rankName, string sizeName, string localRankName, string localSizeName)
    {
        var (rank, size) = (v.Number(rankName, 0), v.Number(sizeName, 1));
        if (rank is null || size is null)
        {
            var (there, missing) = rank is null ? (sizeName, rankName) : (rankName, sizeName);
            throw Wrong($"{v.Show(there)} without {missing}: {launcher} sets both; for one process unset it");
        }

        // a launcher that says nothing of nodes is taken to use one
        var (localRank, localSize) = (v.Number(localRankName, 0) ?? rank, v.Number(localSizeName, 1) ?? size);
        if (rank >= size || localRank >= localSize || localSize > size)
        {
            throw Wrong(
                $"{rankName}={rank}, {sizeName}={size}, {localRankName}={localRank} and {localSizeName}={localSize} do not fit together");
        }

        var oneNode = localSize == size;
        var (address, port) = Master(v, oneNode ? Loopback : null, v.Text("PMIX_NAMESPACE") is { } job ? PortOf(job) : 0);
        return new RankEnvironment(launcher, rank.Value, size.Value, localRank.Value, localSize.Value, address, port);
    }

    private static bool IsTask(Variables v) =>
        v.Has("SLURM_STEP_NUM_TASKS") && v.Has("SLURM_PROCID") && !v.Has("SLURM_PTY_PORT") && !v.Has("SLURM_PTY_WIN_COL");

    private static (int Rank, int Size)? SlurmRank(Variables v) => IsTask(v) ? v.Pair("SLURM_PROCID", "SLURM_STEP_NUM_TASKS") : null;

    /// <summary>A task of an srun step; null in a batch script, in an salloc shell and in a terminal of srun --pty, which run one
    /// process.</summary>
    private static RankEnvironment? Slurm(Variables v)
    {
        if (!IsTask(v))
        {
            return null;
        }

        var (rank, size) = (v.Number("SLURM_PROCID", 0)!.Value, v.Number("SLURM_STEP_NUM_TASKS", 1)!.Value);
        if (rank >= size)
        {
            throw Wrong($"SLURM_PROCID={rank} of SLURM_STEP_NUM_TASKS={size}: this is no task of that step");
        }

        var nodes = v.Number("SLURM_STEP_NUM_NODES", 1) ?? 1;
        var localRank = v.Number("SLURM_LOCALID", 0) ?? (nodes == 1 ? rank : throw Wrong(
            "SLURM_PROCID without SLURM_LOCALID: nothing says which GPU is this rank's"));
        var localSize = nodes == 1 ? size : TasksOfNode(v, nodes);
        if (localRank >= localSize || localSize > size)
        {
            throw Wrong(
                $"SLURM_LOCALID={localRank} of {localSize} task(s) on this node, of SLURM_STEP_NUM_TASKS={size}: they do not fit together");
        }

        var job = $"{v.Text("SLURM_JOB_ID")}.{v.Text("SLURM_STEP_ID")}";
        var (address, port) = Master(v, nodes == 1 ? Loopback : FirstNode(v), PortOf(job));
        return new RankEnvironment("Slurm", rank, size, localRank, localSize, address, port);
    }

    private static string FirstNode(Variables v)
    {
        const string Name = "SLURM_STEP_NODELIST";
        try
        {
            return Hostlist.Expand(v.Text(Name) ?? throw Wrong($"SLURM_PROCID without {Name}: nothing says where rank 0 is"))[0];
        }
        catch (FormatException e)
        {
            throw Wrong($"{Name}: {e.Message}");
        }
    }

    /// <summary>SLURM_STEP_TASKS_PER_NODE, <c>4(x2),1</c>, at SLURM_NODEID.</summary>
    private static int TasksOfNode(Variables v, int nodes)
    {
        const string Name = "SLURM_STEP_TASKS_PER_NODE";
        var node = v.Number("SLURM_NODEID", 0);
        if (node is null || !v.Has(Name))
        {
            throw Wrong(
                $"a step on {nodes} nodes without {(node is null ? "SLURM_NODEID" : Name)}: nothing says how many ranks share this node");
        }

        foreach (var item in v.Text(Name)!.Split(','))
        {
            var open = item.IndexOf("(x", StringComparison.Ordinal);
            var times = 1;
            if (!int.TryParse(open < 0 ? item : item[..open], NumberStyles.None, CultureInfo.InvariantCulture, out var tasks)
                || (open >= 0 && (!item.EndsWith(')')
                    || !int.TryParse(item[(open + 2)..^1], NumberStyles.None, CultureInfo.InvariantCulture, out times))))
            {
                throw Wrong($"{v.Show(Name)}: '{item}' is no number of tasks");
            }

            if (node < times)
            {
                return tasks;
            }

            node -= times;
        }

        throw Wrong($"{v.Show("SLURM_NODEID")} is outside {v.Show(Name)}");
    }

    private static RankEnvironment? Kubernetes(Variables v)
    {
        var isTrainJob = v.Has("PET_NNODES") && v.Has("PET_NODE_RANK");
        var (rankName, sizeName) = isTrainJob ? ("PET_NODE_RANK", "PET_NNODES") : ("JOB_COMPLETION_INDEX", "WORLD_SIZE");
        if (!v.Has(rankName) || !v.Has(sizeName))
        {
            return null;                                           // an index alone is an Indexed Job of independent pods
        }

        var (rank, size) = (v.Number(rankName, 0)!.Value, v.Number(sizeName, 1)!.Value);
        if (rank >= size)
        {
            throw Wrong($"{rankName}={rank} of {sizeName}={size}: ranks go from 0 to {size - 1}");
        }

        if (isTrainJob && v.Number("PET_NPROC_PER_NODE", 1, alsoWords: true) > 1)
        {
            throw Wrong(
                $"{v.Show("PET_NPROC_PER_NODE")}, but this is one process of its pod: give each pod one GPU, or start 'torchrun "
                + "--no-python z1 train …'");
        }

        var (address, port) = Master(v, v.Text("PET_MASTER_ADDR"), v.Number("PET_MASTER_PORT", 1) ?? 0);
        return size == 1 || (address is not null && port > 0)
            ? new RankEnvironment("Kubernetes", rank, size, 0, 1, address, port)
            : throw Wrong(
                $"{rankName}={rank} and {sizeName}={size} without {(address is null ? "MASTER_ADDR" : "MASTER_PORT")}: nothing says "
                + "where rank 0 listens");
    }

    /// <summary>RANK and WORLD_SIZE that something exported to every task alike would make all ranks the same one.</summary>
    private static void Agree(int rank, int size, string launcher, (int Rank, int Size)? launched)
    {
        if (launched is { } l && l.Size == size && l.Rank != rank)
        {
            throw Wrong(
                $"RANK={rank} of WORLD_SIZE={size}, but {launcher} says rank {l.Rank} of {l.Size}: unset RANK and WORLD_SIZE, or make "
                + "them agree");
        }
    }

    private bool Is((int Rank, int Size)? other) => other == (Rank, Size);

    private static (string? Address, int Port) Master(Variables v, string? address, int port)
    {
        var given = v.Number("MASTER_PORT", 1);
        return given > ushort.MaxValue
            ? throw Wrong($"MASTER_PORT={given}: ports go to {ushort.MaxValue}")
            : (v.Text("MASTER_ADDR") ?? address, given ?? port);
    }

    /// <summary>The same port on every rank, another one for another job (FNV-1a, 32 bits, of its name).</summary>
    private static int PortOf(string job)
    {
        var hash = 2166136261u;
        foreach (var c in job)
        {
            hash = (hash ^ c) * 16777619u;
        }

        return FirstPort + (int)(hash % Ports);
    }

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);

    private static CollectiveException Wrong(string sentence) => new(sentence);

    private readonly struct Variables(IReadOnlyDictionary<string, string> values)
    {
        public string? Text(string name) =>
            values.TryGetValue(name, out var value) && !string.IsNullOrWhiteSpace(value) ? value.Trim() : null;

        public bool Has(string name) => Text(name) is not null;

        public string Show(string name) => $"{name}={Text(name)}";

        /// <summary>Null where either is not set.</summary>
        public (int Rank, int Size)? Pair(string rank, string size) => Number(rank, 0) is { } r && Number(size, 1) is { } s ? (r, s) : null;

        public bool Truth(string name) =>
            Text(name) is { } text && (text == "1" || text.Equals("true", StringComparison.OrdinalIgnoreCase));

        /// <summary>Null when not set. PET_NPROC_PER_NODE may be a word (auto, gpu, cpu), which counts as not set.</summary>
        public int? Number(string name, int minimum, bool alsoWords = false)
        {
            if (Text(name) is not { } text)
            {
                return null;
            }

            if (!int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number))
            {
                return alsoWords ? null : throw Wrong($"{name}={text}: must be a number");
            }

            return number >= minimum ? number : throw Wrong($"{name}={number}: must be at least {minimum}");
        }
    }
}
