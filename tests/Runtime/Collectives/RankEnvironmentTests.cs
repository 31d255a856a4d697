using Xunit;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Runtime.Collectives;

/// <summary>Environments as launchers set them, what a leftover variable must not do, and what is refused by name.</summary>
public sealed class RankEnvironmentTests
{
    private const string TorchRun = "RANK=5 WORLD_SIZE=8 LOCAL_RANK=1 LOCAL_WORLD_SIZE=4 MASTER_ADDR=node0 MASTER_PORT=29500 TORCHELASTIC_RUN_ID=none";
    private const string OpenMpi = "OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_LOCAL_RANK=1 OMPI_COMM_WORLD_LOCAL_SIZE=2 PMIX_RANK=1 PMIX_NAMESPACE=2834563073";
    private const string Srun = "SLURM_JOB_ID=7 SLURM_STEP_ID=0 SLURM_PROCID=5 SLURM_NTASKS=7 SLURM_STEP_NUM_TASKS=7 SLURM_LOCALID=1 SLURM_NODEID=2 "
        + "SLURM_STEP_NUM_NODES=4 SLURM_STEP_NODELIST=gpu[03-05,7] SLURM_STEP_TASKS_PER_NODE=2(x3),1";

    [Theory]
    [InlineData("", "none", 0, 1, 0, 1, null)]
    [InlineData("PATH=x RANK= WORLD_SIZE=", "none", 0, 1, 0, 1, null)]                                    // empty is not set
    [InlineData("MASTER_ADDR=node0 MASTER_PORT=29500", "none", 0, 1, 0, 1, null)]                         // left over from a profile
    [InlineData("WORLD_SIZE=1", "none", 0, 1, 0, 1, null)]
    [InlineData("JOB_COMPLETION_INDEX=3", "none", 0, 1, 0, 1, null)]                                       // an Indexed Job of independent pods
    [InlineData(TorchRun, "torchrun", 5, 8, 1, 4, "node0")]
    [InlineData("RANK=0 WORLD_SIZE=1", "environment", 0, 1, 0, 1, null)]
    [InlineData("RANK=0 WORLD_SIZE=1 LOCAL_RANK=0", "environment", 0, 1, 0, 1, null)]
    [InlineData("RANK=2 WORLD_SIZE=3 MASTER_ADDR=m-0 MASTER_PORT=23456 PET_NPROC_PER_NODE=auto", "environment", 2, 3, 0, 1, "m-0")]     // PyTorchJob
    [InlineData(OpenMpi, "Open MPI", 1, 2, 1, 2, "127.0.0.1")]
    [InlineData("OMPI_COMM_WORLD_RANK=3 OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_LOCAL_RANK=1 OMPI_COMM_WORLD_LOCAL_SIZE=2", "Open MPI", 3, 4, 1, 2, null)]
    [InlineData("PMI_RANK=1 PMI_SIZE=2 MPI_LOCALRANKID=1 MPI_LOCALNRANKS=2", "PMI", 1, 2, 1, 2, "127.0.0.1")]                         // MPICH's hydra
    [InlineData("PMI_RANK=3 PMI_SIZE=4 MPI_LOCALRANKID=0 MPI_LOCALNRANKS=1 MASTER_ADDR=n0 MASTER_PORT=1234", "PMI", 3, 4, 0, 1, "n0")]
    [InlineData("PMIX_RANK=1 WORLD_SIZE=2", "PMIx", 1, 2, 1, 2, "127.0.0.1")]
    [InlineData(Srun, "Slurm", 5, 7, 1, 2, "gpu03")]
    [InlineData(Srun + " MASTER_ADDR=other", "Slurm", 5, 7, 1, 2, "other")]
    [InlineData(Srun + " WORLD_SIZE=7", "Slurm", 5, 7, 1, 2, "gpu03")]
    [InlineData(Srun + " LOCAL_RANK=0", "Slurm", 5, 7, 1, 2, "gpu03")]
    [InlineData(Srun + " PMI_RANK=5 PMI_SIZE=7", "Slurm", 5, 7, 1, 2, "gpu03")]                            // srun --mpi=pmi2
    [InlineData("SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2 SLURM_LOCALID=1 SLURM_STEP_NUM_NODES=1 SLURM_STEP_NODELIST=n", "Slurm", 1, 2, 1, 2, "127.0.0.1")]
    [InlineData("SLURM_JOB_ID=7 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 SLURM_NTASKS=16", "none", 0, 1, 0, 1, null)]                // the batch script itself
    [InlineData("SLURM_JOB_ID=7 SLURM_NTASKS=16 SLURM_NNODES=2", "none", 0, 1, 0, 1, null)]               // a shell of salloc
    [InlineData(Srun + " SLURM_PTY_PORT=45001 SLURM_PTY_WIN_COL=80", "none", 0, 1, 0, 1, null)]           // srun --pty bash
    [InlineData("SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=1 SLURM_LOCALID=0", "Slurm", 0, 1, 0, 1, "127.0.0.1")]                             // plain srun
    [InlineData("PET_NNODES=4 PET_NODE_RANK=2 PET_NPROC_PER_NODE=1 PET_MASTER_ADDR=j-0 PET_MASTER_PORT=29400 JOB_COMPLETION_INDEX=2", "Kubernetes", 2, 4, 0, 1, "j-0")]
    [InlineData("JOB_COMPLETION_INDEX=1 WORLD_SIZE=2 MASTER_ADDR=z1-0.z1 MASTER_PORT=29400", "Kubernetes", 1, 2, 0, 1, "z1-0.z1")]
    public void Launchers_are_understood(string set, string launcher, int rank, int size, int localRank, int localSize, string? master)
    {
        var found = RankEnvironment.Detect(Variables(set));
        Assert.Equal((launcher, rank, size, localRank, localSize, master),
            (found.Launcher, found.Rank, found.Size, found.LocalRank, found.LocalSize, found.MasterAddress));
        Assert.Equal(launcher is "Open MPI" or "PMI" or "PMIx", found.UnderMpi);
    }

