using System.CommandLine;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Cli;

/// <summary>The --device option: where a verb runs.</summary>
internal static class Devices
{
    private const string Search = "Z1_GEMM_SEARCH", Visible = "CUDA_VISIBLE_DEVICES", Cpu = "cpu";

    public static Option<string> Option()
    {
        var option = new Option<string>("--device")
        {
            Description = "cpu, cuda (this rank's GPU; cuda:1 for the second), or hostcuda (the CUDA code on this CPU: slow, for checking)",
            DefaultValueFactory = _ => Cpu,
        };
        option.Validators.Add(result =>
        {
            if (result.Tokens.Count > 0 && !ComputeStream.IsDeviceName(result.Tokens[0].Value))
            {
                result.AddError($"--device {result.Tokens[0].Value}: must be cpu, cuda, cuda:N or hostcuda");
            }
        });
        return option;
    }

    /// <summary>A backend that cannot move the memory of the device is bad usage.</summary>
    public static void Agree(Command command, Option<string> device, Option<string> backend) => command.Validators.Add(result =>
    {
        var name = result.GetValue(device) ?? Cpu;              // null where it is not given: a default comes after the validators
        if (RankWorld.Refusal(result.GetValue(backend) ?? "auto", name != Cpu, name) is { } sentence)
        {
            result.AddError(sentence);
        }
    });

    /// <summary>The stream of a device; disposing it gives the device back.</summary>
    public static ComputeStream Open(string name) => Tuned(ComputeStream.Open(name));

    /// <summary>The stream of this rank: with cuda the GPU of its number on the node, with cpu its share of the cores.</summary>
    /// <param name="name">as given with --device</param>
    /// <param name="ranks">which rank this is</param>
    /// <param name="threads">of the CPU; 0 for the share</param>
    public static ComputeStream Open(string name, RankEnvironment ranks, int threads) => name switch
    {
        Cpu => new CpuStream(threads > 0 ? threads : Share(ranks, Environment.ProcessorCount, OnlineCores())),
        "cuda" when ranks.LocalSize > 1 && !HasOneDeviceOfItsOwn(Environment.GetEnvironmentVariable(Visible)) =>
            Open($"cuda:{ranks.LocalRank}"),
        _ => Open(name),
    };

    /// <summary>Cores for a rank: those that it may use, which the ranks of a node share unless srun or mpirun has bound each to cores of
    /// its own.</summary>
    /// <param name="ranks">how many there are on this node, and who started them</param>
    /// <param name="allowed">cores that this process may use</param>
    /// <param name="online">cores of the machine</param>
    internal static int Share(RankEnvironment ranks, int allowed, int online)
    {
        var bound = (ranks.UnderMpi || ranks.Launcher == "Slurm") && (long)allowed * ranks.LocalSize <= online;
        return bound ? allowed : Math.Max(1, allowed / ranks.LocalSize);
    }

    /// <summary>A launcher may show each rank one GPU: that is then number 0 for all.</summary>
    internal static bool HasOneDeviceOfItsOwn(string? visible) =>
        !string.IsNullOrWhiteSpace(visible) && !visible.Contains(',', StringComparison.Ordinal);

    private static int OnlineCores()
    {
        const string Path = "/proc/cpuinfo";
        return File.Exists(Path) ? File.ReadLines(Path).Count(l => l.StartsWith("processor", StringComparison.Ordinal)) : 0;
    }

    private static ComputeStream Tuned(ComputeStream stream)
    {
        if (stream is CudaStream && Environment.GetEnvironmentVariable(Search) == "1")
        {
            Matmul.Tuning = new MatmulTuning { Search = true, CacheDirectory = Matmul.DefaultCacheDirectory };
        }

        return stream;
    }
}