    /// <summary>What runs inside something else decides: torchrun under srun, mpirun in an sbatch script or over srun, z1 launch in all.</summary>
    [Theory]
    [InlineData(TorchRun + " SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2 SLURM_LOCALID=0 SLURM_STEP_NUM_NODES=2", "torchrun", 5)]
    [InlineData("RANK=1 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=1 TORCHELASTIC_RUN_ID=j SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=2 SLURM_LOCALID=0", "torchrun", 1)]
    [InlineData(OpenMpi + " SLURM_JOB_ID=7 SLURM_PROCID=0 SLURM_NTASKS=16", "Open MPI", 1)]
    [InlineData("PMI_RANK=3 PMI_SIZE=4 SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2 SLURM_LOCALID=0", "PMI", 3)]
    [InlineData("Z1_LAUNCH=99 RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 MASTER_ADDR=l MASTER_PORT=2 OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=2", "z1 launch", 1)]
    [InlineData("RANK=1 WORLD_SIZE=7 MASTER_ADDR=a MASTER_PORT=1 SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=7 SLURM_LOCALID=1 SLURM_STEP_NUM_NODES=1", "environment", 1)]
    public void The_inner_launcher_decides(string set, string launcher, int rank)
    {
        var found = RankEnvironment.Detect(Variables(set));
        Assert.Equal((launcher, rank), (found.Launcher, found.Rank));
    }

    [Theory]
    [InlineData("RANK=0", "RANK=0 without WORLD_SIZE")]
    [InlineData("WORLD_SIZE=4", "WORLD_SIZE=4 without RANK")]
    [InlineData("LOCAL_RANK=1", "LOCAL_RANK=1 without RANK and WORLD_SIZE")]
    [InlineData("RANK=0 WORLD_SIZE=2", "without MASTER_ADDR")]
    [InlineData("RANK=0 WORLD_SIZE=2 MASTER_ADDR=a", "without MASTER_PORT")]
    [InlineData("RANK=2 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=1", "RANK=2 of WORLD_SIZE=2")]
    [InlineData("RANK=-1 WORLD_SIZE=2", "RANK=-1: must be a number")]
    [InlineData("RANK=one WORLD_SIZE=2", "RANK=one: must be a number")]
    [InlineData("RANK=0 WORLD_SIZE=0", "WORLD_SIZE=0: must be at least 1")]
    [InlineData("RANK=0 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=70000", "MASTER_PORT=70000")]
    [InlineData("RANK=0 WORLD_SIZE=2 LOCAL_RANK=0 MASTER_ADDR=a MASTER_PORT=1", "LOCAL_RANK=0 without LOCAL_WORLD_SIZE")]
    [InlineData("RANK=0 WORLD_SIZE=2 LOCAL_WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=1", "LOCAL_WORLD_SIZE=2 without LOCAL_RANK")]
    [InlineData("RANK=0 WORLD_SIZE=2 LOCAL_RANK=2 LOCAL_WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=1", "LOCAL_RANK=2, LOCAL_WORLD_SIZE=2 and WORLD_SIZE=2")]
    [InlineData("RANK=0 WORLD_SIZE=2 LOCAL_RANK=0 LOCAL_WORLD_SIZE=4 MASTER_ADDR=a MASTER_PORT=1", "do not fit together")]
    [InlineData("RANK=0 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=1 PET_NPROC_PER_NODE=4", "PET_NPROC_PER_NODE=4")]
    [InlineData("OMPI_COMM_WORLD_RANK=0", "OMPI_COMM_WORLD_RANK=0 without OMPI_COMM_WORLD_SIZE")]
    [InlineData("PMI_SIZE=2", "PMI_SIZE=2 without PMI_RANK")]
    [InlineData("PMIX_RANK=1", "PMIX_RANK=1 without WORLD_SIZE")]
    [InlineData("OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=2", "OMPI_COMM_WORLD_RANK=2, OMPI_COMM_WORLD_SIZE=2")]
    [InlineData(OpenMpi + " WORLD_SIZE=4", "WORLD_SIZE=4, but Open MPI started 2")]
    [InlineData(Srun + " WORLD_SIZE=2", "WORLD_SIZE=2, but Slurm started 7")]
    [InlineData(OpenMpi + " RANK=0 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=1", "RANK=0 of WORLD_SIZE=2, but Open MPI says rank 1")]     // exported to all alike
    [InlineData(Srun + " RANK=0 WORLD_SIZE=7 MASTER_ADDR=a MASTER_PORT=1", "RANK=0 of WORLD_SIZE=7, but Slurm says rank 5")]
    [InlineData("SLURM_PROCID=3 SLURM_STEP_NUM_TASKS=2", "SLURM_PROCID=3 of SLURM_STEP_NUM_TASKS=2")]
    [InlineData("SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=4 SLURM_LOCALID=1 SLURM_STEP_NUM_NODES=2 SLURM_STEP_NODELIST=n[1-2]", "without SLURM_NODEID")]
    [InlineData("SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=4 SLURM_LOCALID=1 SLURM_STEP_NUM_NODES=2 SLURM_NODEID=0 SLURM_STEP_NODELIST=n[1-2]", "without SLURM_STEP_TASKS_PER_NODE")]
    [InlineData("SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=4 SLURM_LOCALID=1 SLURM_STEP_NUM_NODES=2 SLURM_NODEID=0 SLURM_STEP_TASKS_PER_NODE=2(x2)", "without SLURM_STEP_NODELIST")]
    [InlineData("SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=4 SLURM_LOCALID=1 SLURM_STEP_NUM_NODES=2 SLURM_NODEID=0 SLURM_STEP_TASKS_PER_NODE=2(y2)", "'2(y2)' is no number of tasks")]
    [InlineData("SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=4 SLURM_LOCALID=1 SLURM_STEP_NUM_NODES=2 SLURM_NODEID=2 SLURM_STEP_TASKS_PER_NODE=2(x2)", "SLURM_NODEID=2 is outside")]
    [InlineData("SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=4 SLURM_LOCALID=1 SLURM_STEP_NUM_NODES=2 SLURM_NODEID=0 SLURM_STEP_TASKS_PER_NODE=2(x2) SLURM_STEP_NODELIST=n[1", "brackets do not match")]
    [InlineData("JOB_COMPLETION_INDEX=0 WORLD_SIZE=2", "without MASTER_ADDR")]
    [InlineData("JOB_COMPLETION_INDEX=2 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=1", "JOB_COMPLETION_INDEX=2 of WORLD_SIZE=2")]
    [InlineData("PET_NNODES=2 PET_NODE_RANK=0 PET_NPROC_PER_NODE=8 PET_MASTER_ADDR=a PET_MASTER_PORT=1", "PET_NPROC_PER_NODE=8")]
    public void Halves_and_contradictions_are_one_sentence_that_names_them(string set, string part)
    {
        var message = Assert.Throws<CollectiveException>(() => RankEnvironment.Detect(Variables(set))).Message;
        Assert.Contains(part, message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', message);
    }

    [Fact]
    public void The_port_is_the_same_for_all_ranks_and_another_one_for_another_job_or_step()
    {
        int Port(string set) => RankEnvironment.Detect(Variables(set)).MasterPort;
        var port = Port(Srun);
        Assert.InRange(port, 12_000, 31_999);
        Assert.Equal(port, Port(Srun.Replace("PROCID=5", "PROCID=4", StringComparison.Ordinal).Replace("LOCALID=1", "LOCALID=0", StringComparison.Ordinal)));
        Assert.NotEqual(port, Port(Srun.Replace("JOB_ID=7", "JOB_ID=8", StringComparison.Ordinal)));
        Assert.NotEqual(port, Port(Srun.Replace("STEP_ID=0", "STEP_ID=1", StringComparison.Ordinal)));
        Assert.Equal(29501, Port(Srun + " MASTER_PORT=29501"));
        Assert.InRange(Port(OpenMpi), 12_000, 31_999);
        Assert.Equal(0, Port("PMI_RANK=1 PMI_SIZE=2"));                     // nothing names the job: rank 0's port is not known
    }

    [Theory]
    [InlineData("", 29500)]
    [InlineData(" TORCHELASTIC_USE_AGENT_STORE=False", 29500)]
    [InlineData(" TORCHELASTIC_USE_AGENT_STORE=True", 29501)]
    public void The_port_of_torchruns_agent_is_left_to_it(string more, int port) =>
        Assert.Equal(port, RankEnvironment.Detect(Variables(TorchRun + more)).MasterPort);

    [Fact]
    public void What_z1_launch_gives_its_children_is_what_they_read()
    {
        var found = RankEnvironment.Detect(RankEnvironment.ForChild(99, 2, 3, 23456, "token"));
        Assert.Equal(("z1 launch", 2, 3, 2, 3, "127.0.0.1", 23456),
            (found.Launcher, found.Rank, found.Size, found.LocalRank, found.LocalSize, found.MasterAddress, found.MasterPort));
    }

    [Theory]
    [InlineData("n1", "n1")]
    [InlineData("gpu[01-03,7],login2", "gpu01 gpu02 gpu03 gpu7 login2")]
    [InlineData("gpu[08-11]", "gpu08 gpu09 gpu10 gpu11")]
    [InlineData("a-b[1-2]-x", "a-b1-x a-b2-x")]
    [InlineData("r[1-2]n[1,3]", "r1n1 r1n3 r2n1 r2n3")]
    [InlineData("n[5]", "n5")]
    public void Host_lists_are_expanded(string list, string hosts) => Assert.Equal(hosts.Split(' '), Hostlist.Expand(list));

    [Theory]
    [InlineData("")]
    [InlineData("a,,b")]
    [InlineData("a[1-2")]
    [InlineData("a1-2]")]
    [InlineData("a[[1]]")]
    [InlineData("a[]")]
    [InlineData("a[3-1]")]
    [InlineData("a[1-x]")]
    [InlineData("a[0-99999999]")]
    public void What_is_no_host_list_is_refused(string list) => Assert.Throws<FormatException>(() => Hostlist.Expand(list));

    private static Dictionary<string, string> Variables(string set) => set.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(p => p.Split('=', 2))
        .GroupBy(p => p[0]).ToDictionary(g => g.Key, g => g.Last()[1]);
}
